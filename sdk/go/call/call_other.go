//go:build !wasip1

package call

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
)

var (
	lock     sync.Mutex
	siblings = map[string]http.Handler{}
)

// Sibling makes a handler answer calls of a function, for tests. On a node there is no such thing.
func Sibling(function string, handler http.Handler) {
	lock.Lock()
	defer lock.Unlock()
	siblings[function] = handler
}

// handle is where the reply comes from.
type handle <-chan outcome

type outcome struct {
	reply *Reply
	err   error
}

func invoke(request Request) (*Reply, error) {
	lock.Lock()
	sibling := siblings[request.Function]
	lock.Unlock()
	if sibling == nil {
		return nil, &Error{NotFound, "no function `" + request.Function + "`; see call.Sibling"}
	}
	method, headers := request.plain()
	target := request.Target
	if target == "" || target[0] == '?' {
		target = "/" + target
	}
	asked := httptest.NewRequest(method, target, bytes.NewReader(request.Body))
	asked.Header = headerOf(headers)
	recorder := httptest.NewRecorder()
	sibling.ServeHTTP(recorder, asked)
	answered := recorder.Result()
	body, err := io.ReadAll(answered.Body)
	return &Reply{answered.StatusCode, answered.Header, body}, err
}

func start(request Request) (*Pending, error) {
	outcomes := make(chan outcome, 1)
	go func() {
		defer close(outcomes)
		reply, err := invoke(request)
		outcomes <- outcome{reply, err}
	}()
	return &Pending{outcomes}, nil
}

func spawn(request Request) (string, error) {
	_, err := start(request)
	return "a-call", err
}

func (h handle) wait() (*Reply, error) {
	outcome, first := <-h
	if !first {
		return nil, &Error{BadRequest, "this call was waited for already"}
	}
	return outcome.reply, outcome.err
}

func (handle) drop() {}
