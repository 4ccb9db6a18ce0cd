package main

import (
	"fmt"
	"net/http"

	"mote.dev/function"
)

func main() {
	function.HandleFunc(hello)
}

func hello(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("name")
	if name == "" {
		name = "world"
	}
	fmt.Fprintf(w, "hello, %s\n", name)
}
