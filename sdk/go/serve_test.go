package function

import (
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// ask serves a call and fails the test if there is no answer.
func ask(t *testing.T, handler http.HandlerFunc, call call) answer {
	t.Helper()
	if call.method == "" {
		call.method = "GET"
	}
	answer, err := serve(handler, call)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return answer
}

func TestAHandlerSeesTheWholeRequest(t *testing.T) {
	answer := ask(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "hi" || r.ContentLength != 2 {
			t.Errorf("body %q of %d bytes, %v", body, r.ContentLength, err)
		}
		if r.Method != "PUT" || r.URL.Path != "/a b" || r.URL.Query().Get("name") != "Ada & Co" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if r.Host != "example.org" || r.Header.Get("Host") != "" {
			t.Errorf("host %q and %q", r.Host, r.Header.Get("Host"))
		}
		if many := r.Header.Values("X-Many"); !slices.Equal(many, []string{"one", "two"}) {
			t.Errorf("x-many: %q", many)
		}
	}, call{
		method:  "PUT",
		path:    "/a%20b",
		query:   "name=Ada+%26+Co",
		headers: [][2]string{{"host", "example.org"}, {"x-many", "one"}, {"x-many", "two"}},
		body:    []byte("hi"),
	})
	if answer.status != 200 || len(answer.body) != 0 || len(answer.headers) != 0 {
		t.Errorf("a handler that writes nothing answers %+v", answer)
	}
}

func TestThePathOfTheFunctionItselfIsASlash(t *testing.T) {
	answer := ask(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) },
		call{query: "x=1"})
	if string(answer.body) != "/?x=1" {
		t.Errorf("%q", answer.body)
	}
}

func TestAnInvalidTargetIsABadRequest(t *testing.T) {
	answer := ask(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler is asked") }, call{path: "/%zz"})
	if answer.status != 400 {
		t.Errorf("%+v", answer)
	}
}

func TestAnAnswerHasStatusHeadersAndBody(t *testing.T) {
	answer := ask(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("X-Several", "one")
		w.Header().Add("X-Several", "two")
		w.Header().Set("Content-Type", "text/x-test")
		w.WriteHeader(418)
		w.WriteHeader(200)
		w.Header().Set("X-Late", "yes")
		io.WriteString(w, "short ")
		io.WriteString(w, "and stout")
	}, call{})
	headers := [][2]string{{"Content-Type", "text/x-test"}, {"X-Several", "one"}, {"X-Several", "two"}}
	if answer.status != 418 || !slices.Equal(answer.headers, headers) || string(answer.body) != "short and stout" {
		t.Errorf("%+v", answer)
	}
}

func TestHeadersThatTheHostRefusesAreLeftOutOrMended(t *testing.T) {
	answer := ask(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		w.Header()["connection"] = []string{"close"}
		w.Header()["bad name"] = []string{"x"}
		w.Header()[""] = []string{"x"}
		w.Header().Set("X-Lines", "one\r\ntwo\xff")
	}, call{})
	if !slices.Equal(answer.headers, [][2]string{{"X-Lines", "one  two\ufffd"}}) {
		t.Errorf("%q", answer.headers)
	}
}

func TestAStatusWithoutABody(t *testing.T) {
	answer := ask(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(103)
		w.WriteHeader(204)
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("writing gives %v", err)
		}
	}, call{})
	if answer.status != 204 || len(answer.body) != 0 {
		t.Errorf("%+v", answer)
	}
}

func TestFailuresHaveTheirReason(t *testing.T) {
	for reason, handler := range map[string]http.Handler{
		"no such luck": Func(func(w http.ResponseWriter, _ *http.Request) error {
			io.WriteString(w, "half an answer")
			return errors.New("no such luck")
		}),
		"panic: no such luck": http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no such luck") }),
		"not \ufffd text":     Func(func(http.ResponseWriter, *http.Request) error { return errors.New("not \xff text") }),
		"the handler wrote status 700, which is not within 200 to 599": http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(700) }),
	} {
		if _, err := serve(handler, call{method: "GET"}); err == nil || err.Error() != reason {
			t.Errorf("%v is not %q", err, reason)
		}
	}
	if _, err := serve(Func(func(http.ResponseWriter, *http.Request) error { return nil }), call{method: "GET"}); err != nil {
		t.Error(err)
	}
}

func TestLinesOfTheStandardLogHaveALevel(t *testing.T) {
	said := captured(t, func() {
		log.SetFlags(0)
		log.SetOutput(logWriter{})
		log.Print("plain")
		log.Print("ERROR of people")
		slog.Warn("careful", "level", 7)
	})
	if said != "info plain\nerror of people\nwarn careful level=7\n" {
		t.Errorf("%q", said)
	}
}

// captured is what is written to the log meanwhile, which is standard error here.
func captured(t *testing.T, write func()) string {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	stderr := os.Stderr
	os.Stderr = file
	defer func() { os.Stderr = stderr }()
	write()
	said, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(said), "\r", "")
}
