package config

import (
	"unsafe"

	"mote.dev/function/internal/abi"
)

func get(key string) (string, bool) {
	var area abi.Area
	storeGet(unsafe.StringData(key), uint32(len(key)), area.Pointer())
	refuse(&area)
	if area.U8(4) == 0 {
		return "", false
	}
	defer abi.Taken()
	return area.String(8), true
}

func all() map[string]string {
	var area abi.Area
	storeGetAll(area.Pointer())
	refuse(&area)
	defer abi.Taken()
	values := map[string]string{}
	for _, pair := range area.Pairs(4) {
		values[pair[0]] = pair[1]
	}
	return values
}

// refuse stops at an error. A node has all values in memory and gives none; to say so spares every caller the
// question.
func refuse(area *abi.Area) {
	if area.U8(0) != 0 {
		panic("config: " + area.String(8))
	}
}

//go:wasmimport wasi:config/store@0.2.0-rc.1 get
func storeGet(key *byte, length uint32, area unsafe.Pointer)

//go:wasmimport wasi:config/store@0.2.0-rc.1 get-all
func storeGetAll(area unsafe.Pointer)
