// Package fresh is about where a call's memory comes from: made by running the program's start, or, when
// `mote build` has run that already, from a picture of the memory after it.
//
// A picture is the same for every call, so what must differ has to be made anew: random numbers, and what the
// environment says.
package fresh

var begun bool

// Begin runs main, once in a memory, and not at all when it was run before the picture was taken.
func Begin(main func()) {
	if pictured {
		renew()
	}
	if !begun {
		begun = true
		main()
	}
}
