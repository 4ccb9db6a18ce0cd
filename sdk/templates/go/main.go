package main

import (
	"fmt"
	"log"
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
	log.Printf("hello to %s", name)
	fmt.Fprintf(w, "hello, %s\n", name)
}
