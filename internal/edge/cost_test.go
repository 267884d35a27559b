package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// quiet is a ResponseWriter that costs nothing.
type quiet struct {
	header http.Header
	status int
	n      int
}

func (q *quiet) Header() http.Header         { return q.header }
func (q *quiet) WriteHeader(status int)      { q.status = status }
func (q *quiet) Write(b []byte) (int, error) { q.n += len(b); return len(b), nil }
func (q *quiet) Flush()                      {}

// Deadlines cost what the connection makes of them.
func (q *quiet) SetReadDeadline(time.Time) error  { return nil }
func (q *quiet) SetWriteDeadline(time.Time) error { return nil }

// replay is a body that can be read again and again.
type replay struct{ bytes.Reader }

func (*replay) Close() error { return nil }

// constant is a backend that answers at once and allocates nothing.
type constant struct {
	fake
	reply wire.Reply
}

func (c *constant) Handle(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
	return c.reply, nil
}

// measured is one call in each era, ready to be repeated.
func measured(tb testing.TB) map[string]func() {
	tb.Helper()
	r, err := reply(`{"content":[{"type":"text","text":"` + strings.Repeat("x", 200) + `"}]}`)
	if err != nil {
		tb.Fatal(err)
	}
	s, b := New(Options{}), &constant{reply: r}
	tb.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			tb.Error(err)
		}
	})
	calls := map[string]func(){}
	add := func(name string, h http.Header, body string) {
		req := httptest.NewRequestWithContext(tb.Context(), "POST", "/mcp", strings.NewReader(body))
		req.Header = h
		again, raw := &replay{}, []byte(body)
		req.Body = again
		w := &quiet{header: http.Header{}}
		calls[name] = func() {
			again.Reset(raw)
			w.status, w.n = 0, 0
			s.Serve(w, req, "/mcp", b)
			if w.status != 200 || w.n < 200 {
				tb.Fatalf("%d, %d bytes", w.status, w.n)
			}
		}
	}
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(tb.Context(), "POST", "/mcp",
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`))
	req.Header = heads()
	s.Serve(w, req, "/mcp", b)
	add("legacy", heads(headerSession, w.Header().Get(headerSession), headerVersion, "2025-11-25"), toolCall("1"))
	add("modern", modern("tools/call", "t"), modernCall("1", "tools/call", `"name":"t",`))
	return calls
}

// TestAllocations guards the hot path: the edge's share of a call.
func TestAllocations(t *testing.T) {
	const limit = 16
	for name, call := range measured(t) {
		if n := testing.AllocsPerRun(200, call); n > limit {
			t.Errorf("%s: %v allocations, at most %d are allowed", name, n, limit)
		} else {
			t.Logf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkCall(b *testing.B) {
	calls := measured(b)
	for _, name := range []string{"legacy", "modern"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				calls[name]()
			}
		})
	}
}

// FuzzServe holds that whatever comes, an HTTP answer goes back that is well
// formed, with the id of the request where it has one.
func FuzzServe(f *testing.F) {
	for _, body := range []string{
		ping, toolCall("1"), modernCall("1", "tools/list", ""), modernCall(`"a"`, "server/discover", ""), listenCall("1"),
		`[` + ping + `,` + toolCall("2") + `]`, `{`, ``, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26"}}`,
	} {
		for _, method := range []string{"POST", "GET", "DELETE"} {
			f.Add(method, "application/json", "application/json, text/event-stream", modernVersion, "tools/list", "t", "s", body)
			f.Add(method, "application/json", "*/*", "", "", "=?base64?dA==?=", "", body)
		}
	}
	f.Fuzz(func(t *testing.T, method, contentType, accepts, version, mcpMethod, name, session, body string) {
		if !validMethod(method) {
			t.Skip()
		}
		s, b := New(Options{MaxMessage: 1 << 16}), &fake{}
		w := httptest.NewRecorder()
		init := httptest.NewRequestWithContext(t.Context(), "POST", "/mcp",
			strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-03-26"}}`))
		init.Header = heads()
		s.Serve(w, init, "/mcp", b)
		if session == "s" {
			session = w.Header().Get(headerSession)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req := httptest.NewRequestWithContext(ctx, method, "/mcp", strings.NewReader(body))
		for key, v := range map[string]string{
			"Content-Type": contentType, "Accept": accepts, headerVersion: version,
			headerMethod: mcpMethod, headerName: name, headerSession: session,
		} {
			if v != "" {
				req.Header[key] = []string{v}
			}
		}
		cancel() // streams end at once
		w = httptest.NewRecorder()
		s.Serve(w, req, "/mcp", b)
		checkAnswer(t, w, body)
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func validMethod(m string) bool {
	return m != "" && strings.IndexFunc(m, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsLetter(r) }) < 0
}

func checkAnswer(t *testing.T, w *httptest.ResponseRecorder, body string) {
	t.Helper()
	if !slices.Contains([]int{200, 202, 204, 400, 404, 405, 406, 413, 415}, w.Code) {
		t.Fatalf("status %d", w.Code)
	}
	if w.Code == 202 || w.Code == 204 {
		if w.Body.Len() > 0 {
			t.Fatalf("%d with a body", w.Code)
		}
		return
	}
	if w.Header().Get("Content-Type") == "text/event-stream" {
		return // whether it says anything depends on when the client went away
	}
	if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v %q", w.Code, w.Header(), w.Body)
	}
	if w.Body.Bytes()[0] == '[' {
		return
	}
	e, err := wire.Scan(w.Body.Bytes())
	if err != nil || (e.Kind != wire.KindResult && e.Kind != wire.KindError) || (w.Code != 200 && e.Kind != wire.KindError) {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	asked, err := wire.Scan([]byte(body))
	if got := e.Get(wire.FieldID); got != nil && (err == nil || len(got) > 0) && !bytes.Equal(got, asked.Get(wire.FieldID)) {
		t.Fatalf("id %s for %s", got, body)
	}
}
