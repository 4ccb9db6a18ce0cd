//go:build !wasip1

package function

import (
	"fmt"
	"net/http"
	"os"
)

// begin is for people who run the program itself. Tests of a handler do not come here: they call it.
func begin(http.Handler) {
	fmt.Fprintln(os.Stderr, "error: this is a function, not a program\nhint: run it with `mote dev`")
	os.Exit(2)
}

func id() string { return "" }

func publish() {}

func writeLog(level Level, message string) {
	names := [...]string{"trace", "debug", "info", "warn", "error"}
	fmt.Fprintln(os.Stderr, names[min(level, Error)], message)
}
