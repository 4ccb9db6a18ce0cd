//go:build !mote_preinit

package fresh

const pictured = false

func renew() {}
