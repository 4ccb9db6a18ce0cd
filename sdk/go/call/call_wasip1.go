package call

import (
	"runtime"
	"unsafe"

	"mote.dev/function/internal/abi"
)

// handle is a handle of the host, 0 when it is gone.
type handle uint32

// lowered is a request as the host reads it: the words of its five fields.
type lowered struct {
	text    [3]string
	headers []byte
	pairs   [][2]string
	body    []byte
}

func lower(request *Request) *lowered {
	method, pairs := request.plain()
	return &lowered{
		text:    [3]string{request.Function, method, request.Target},
		headers: abi.Lower(pairs),
		pairs:   pairs,
		body:    request.Body,
	}
}

type lowerFunc func(
	function *byte, functionLength uint32, method *byte, methodLength uint32, target *byte, targetLength uint32,
	headers *byte, headersLength uint32, body *byte, bodyLength uint32, area unsafe.Pointer,
)

// pass calls one of the host's functions with a request.
func (l *lowered) pass(function lowerFunc, area *abi.Area) {
	function(
		unsafe.StringData(l.text[0]), uint32(len(l.text[0])),
		unsafe.StringData(l.text[1]), uint32(len(l.text[1])),
		unsafe.StringData(l.text[2]), uint32(len(l.text[2])),
		unsafe.SliceData(l.headers), uint32(len(l.pairs)),
		unsafe.SliceData(l.body), uint32(len(l.body)),
		area.Pointer(),
	)
	// The records of the headers have addresses that the collector does not see.
	runtime.KeepAlive(l)
}

func invoke(request Request) (*Reply, error) {
	var area abi.Area
	lower(&request).pass(callInvoke, &area)
	return reply(&area)
}

func start(request Request) (*Pending, error) {
	var area abi.Area
	lower(&request).pass(callStart, &area)
	if err := failure(&area); err != nil {
		return nil, err
	}
	return &Pending{handle(area.U32(4))}, nil
}

func spawn(request Request) (string, error) {
	var area abi.Area
	lower(&request).pass(callSpawn, &area)
	if err := failure(&area); err != nil {
		return "", err
	}
	defer abi.Taken()
	return area.String(4), nil
}

func (h *handle) wait() (*Reply, error) {
	if *h == 0 {
		return nil, &Error{BadRequest, "this call was waited for already"}
	}
	defer h.drop()
	var area abi.Area
	pendingWait(uint32(*h), area.Pointer())
	return reply(&area)
}

func (h *handle) drop() {
	if *h != 0 {
		pendingDrop(uint32(*h))
		*h = 0
	}
}

// reply reads a result<reply, error>.
func reply(area *abi.Area) (*Reply, error) {
	if err := failure(area); err != nil {
		return nil, err
	}
	defer abi.Taken()
	return &Reply{Status: int(area.U16(4)), Header: headerOf(area.Pairs(8)), Body: area.Bytes(16)}, nil
}

// failure reads the err of a result, if it is one.
func failure(area *abi.Area) error {
	if area.U8(0) == 0 {
		return nil
	}
	defer abi.Taken()
	return &Error{Kind(area.U8(4)), area.String(8)}
}

//go:wasmimport mote:function/call@0.1.1 invoke
func callInvoke(
	function *byte, functionLength uint32, method *byte, methodLength uint32, target *byte, targetLength uint32,
	headers *byte, headersLength uint32, body *byte, bodyLength uint32, area unsafe.Pointer,
)

//go:wasmimport mote:function/call@0.1.1 start
func callStart(
	function *byte, functionLength uint32, method *byte, methodLength uint32, target *byte, targetLength uint32,
	headers *byte, headersLength uint32, body *byte, bodyLength uint32, area unsafe.Pointer,
)

//go:wasmimport mote:function/call@0.1.1 spawn
func callSpawn(
	function *byte, functionLength uint32, method *byte, methodLength uint32, target *byte, targetLength uint32,
	headers *byte, headersLength uint32, body *byte, bodyLength uint32, area unsafe.Pointer,
)

//go:wasmimport mote:function/call@0.1.1 [method]pending.wait
func pendingWait(pending uint32, area unsafe.Pointer)

//go:wasmimport mote:function/call@0.1.1 [resource-drop]pending
func pendingDrop(pending uint32)
