package function

import (
	"fmt"
	"io"
	"net/http"
	"unsafe"

	"mote.dev/function/internal/abi"
	"mote.dev/function/internal/fresh"
)

var (
	handler http.Handler
	// result is read by the host after handle has returned, and stays until the next call.
	result abi.Result
)

func begin(with http.Handler) { handler = with }

func init() { fresh.Warm = warm }

// warm serves a call that never was, so that what packages set up when they are first used, and memory for things of
// usual sizes, is there in the snapshot. It takes a third of the pages that a call touches.
func warm() {
	echo := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		fmt.Fprintf(w, "%s %v", r.URL.Path, r.URL.Query())
		io.Copy(w, r.Body)
	}
	serve(http.HandlerFunc(echo), call{
		method: http.MethodPost,
		path:   "/path",
		query:  "name=value",
		headers: [][2]string{
			{"host", "localhost"}, {"user-agent", "none"}, {"accept", "*/*"}, {"content-type", "text/plain"},
		},
		body: []byte("body"),
	})
}

// handle serves one call.
//
//go:wasmexport handle
func handle(address unsafe.Pointer, length uint32) unsafe.Pointer {
	body := abi.Argument(address, length)
	defer abi.Returned()
	fresh.Begin()
	if handler == nil {
		result.Set([]byte("main did not call function.Handle"), true)
		return unsafe.Pointer(&result)
	}
	answer, err := serve(handler, incoming(body))
	if err != nil {
		result.Set([]byte(err.Error()), true)
		return unsafe.Pointer(&result)
	}
	outgoing(&answer)
	result.Set(answer.body, false)
	return unsafe.Pointer(&result)
}

func incoming(body []byte) call {
	defer abi.Taken()
	call := call{body: body}
	var area abi.Area
	requestMethod(area.Pointer())
	call.method = area.String(0)
	requestPath(area.Pointer())
	call.path = area.String(0)
	requestQuery(area.Pointer())
	if area.U8(0) != 0 {
		call.query = area.String(4)
	}
	requestHeaders(area.Pointer())
	call.headers = area.Pairs(0)
	return call
}

func outgoing(answer *answer) {
	if answer.status != http.StatusOK {
		responseSetStatus(uint32(answer.status))
	}
	for _, pair := range answer.headers {
		name, value := pair[0], pair[1]
		responseSetHeader(unsafe.StringData(name), uint32(len(name)), unsafe.StringData(value), uint32(len(value)))
	}
}

func id() string {
	defer abi.Taken()
	var area abi.Area
	requestID(area.Pointer())
	return area.String(0)
}

func publish() { responsePublish() }

func writeLog(level Level, message string) {
	logLog(uint32(min(level, Error)), unsafe.StringData(message), uint32(len(message)))
}

//go:wasmimport mote:function/request@0.1.1 method
func requestMethod(area unsafe.Pointer)

//go:wasmimport mote:function/request@0.1.1 path
func requestPath(area unsafe.Pointer)

//go:wasmimport mote:function/request@0.1.1 query
func requestQuery(area unsafe.Pointer)

//go:wasmimport mote:function/request@0.1.1 headers
func requestHeaders(area unsafe.Pointer)

//go:wasmimport mote:function/request@0.1.1 id
func requestID(area unsafe.Pointer)

//go:wasmimport mote:function/response@0.1.1 set-status
func responseSetStatus(status uint32)

//go:wasmimport mote:function/response@0.1.1 set-header
func responseSetHeader(name *byte, length uint32, value *byte, valueLength uint32)

//go:wasmimport mote:function/response@0.1.1 publish
func responsePublish()

//go:wasmimport mote:function/log@0.1.1 log
func logLog(level uint32, message *byte, length uint32)
