// Package fresh is about where a call's memory comes from: `mote build` runs the start of the program, up to the end
// of main, and each call begins with a snapshot of the memory after it.
//
// A snapshot is the same for every call, so what must differ is made anew: random numbers, and what the environment
// says. Without a snapshot the first call in a memory runs main.
package fresh

import (
	"os"
	"strings"
	"unsafe"

	"mote.dev/function/internal/abi"
)

var (
	// begun is set when main was run.
	begun bool
	// restored is set in a snapshot, and unset by the first call.
	restored bool
)

// Begin makes the memory ready for a call.
func Begin() {
	switch {
	case restored:
		renew()
	case !begun:
		begun = true
		mainMain()
	}
}

// initialize is called before the snapshot is taken.
//
//go:wasmexport mote_initialize
func initialize() {
	Begin()
	Warm()
	restored = true
}

// Warm is run before the snapshot is taken: what happens in it for the first time, a call does not do.
var Warm = func() {}

func renew() {
	restored = false
	var seed [4]uint64
	if randomGet(unsafe.Pointer(&seed), uint32(unsafe.Sizeof(seed))) != 0 {
		panic("there are no random numbers to begin with")
	}
	// The adapter to the system came with that call, and has taken its memory.
	abi.Last()
	reseed(seed)
	for _, variable := range environment() {
		name, value, _ := strings.Cut(variable, "=")
		// Fails for names without characters only, and those mean nothing.
		_ = os.Setenv(name, value)
	}
}

// mainMain is the program's own main. A component is a library: nobody calls its main but us.
//
//go:linkname mainMain main.main
func mainMain()

// reseed and environment are added to package runtime by `mote build`, from the folder _runtime.
func reseed(seed [4]uint64)

func environment() []string

//go:wasmimport wasi_snapshot_preview1 random_get
func randomGet(buffer unsafe.Pointer, length uint32) uint32
