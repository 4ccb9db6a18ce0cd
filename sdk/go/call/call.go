// Package call calls other functions of the same app.
//
// A callee runs in its own memory and under its own limits, and has at most the time that is left to the caller.
//
// On any system but a node, as in `go test`, [Sibling] stands for them.
package call

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// Request is what is asked of a sibling.
type Request struct {
	// Function is its name.
	Function string
	// Method is GET if empty.
	Method string
	// Target is the path and query after the function's name: empty, or starting with / or ?.
	Target string
	Header http.Header
	Body   []byte
}

// Reply is what it answered. A status of 500 and more is a reply, too, and no error.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
}

// Kind says why there is no reply.
type Kind uint8

// The platform's own kinds of failure.
const (
	// BadRequest makes no sense, or nests too deep.
	BadRequest Kind = iota
	// Forbidden is a function of another app.
	Forbidden
	// NotFound is a name that no function has.
	NotFound
	// TooLarge is a request that is larger than the callee takes.
	TooLarge
	// Throttled is a callee whose queue is full.
	Throttled
	// FunctionFailed is a callee that trapped or exited.
	FunctionFailed
	// Overloaded is a node without room, or a call that might wait for ever.
	Overloaded
	// Timeout is used-up time, of the callee or of this call.
	Timeout
	// StorageFull is a full disk or quota.
	StorageFull
	// Internal is a bug in the node.
	Internal
)

var kinds = [...]string{
	"bad-request", "forbidden", "not-found", "too-large", "throttled", "function-failed", "overloaded", "timeout",
	"storage-full", "internal",
}

func (k Kind) String() string { return kinds[min(int(k), len(kinds)-1)] }

// Error is why there is no reply. Find it with [errors.As].
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// Invoke calls a sibling and waits for its reply.
func Invoke(request Request) (*Reply, error) { return invoke(request) }

// Start begins a call, so that several run at once.
func Start(request Request) (*Pending, error) { return start(request) }

// Spawn hands a call over to the node, which runs it on its own, and returns its id. Its reply goes nowhere.
func Spawn(request Request) (id string, err error) { return spawn(request) }

// Pending is a call that was started. It ends with the caller.
type Pending struct{ handle handle }

// Wait waits for the reply. It can be asked once.
func (p *Pending) Wait() (*Reply, error) { return p.handle.wait() }

// Drop ends a call that nobody waited for.
func (p *Pending) Drop() { p.handle.drop() }

// plain is a request in the words of the host.
func (r *Request) plain() (method string, headers [][2]string) {
	for name, values := range r.Header {
		for _, value := range values {
			headers = append(headers, [2]string{name, value})
		}
	}
	// Values of one name stay in their order.
	slices.SortStableFunc(headers, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	return cmp.Or(r.Method, http.MethodGet), headers
}

func headerOf(pairs [][2]string) http.Header {
	header := make(http.Header, len(pairs))
	for _, pair := range pairs {
		header.Add(pair[0], pair[1])
	}
	return header
}
