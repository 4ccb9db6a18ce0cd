package function

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
)

// call is what the host tells of a call.
type call struct {
	method  string
	path    string
	query   string
	headers [][2]string
	body    []byte
}

// answer is what the host is told.
type answer struct {
	status  int
	headers [][2]string
	body    []byte
}

// serve asks the handler. An error is the reason why there is no answer.
func serve(handler http.Handler, call call) (answer answer, err error) {
	request, err := newRequest(call)
	if err != nil {
		return badTarget(err), nil
	}
	writer := &responseWriter{header: http.Header{}}
	defer func() {
		if reason := recover(); reason != nil {
			err = explain(reason)
		}
	}()
	handler.ServeHTTP(writer, request)
	return writer.finish()
}

func newRequest(call call) (*http.Request, error) {
	target := call.path
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	if call.query != "" {
		target += "?" + call.query
	}
	address, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	request := &http.Request{
		Method:        call.method,
		URL:           address,
		RequestURI:    target,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        make(http.Header, len(call.headers)),
		Body:          http.NoBody,
		ContentLength: int64(len(call.body)),
	}
	if len(call.body) > 0 {
		request.Body = io.NopCloser(bytes.NewReader(call.body))
	}
	for _, pair := range call.headers {
		request.Header.Add(pair[0], pair[1])
	}
	// As a server of net/http has it.
	request.Host = request.Header.Get("Host")
	request.Header.Del("Host")
	return request, nil
}

func badTarget(err error) answer {
	text := [][2]string{{"content-type", "text/plain; charset=utf-8"}}
	return answer{http.StatusBadRequest, text, []byte("the path or the query is not valid: " + err.Error() + "\n")}
}

// explain makes an error of what a handler panicked with. A [Func] that failed says why in its own words; for all
// else the log gets the place.
func explain(reason any) error {
	if failed, is := reason.(failure); is {
		return errors.New(clean(failed.Error()))
	}
	writeLog(Error, clean(string(debug.Stack())))
	return errors.New(clean(fmt.Sprintf("panic: %v", reason)))
}

// responseWriter collects a reply.
type responseWriter struct {
	header http.Header
	// sent is the header as it was when the status was written: later changes come too late.
	sent   http.Header
	status int
	body   bytes.Buffer
}

func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(status int) {
	interim := status >= 100 && status < 200
	if w.sent != nil || interim {
		return
	}
	w.status = status
	w.sent = w.header.Clone()
}

func (w *responseWriter) Write(body []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return 0, http.ErrBodyNotAllowed
	}
	return w.body.Write(body)
}

func (w *responseWriter) WriteString(body string) (int, error) { return w.Write([]byte(body)) }

func (w *responseWriter) finish() (answer, error) {
	w.WriteHeader(http.StatusOK)
	if w.status < 200 || w.status > 599 {
		return answer{}, fmt.Errorf("the handler wrote status %d, which is not within 200 to 599", w.status)
	}
	answer := answer{status: w.status, body: w.body.Bytes()}
	names := make([]string, 0, len(w.sent))
	for name := range w.sent {
		if isToken(name) && !slices.Contains(doorsOwn, http.CanonicalHeaderKey(name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range w.sent[name] {
			answer.headers = append(answer.headers, [2]string{name, oneLine(value)})
		}
	}
	return answer, nil
}

// doorsOwn are headers that belong to the connection (RFC 9110 §7.6.1) or that the node writes itself. It refuses
// them, while handlers that were written for servers set some as a matter of course.
var doorsOwn = []string{
	"Connection", "Content-Length", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te",
	"Trailer", "Transfer-Encoding", "Upgrade",
}

// isToken tells whether it may be the name of a header (RFC 9110 §5.6.2).
func isToken(name string) bool {
	isTokenByte := func(b byte) bool {
		return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' ||
			strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
	}
	for i := range len(name) {
		if !isTokenByte(name[i]) {
			return false
		}
	}
	return name != ""
}

// oneLine is a header's value as the host takes it.
func oneLine(value string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, clean(value))
}

// clean is text as the host takes it: a string that is not UTF-8 would end the call.
func clean(text string) string { return strings.ToValidUTF8(text, "\ufffd") }

// logWriter is where the packages log and log/slog write to.
type logWriter struct{}

// levels by what slog begins its lines with.
var levels = []struct {
	begin string
	level Level
}{
	{"DEBUG ", Debug}, {"INFO ", Info}, {"WARN ", Warn}, {"ERROR ", Error},
}

func (logWriter) Write(line []byte) (int, error) {
	message, level := strings.TrimSuffix(string(line), "\n"), Info
	for _, known := range levels {
		if rest, is := strings.CutPrefix(message, known.begin); is {
			message, level = rest, known.level
			break
		}
	}
	Log(level, message)
	return len(line), nil
}
