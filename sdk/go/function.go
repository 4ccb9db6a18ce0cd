// Package function makes a function of Mote out of an [http.Handler].
//
//	package main
//
//	import (
//		"fmt"
//		"net/http"
//
//		"mote.dev/function"
//	)
//
//	func main() {
//		function.HandleFunc(func(w http.ResponseWriter, r *http.Request) {
//			fmt.Fprintln(w, "hello from", r.URL.Path)
//		})
//	}
//
// `mote build` compiles it to a component of the world mote:function. The node makes a fresh memory for each call,
// so what a handler keeps in variables is gone afterwards; package kv keeps things.
// The path of a request is what follows the function's name, and "/" when nothing does.
//
// What is not here: streams. A request has its whole body when the handler begins, and the reply goes out when it
// returns. Its goroutines end then, too.
package function

import (
	"log"
	"net/http"
)

// Handle sets what answers calls. Call it once, in main; it returns at once, and so may main.
func Handle(handler http.Handler) {
	if handler == nil {
		panic("function: nil handler")
	}
	log.SetFlags(0)
	log.SetOutput(logWriter{})
	begin(handler)
}

// HandleFunc is Handle for a plain function.
func HandleFunc(handler func(http.ResponseWriter, *http.Request)) {
	if handler == nil {
		panic("function: nil handler")
	}
	Handle(http.HandlerFunc(handler))
}

// Func is a handler that may fail. An error ends the call with status 500 and the error's text, which is also
// written to the function's log; what the handler wrote before is dropped.
type Func func(http.ResponseWriter, *http.Request) error

// ServeHTTP makes Func an [http.Handler].
func (f Func) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := f(w, r); err != nil {
		panic(failure{err})
	}
}

// failure is what a [Func] returned, on its way through handlers that know nothing of it.
type failure struct{ error }

// ID is the id of this call, as it stands in logs and in the header Mote-Call-Id of the reply.
func ID() string { return id() }

// Publish makes this reply the published value of the called path and query: what observers of the function are
// shown from now on. Without `observable = true` in the manifest it has no effect.
func Publish() { publish() }

// Level says how important a line of the log is.
type Level uint32

// The levels of the function's log.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Log writes a line to the function's log. [log.Print] and [log/slog] work, too: their lines have the level that
// they begin with, as those of slog do, and otherwise Info.
func Log(level Level, message string) { writeLog(level, clean(message)) }
