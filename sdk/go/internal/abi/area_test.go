package abi

import (
	"encoding/binary"
	"slices"
	"testing"
	"unsafe"
)

// put writes the address and the length of bytes, as a host does.
func (a *Area) put(at int, address *byte, length int) {
	binary.LittleEndian.PutUint32(a.bytes()[at:], Address(address))
	binary.LittleEndian.PutUint32(a.bytes()[at+4:], uint32(length))
}

func TestNumbersAreReadWhereTheHostPutThem(t *testing.T) {
	var area Area
	copy(area.bytes()[8:], []byte{0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0xa6, 0x97, 0x88})
	if got := area.U8(8); got != 0xf1 {
		t.Errorf("U8: %#x", got)
	}
	if got := area.U16(8); got != 0xe2f1 {
		t.Errorf("U16: %#x", got)
	}
	if got := area.U32(8); got != 0xc4d3e2f1 {
		t.Errorf("U32: %#x", got)
	}
	if got := area.U64(8); got != 0x8897a6b5c4d3e2f1 {
		t.Errorf("U64: %#x", got)
	}
	if address := uintptr(area.Pointer()); address%8 != 0 {
		t.Errorf("the area begins at %#x", address)
	}
}

func TestBytesAndStrings(t *testing.T) {
	var area Area
	content := []byte("a kettle")
	area.put(4, &content[0], len(content))
	if got := area.Bytes(4); string(got) != "a kettle" {
		t.Errorf("Bytes: %q", got)
	}
	if got := area.String(4); got != "a kettle" {
		t.Errorf("String: %q", got)
	}
	// A list without elements has an address that means nothing.
	area.put(4, nil, 0)
	if got := area.String(4); got != "" {
		t.Errorf("String of nothing: %q", got)
	}
	if got := area.Bytes(4); len(got) != 0 {
		t.Errorf("Bytes of nothing: %q", got)
	}
}

func TestPairsComeBackAsTheyWereLowered(t *testing.T) {
	for _, pairs := range [][][2]string{
		{},
		{{"x-test", "yes"}},
		{{"x-many", "one"}, {"x-many", "two"}, {"x-empty", ""}},
	} {
		lowered := Lower(pairs)
		if len(lowered) != 16*len(pairs) {
			t.Errorf("%v became %d bytes", pairs, len(lowered))
		}
		var area Area
		area.put(8, unsafe.SliceData(lowered), len(pairs))
		if got := area.Pairs(8); !slices.Equal(got, pairs) {
			t.Errorf("%v came back as %v", pairs, got)
		}
	}
}

func TestStringsAreReadFromTheirRecords(t *testing.T) {
	// Pairs lie in memory as their strings do, one behind the other.
	lowered := Lower([][2]string{{"a", "bc"}, {"", "d"}})
	var area Area
	area.put(8, unsafe.SliceData(lowered), 4)
	if got := area.Strings(8); !slices.Equal(got, []string{"a", "bc", "", "d"}) {
		t.Errorf("%q", got)
	}
}

func TestAResultSaysWhichCaseItIs(t *testing.T) {
	// The host reads three words from the address of the result: the case, the address, the length.
	words := func(r *Result) []uint32 { return unsafe.Slice((*uint32)(unsafe.Pointer(r)), 3) }
	var result Result
	result.Set([]byte("done"), false)
	if got := words(&result); got[0] != 0 || got[2] != 4 || string(read(got[1], got[2])) != "done" {
		t.Errorf("ok: %v", got)
	}
	result.Set([]byte("no such luck"), true)
	if got := words(&result); got[0] != 1 || got[2] != 12 || string(read(got[1], got[2])) != "no such luck" {
		t.Errorf("err: %v", got)
	}
	result.Set(nil, false)
	if got := words(&result); got[0] != 0 || got[2] != 0 {
		t.Errorf("ok of nothing: %v", got)
	}
}
