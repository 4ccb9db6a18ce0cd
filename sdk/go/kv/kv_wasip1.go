package kv

import (
	"errors"
	"unsafe"

	"mote.dev/function/internal/abi"
)

// bucketHandle is a handle of the host. Handles are dropped with the memory of the call.
type bucketHandle uint32

func open(name string) (bucketHandle, error) {
	var area abi.Area
	storeOpen(unsafe.StringData(name), uint32(len(name)), area.Pointer())
	if err := result(&area, 4); err != nil {
		return 0, err
	}
	return bucketHandle(area.U32(4)), nil
}

func (b bucketHandle) get(key string) ([]byte, bool, error) {
	var area abi.Area
	bucketGet(uint32(b), unsafe.StringData(key), uint32(len(key)), area.Pointer())
	return optional(&area)
}

// optional reads a result<option<list<u8>>, error>.
func optional(area *abi.Area) ([]byte, bool, error) {
	if err := result(area, 4); err != nil {
		return nil, false, err
	}
	if area.U8(4) == 0 {
		return nil, false, nil
	}
	defer abi.Taken()
	return area.Bytes(8), true, nil
}

func (b bucketHandle) set(key string, value []byte) error {
	var area abi.Area
	bucketSet(uint32(b), unsafe.StringData(key), uint32(len(key)),
		unsafe.SliceData(value), uint32(len(value)), area.Pointer())
	return result(&area, 4)
}

func (b bucketHandle) delete(key string) error {
	var area abi.Area
	bucketDelete(uint32(b), unsafe.StringData(key), uint32(len(key)), area.Pointer())
	return result(&area, 4)
}

func (b bucketHandle) exists(key string) (bool, error) {
	var area abi.Area
	bucketExists(uint32(b), unsafe.StringData(key), uint32(len(key)), area.Pointer())
	return area.U8(4) != 0, result(&area, 4)
}

func (b bucketHandle) increment(key string, by int64) (int64, error) {
	var area abi.Area
	atomicsIncrement(uint32(b), unsafe.StringData(key), uint32(len(key)), by, area.Pointer())
	return int64(area.U64(8)), result(&area, 8)
}

func (b bucketHandle) keys(cursor string) ([]string, string, error) {
	var area abi.Area
	some := uint32(0)
	if cursor != "" {
		some = 1
	}
	bucketListKeys(uint32(b), some, unsafe.StringData(cursor), uint32(len(cursor)), area.Pointer())
	if err := result(&area, 4); err != nil {
		return nil, "", err
	}
	defer abi.Taken()
	keys, next := area.Strings(4), ""
	if area.U8(12) != 0 {
		next = area.String(16)
	}
	return keys, next, nil
}

func (b bucketHandle) update(key string, change func([]byte) ([]byte, error)) (bool, error) {
	var area abi.Area
	casNew(uint32(b), unsafe.StringData(key), uint32(len(key)), area.Pointer())
	if err := result(&area, 4); err != nil {
		return false, err
	}
	cas := area.U32(4)
	area = abi.Area{}
	casCurrent(cas, area.Pointer())
	old, _, err := optional(&area)
	if err == nil {
		var value []byte
		if value, err = change(old); err == nil {
			area = abi.Area{}
			atomicsSwap(cas, unsafe.SliceData(value), uint32(len(value)), area.Pointer())
			return swapped(&area)
		}
	}
	casDrop(cas)
	return false, err
}

// swapped reads a result<_, cas-error>.
func swapped(area *abi.Area) (bool, error) {
	const storeError = 0
	switch {
	case area.U8(0) == 0:
		return true, nil
	case area.U8(4) == storeError:
		return false, failure(area, 8)
	default:
		// It comes with a handle to try again, but a new look does as well.
		casDrop(area.U32(8))
		return false, nil
	}
}

// result reads whether it is an error, whose payload then begins at an offset.
func result(area *abi.Area, at int) error {
	if area.U8(0) == 0 {
		return nil
	}
	return failure(area, at)
}

func failure(area *abi.Area, at int) error {
	switch area.U8(at) {
	case 0:
		return ErrNoSuchStore
	case 1:
		return ErrDenied
	default:
		defer abi.Taken()
		return errors.New(area.String(at + 4))
	}
}

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 open
func storeOpen(name *byte, length uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.get
func bucketGet(bucket uint32, key *byte, length uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.set
func bucketSet(bucket uint32, key *byte, length uint32, value *byte, valueLength uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.delete
func bucketDelete(bucket uint32, key *byte, length uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.exists
func bucketExists(bucket uint32, key *byte, length uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.list-keys
func bucketListKeys(bucket uint32, some uint32, cursor *byte, length uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 increment
func atomicsIncrement(bucket uint32, key *byte, length uint32, by int64, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [static]cas.new
func casNew(bucket uint32, key *byte, length uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [method]cas.current
func casCurrent(cas uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 swap
func atomicsSwap(cas uint32, value *byte, valueLength uint32, area unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [resource-drop]cas
func casDrop(cas uint32)
