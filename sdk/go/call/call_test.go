//go:build !wasip1

package call_test

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"mote.dev/function/call"
)

func TestASiblingIsCalled(t *testing.T) {
	call.Sibling("echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Target", r.Method+" "+r.URL.String())
		w.WriteHeader(http.StatusAccepted)
		io.Copy(w, r.Body)
	}))
	reply, err := call.Invoke(call.Request{Function: "echo", Target: "?x=1", Body: []byte("hi")})
	if err != nil {
		t.Fatal(err)
	}
	if reply.Status != 202 || string(reply.Body) != "hi" || reply.Header.Get("X-Target") != "GET /?x=1" {
		t.Errorf("%+v", reply)
	}
	pending, err := call.Start(call.Request{Function: "echo", Method: "POST"})
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := pending.Wait(); err != nil || reply.Header.Get("X-Target") != "POST /" {
		t.Errorf("%+v, %v", reply, err)
	}
	var failed *call.Error
	if _, err := pending.Wait(); !errors.As(err, &failed) || failed.Kind != call.BadRequest {
		t.Errorf("the second wait gives %v", err)
	}
}

func TestNobodyIsNotFound(t *testing.T) {
	_, err := call.Invoke(call.Request{Function: "nobody"})
	var failed *call.Error
	if !errors.As(err, &failed) || failed.Kind.String() != "not-found" {
		t.Errorf("%v", err)
	}
}
