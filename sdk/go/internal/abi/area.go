// Package abi is the part of the component model's canonical ABI that the world mote:function needs: how
// strings, lists and records lie in a guest's memory.
//
// An address is 32 bits wide, although pointers of Go on wasm have 64. What the host writes lies in an [Area] or in
// memory that it asked for, which is given back by [Taken] once all of a result was read.
package abi

import (
	"encoding/binary"
	"unsafe"
)

// Area is where the host puts the result of a call that has more than one number: a record, aligned to eight
// bytes. The largest one of the world has 32 bytes.
type Area struct {
	words [4]uint64
}

// Pointer is what the call is given.
func (a *Area) Pointer() unsafe.Pointer { return unsafe.Pointer(&a.words) }

func (a *Area) bytes() []byte {
	return unsafe.Slice((*byte)(a.Pointer()), unsafe.Sizeof(a.words))
}

// U8 is the byte at an offset: which case of a variant it is, mostly.
func (a *Area) U8(at int) uint8 { return a.bytes()[at] }

// U16 is the number of two bytes at an offset.
func (a *Area) U16(at int) uint16 { return binary.LittleEndian.Uint16(a.bytes()[at:]) }

// U32 is the number of four bytes at an offset: a handle, an address or a length.
func (a *Area) U32(at int) uint32 { return binary.LittleEndian.Uint32(a.bytes()[at:]) }

// U64 is the number of eight bytes at an offset.
func (a *Area) U64(at int) uint64 { return binary.LittleEndian.Uint64(a.bytes()[at:]) }

// Bytes is the list<u8> whose address and length stand at an offset. It is the caller's from now on.
func (a *Area) Bytes(at int) []byte { return read(a.U32(at), a.U32(at+4)) }

// String is the string whose address and length stand at an offset.
func (a *Area) String(at int) string { return text(a.U32(at), a.U32(at+4)) }

// Strings is the list<string> whose address and length stand at an offset.
func (a *Area) Strings(at int) []string {
	const size = 8
	records := read(a.U32(at), a.U32(at+4)*size)
	list := make([]string, 0, len(records)/size)
	for ; len(records) > 0; records = records[size:] {
		list = append(list, textAt(records))
	}
	return list
}

// Pairs is the list<tuple<string, string>> whose address and length stand at an offset.
func (a *Area) Pairs(at int) [][2]string {
	const size = 16
	records := read(a.U32(at), a.U32(at+4)*size)
	list := make([][2]string, 0, len(records)/size)
	for ; len(records) > 0; records = records[size:] {
		list = append(list, [2]string{textAt(records), textAt(records[8:])})
	}
	return list
}

func textAt(record []byte) string {
	return text(binary.LittleEndian.Uint32(record), binary.LittleEndian.Uint32(record[4:]))
}

func text(address, length uint32) string {
	bytes := read(address, length)
	return unsafe.String(unsafe.SliceData(bytes), len(bytes))
}

// Lower is a list<tuple<string, string>> as the host reads it: a record of 16 bytes for each pair. The strings
// must live as long as the call that is given the result's address.
func Lower(pairs [][2]string) []byte {
	records := make([]byte, 0, 16*len(pairs))
	for _, pair := range pairs {
		for _, text := range pair {
			records = binary.LittleEndian.AppendUint32(records, Address(unsafe.StringData(text)))
			records = binary.LittleEndian.AppendUint32(records, uint32(len(text)))
		}
	}
	return records
}

// Result is a result<list<u8>, string> as the host reads it.
type Result struct {
	failed  uint32
	address uint32
	length  uint32
	// kept holds the bytes until the host has read them.
	kept []byte
}

// Set makes it an ok of bytes, or an err of a text.
func (r *Result) Set(bytes []byte, failed bool) {
	*r = Result{address: Address(unsafe.SliceData(bytes)), length: uint32(len(bytes)), kept: bytes}
	if failed {
		r.failed = 1
	}
}

// Kept is what was set.
func (r *Result) Kept() (bytes []byte, failed bool) { return r.kept, r.failed != 0 }
