package runtime

import _ "unsafe" // for go:linkname

// `mote build` adds this file to package runtime (`go build -overlay`): it does for the SDK what only the runtime can.

// mote_grow makes the memory larger by bytes that are the SDK's. It calls nobody and needs no stack.
//
//go:linkname mote_grow mote.dev/function/internal/abi.grow
//go:nosplit
func mote_grow(bytes uintptr) uintptr {
	var at uintptr
	systemstack(func() {
		lock(&memlock)
		at = uintptr(sbrk(bytes))
		unlock(&memlock)
		if at == 0 {
			throw("no memory for what the host has to say")
		}
	})
	return at
}

// What follows renews what the runtime had read before the snapshot was taken: see package fresh.

//go:linkname mote_reseed mote.dev/function/internal/fresh.reseed
func mote_reseed(seed [4]uint64) {
	mp := getg().m
	mp.chacha8.Init64(seed)
	mp.cheaprand = rand()
	lock(&globalRand.lock)
	globalRand.state.Init64([4]uint64{rand(), rand(), rand(), rand()})
	unlock(&globalRand.lock)
}

//go:linkname mote_environment mote.dev/function/internal/fresh.environment
func mote_environment() []string {
	goenvs()
	return envs
}
