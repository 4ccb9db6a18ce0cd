package abi

import "unsafe"

// The adapter between WASI 0.1 and 0.2 takes 128 KiB for itself at the first call of the system. The rest is room
// for the results of most calls. Memory that is never touched costs nothing but the number.
const regionBytes = 256 << 10

var region [regionBytes]byte

var results place

// begins sets up the region. The system is called, and asks for memory, before variables of Go have their values.
//
//go:nosplit
func begins() {
	if results.end == 0 {
		at := uintptr(unsafe.Pointer(&region))
		results.end = at + regionBytes
		results.top, results.kept, results.lasting = at, at, at
	}
}

// realloc gives the host memory to write into.
//
//go:wasmexport cabi_realloc
//go:nosplit
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	begins()
	// Numbers of 64 bits are the largest that are read from it.
	at := results.take(uintptr(size), max(uintptr(align), 8))
	if at == 0 {
		// Blocks of few sizes are found again more often.
		bytes := uintptr(regionBytes)
		for bytes < uintptr(size) {
			bytes *= 2
		}
		at = grow(bytes)
		results.add(at, bytes)
	}
	memory := unsafe.Add(unsafe.Pointer(nil), at)
	if old != nil {
		copy(unsafe.Slice((*byte)(memory), size), unsafe.Slice((*byte)(old), oldSize))
	}
	return memory
}

// grow makes the memory larger, or ends the program. `mote build` adds it to package runtime, from the folder
// _runtime.
func grow(bytes uintptr) uintptr

// What is there before the first call is the adapter's.
func init() {
	begins()
	results.last()
}

// Last keeps all memory that the host asked for so far.
func Last() { results.last() }

// Taken gives memory of results back, all of which were read.
func Taken() { results.taken() }

// Returned gives the argument's memory back, too.
func Returned() { results.returned() }

// Argument is a list<u8> that a function exported to the host is called with. It lasts until Returned.
func Argument(address unsafe.Pointer, length uint32) []byte {
	results.keep()
	return unsafe.Slice((*byte)(address), length)
}

// Address is a pointer in 32 bits.
func Address(pointer *byte) uint32 { return uint32(uintptr(unsafe.Pointer(pointer))) }

// read is a copy of memory that the host wrote.
func read(address, length uint32) []byte {
	if length == 0 {
		return nil
	}
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), address)), length)...)
}
