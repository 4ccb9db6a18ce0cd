//go:build mote_preinit

package fresh

import (
	"os"
	"strings"
	"unsafe"

	"mote.dev/function/internal/abi"
)

// pictured is set while the picture is taken, and unset by the first call in a memory.
var pictured bool

// mainMain is the program's own main.
//
//go:linkname mainMain main.main
func mainMain()

// initialize is called before the picture is taken.
//
//go:wasmexport mote_initialize
func initialize() {
	Begin(mainMain)
	pictured = true
}

func renew() {
	pictured = false
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

// reseed and environment are added to package runtime by `mote build`, from the folder _runtime.
func reseed(seed [4]uint64)

func environment() []string

//go:wasmimport wasi_snapshot_preview1 random_get
func randomGet(buffer unsafe.Pointer, length uint32) uint32
