// The function that every language has: see the table in README.md of the folder above.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"mote.dev/function"
	"mote.dev/function/call"
	"mote.dev/function/config"
	"mote.dev/function/kv"
)

func main() {
	function.Handle(routes())
}

func routes() http.Handler {
	routes := http.NewServeMux()
	routes.HandleFunc("/echo", echo)
	routes.HandleFunc("/json", sum)
	routes.Handle("/error", function.Func(fail))
	routes.HandleFunc("/status/{status}", status)
	routes.HandleFunc("/headers", headers)
	routes.HandleFunc("/where/", where)
	routes.HandleFunc("/log", logLines)
	routes.HandleFunc("/publish", publish)
	routes.Handle("/sibling/invoke", function.Func(invoke))
	routes.Handle("/sibling/both", function.Func(both))
	routes.Handle("/sibling/spawn", function.Func(spawn))
	routes.Handle("/sibling/status", function.Func(siblingStatus))
	routes.Handle("/sibling/nobody", function.Func(nobody))
	routes.Handle("/kv", function.Func(keys))
	routes.Handle("/kv/{key}", function.Func(value))
	routes.HandleFunc("/config/{key}", setting)
	routes.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "no such path")
	})
	return routes
}

func echo(w http.ResponseWriter, r *http.Request) {
	if kind := r.Header.Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	io.Copy(w, r.Body)
}

func sum(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Name    *string  `json:"name"`
		Numbers *[]int64 `json:"numbers"`
	}
	body, _ := io.ReadAll(r.Body)
	err := json.Unmarshal(body, &in)
	if err == nil && (in.Name == nil || in.Numbers == nil) {
		err = errors.New("`name` and `numbers` are needed")
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "bad JSON: "+err.Error())
		return
	}
	var out struct {
		Greeting string `json:"greeting"`
		Sum      int64  `json:"sum"`
	}
	out.Greeting = "hello, " + *in.Name
	for _, number := range *in.Numbers {
		out.Sum += number
	}
	answer, _ := json.Marshal(out)
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer)
}

func fail(http.ResponseWriter, *http.Request) error { return errors.New("no such luck") }

func status(w http.ResponseWriter, r *http.Request) {
	status, err := strconv.Atoi(r.PathValue("status"))
	if err != nil {
		refuse(w, http.StatusNotFound, "no such path")
		return
	}
	w.WriteHeader(status)
	fmt.Fprintf(w, "status %d", status)
}

func headers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Reply", "yes")
	w.Header().Add("X-Several", "one")
	w.Header().Add("X-Several", "two")
	fmt.Fprintf(w, "x-test: %s\n", orDash(r.Header.Get("X-Test")))
	fmt.Fprintf(w, "x-many: %s\n", orDash(strings.Join(r.Header.Values("X-Many"), ", ")))
}

func where(w http.ResponseWriter, r *http.Request) {
	for _, line := range []string{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.URL.Query().Get("name")} {
		fmt.Fprintln(w, orDash(line))
	}
}

func refuse(w http.ResponseWriter, status int, why string) {
	w.WriteHeader(status)
	io.WriteString(w, why)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func logLines(w http.ResponseWriter, _ *http.Request) {
	function.Log(function.Trace, "this is trace")
	function.Log(function.Debug, "this is debug")
	function.Log(function.Info, "this is info")
	function.Log(function.Warn, "this is warn")
	function.Log(function.Error, "this is error")
	io.WriteString(w, "logged")
}

func publish(w http.ResponseWriter, r *http.Request) {
	function.Publish()
	io.WriteString(w, "published ")
	io.Copy(w, r.Body)
}

func invoke(w http.ResponseWriter, r *http.Request) error {
	body, _ := io.ReadAll(r.Body)
	reply, err := call.Invoke(call.Request{
		Function: "sibling",
		Method:   http.MethodPost,
		Target:   "/echo",
		Header:   http.Header{"Content-Type": {"text/x-sibling"}},
		Body:     body,
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%d %s %s", reply.Status, reply.Header.Get("Content-Type"), reply.Body)
	return nil
}

func both(w http.ResponseWriter, _ *http.Request) error {
	start := func(body string) (*call.Pending, error) {
		return call.Start(call.Request{
			Function: "sibling", Method: http.MethodPost, Target: "/echo", Body: []byte(body),
		})
	}
	first, err := start("one")
	if err != nil {
		return err
	}
	second, err := start("two")
	if err != nil {
		return err
	}
	one, err := first.Wait()
	if err != nil {
		return err
	}
	two, err := second.Wait()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %s", one.Body, two.Body)
	return nil
}

func spawn(w http.ResponseWriter, r *http.Request) error {
	body, _ := io.ReadAll(r.Body)
	id, err := call.Spawn(call.Request{Function: "sibling", Method: http.MethodPut, Target: "/kv/spawned", Body: body})
	if err != nil {
		return err
	}
	if id == "" {
		return errors.New("the spawned call has no id")
	}
	io.WriteString(w, "spawned")
	return nil
}

func siblingStatus(w http.ResponseWriter, _ *http.Request) error {
	reply, err := call.Invoke(call.Request{Function: "sibling", Target: "/error"})
	if err != nil {
		return err
	}
	fmt.Fprint(w, reply.Status)
	return nil
}

func nobody(w http.ResponseWriter, _ *http.Request) error {
	_, err := call.Invoke(call.Request{Function: "nobody"})
	var failed *call.Error
	if !errors.As(err, &failed) {
		return fmt.Errorf("nobody answered: %v", err)
	}
	io.WriteString(w, failed.Kind.String())
	return nil
}

func value(w http.ResponseWriter, r *http.Request) error {
	bucket, err := kv.Open(kv.Default)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	switch r.Method {
	case http.MethodPut:
		body, _ := io.ReadAll(r.Body)
		err = bucket.Set(key, body)
		io.WriteString(w, "set")
	case http.MethodDelete:
		err = bucket.Delete(key)
		io.WriteString(w, "deleted")
	case http.MethodPost:
		by, wrong := strconv.ParseInt(r.URL.Query().Get("by"), 10, 64)
		if wrong != nil {
			return wrong
		}
		var sum int64
		sum, err = bucket.Increment(key, by)
		fmt.Fprint(w, sum)
	default:
		value, found, failed := bucket.Get(key)
		if err = failed; err == nil && !found {
			refuse(w, http.StatusNotFound, "no such key")
		}
		w.Write(value)
	}
	return err
}

func keys(w http.ResponseWriter, _ *http.Request) error {
	bucket, err := kv.Open(kv.Default)
	if err != nil {
		return err
	}
	for cursor := ""; ; {
		keys, next, err := bucket.Keys(cursor)
		if err != nil {
			return err
		}
		for _, key := range keys {
			fmt.Fprintln(w, key)
		}
		if cursor = next; cursor == "" {
			return nil
		}
	}
}

func setting(w http.ResponseWriter, r *http.Request) {
	value, found := config.Get(r.PathValue("key"))
	if !found {
		refuse(w, http.StatusNotFound, "no such key")
		return
	}
	io.WriteString(w, value)
}
