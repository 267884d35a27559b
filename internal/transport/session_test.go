package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

const toolsChanged = "notifications/tools/list_changed"

func (s *webServer) loseSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.live)
}

func (s *webServer) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

func TestSessionLoss(t *testing.T) {
	s := newWebServer(t, false)
	p, rec := dialWeb(t, s, shannon.EraLegacy)
	if got := callText(t, p, "json"); got != "ok" || s.opened() != 1 {
		t.Fatalf("got %s in %d sessions", got, s.opened())
	}
	s.loseSessions()
	concurrently(t, p, func(_, text string) *wire.Request {
		return request(t, "tools/call", `{"name":"json","_meta":{"nonce":"`+text+`"}}`)
	}, false)
	if s.opened() != 2 || rec.count(toolsChanged) != 1 {
		t.Errorf("%d sessions were opened for all, %d changes announced", s.opened(), rec.count(toolsChanged))
	}
	s.loseSessions()
	if err := p.Notify(t.Context(), "notifications/roots/list_changed", nil); err != nil || s.opened() != 3 {
		t.Errorf("notify: %v in session %d", err, s.opened())
	}
	_ = closePeer(t, p)
	if !s.saw(func(r seenRequest) bool {
		return r.verb == http.MethodDelete && r.header.Get("Mcp-Session-Id") == "session-3"
	}) {
		t.Error("the session was not deleted")
	}
	if s.saw(func(r seenRequest) bool { return r.method == "initialize" && r.header.Get("Mcp-Session-Id") != "" }) {
		t.Error("initialize carried a session id")
	}
}

// TestSessionLossBy400 has a server that answers a lost session with 400.
func TestSessionLossBy400(t *testing.T) {
	s := newWebServer(t, false)
	p, _ := dialWeb(t, s, shannon.EraLegacy)
	s.mu.Lock()
	s.override = func(w http.ResponseWriter, r *http.Request, e wire.Envelope) bool {
		name, _ := e.Text(wire.FieldName)
		lost := e.Kind == wire.KindRequest && e.Method != "initialize" && !s.isLive(r)
		switch {
		case lost || name == "bad":
			w.WriteHeader(http.StatusBadRequest)
		case e.Method == "ping":
			reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":{}}`, e.Get(wire.FieldID))
		default:
			return false
		}
		return true
	}
	s.mu.Unlock()
	_, err := p.Call(t.Context(), toolCall(t, "bad"), nil)
	wantCode(t, err, shannon.CodeProtocolError)
	if s.opened() != 1 {
		t.Errorf("a session that answers ping was given up")
	}
	s.loseSessions()
	if got := callText(t, p, "json"); got != "ok" || s.opened() != 2 {
		t.Errorf("got %s in session %d", got, s.opened())
	}
}

func TestSessionCannotBeRenewed(t *testing.T) {
	s := newWebServer(t, false)
	p, _ := dialWeb(t, s, shannon.EraLegacy)
	s.loseSessions()
	s.mu.Lock()
	s.override = func(w http.ResponseWriter, _ *http.Request, e wire.Envelope) bool {
		if e.Method == "initialize" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return e.Method == "initialize"
	}
	s.mu.Unlock()
	_, err := p.Call(t.Context(), toolCall(t, "json"), nil)
	wantCode(t, err, shannon.CodeConnectionLost)
	if e, ok := errors.AsType[*shannon.Error](err); !ok || e.MayHaveRun {
		t.Errorf("a call that was refused may have run: %v", err)
	}
	s.mu.Lock()
	s.override = nil
	s.mu.Unlock()
	if got := callText(t, p, "json"); got != "ok" {
		t.Errorf("once the server is well: %s", got)
	}
}

func TestBadSessionID(t *testing.T) {
	s := newWebServer(t, false)
	s.override = func(w http.ResponseWriter, _ *http.Request, e wire.Envelope) bool {
		if e.Method == "initialize" {
			w.Header().Set("Mcp-Session-Id", "two words")
			reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":%s}`, e.Get(wire.FieldID), initializeResult("2025-11-25"))
		}
		return e.Method == "initialize"
	}
	_, err := dialer(t, nil).Dial(t.Context(), s.target(), Want{}, Hooks{})
	wantCode(t, err, shannon.CodeProtocolError)
}

func TestResume(t *testing.T) {
	s := newWebServer(t, false)
	p, _ := dialWeb(t, s, shannon.EraLegacy)
	begun := time.Now()
	if got := callText(t, p, "cut"); got != "ok" {
		t.Fatalf("got %s", got)
	}
	if waited := time.Since(begun); waited < 40*time.Millisecond {
		t.Errorf("two resumptions took %s; the server asked for 20ms before each", waited)
	}
	// A modern stream cannot be resumed.
	m, _ := dialWeb(t, newWebServer(t, true), shannon.EraModern)
	_, err := m.Call(t.Context(), toolCall(t, "cut"), nil)
	wantCode(t, err, shannon.CodeConnectionLost)
}

func TestStreamOfNotifications(t *testing.T) {
	s := newWebServer(t, false)
	s.stream = make(chan string)
	p, rec := dialWeb(t, s, shannon.EraLegacy)
	streams := func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.streams }
	s.stream <- "id: e1\nretry: 10\ndata: " + string(wire.AppendNotification(nil, toolsChanged, nil)) + "\n\n"
	eventually(t, "a notification", func() bool { return rec.count(toolsChanged) == 1 })
	s.stream <- "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"}\n\ndata: rubbish\n\n"
	eventually(t, "the answer to a ping", func() bool {
		return s.saw(func(r seenRequest) bool { return r.body == `{"jsonrpc":"2.0","id":7,"result":{}}` })
	})
	s.stream <- "" // the server closes the stream
	eventually(t, "another stream", func() bool { return streams() == 2 })
	if !s.saw(func(r seenRequest) bool { return r.verb == http.MethodGet && r.header.Get("Last-Event-ID") == "e1" }) {
		t.Error("the stream was opened again without Last-Event-ID")
	}
	// Progress that strays to this stream still finds its call.
	got := make(chan string, 1)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	r := request(t, "tools/call", `{"name":"slow","_meta":{"progressToken":"mine"}}`)
	wg.Go(func() {
		_, _ = p.Call(ctx, r, sinkFunc(func(n wire.Notification) { got <- string(n.Raw) }))
	})
	var id string
	eventually(t, "the call", func() bool {
		return s.saw(func(r seenRequest) bool {
			e, _ := wire.Scan([]byte(r.body))
			id = string(e.Get(wire.FieldID))
			return r.method == "tools/call"
		})
	})
	s.stream <- fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":%s,\"progress\":1}}\n\n", id)
	if n := <-got; !strings.Contains(n, `"mine"`) {
		t.Errorf("progress: %s", n)
	}
	cancel()
	wg.Wait()
	// A stream that was there and is not found any more means a lost session.
	s.loseSessions()
	s.stream <- ""
	eventually(t, "another session", func() bool { return s.opened() == 2 && streams() == 3 })
}

func TestModernListen(t *testing.T) {
	s := newWebServer(t, true)
	s.stream = make(chan string)
	_, rec := dialWeb(t, s, shannon.EraModern)
	if rec.count(toolsChanged) != 0 {
		t.Error("a change was announced at the start")
	}
	s.stream <- "" // cuts the subscription
	eventually(t, "the announcement after a drop", func() bool { return rec.count(toolsChanged) == 1 })
	if rec.count(methodAcknowledged) != 0 {
		t.Error("the acknowledgement leaked")
	}
	if !s.saw(func(r seenRequest) bool {
		return r.method == "subscriptions/listen" && strings.Contains(r.body, `"notifications":{"toolsListChanged":true}`)
	}) {
		t.Errorf("nobody listened in %+v", s.requests)
	}
}

func TestClosedPeer(t *testing.T) {
	for _, era := range bothEras {
		s := newWebServer(t, true)
		p, _ := dialWeb(t, s, era)
		failed := make(chan error, 1)
		r := toolCall(t, "slow")
		go func() {
			_, err := p.Call(context.Background(), r, nil)
			failed <- err
		}()
		eventually(t, "the call", func() bool { return s.saw(func(r seenRequest) bool { return r.method == "tools/call" }) })
		if err := closePeer(t, p); err != nil {
			t.Errorf("close: %v", err)
		}
		wantCode(t, <-failed, shannon.CodeServerDown)
		_, err := p.Call(t.Context(), toolCall(t, "json"), nil)
		wantCode(t, err, shannon.CodeServerDown)
		if err := closePeer(t, p); err != nil {
			t.Errorf("close again: %v", err)
		}
	}
}

func TestHeaderValue(t *testing.T) {
	for in, want := range map[string]string{
		"us-west1": "us-west1", "": "", "a b\tc": "a b\tc",
		"Hello, 世界": "=?base64?SGVsbG8sIOS4lueVjA==?=", " padded ": "=?base64?IHBhZGRlZCA=?=",
		"line1\nline2": "=?base64?bGluZTEKbGluZTI=?=", "=?base64?literal?=": "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=",
	} {
		if got := headerValue(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]*RetryAfter{
		"": nil, "soon": nil, "-1": nil, "120": {2 * time.Minute},
		"Sun, 22 Nov 2026 12:00:30 GMT": {30 * time.Second}, "Sun, 22 Nov 2026 11:00:00 GMT": {0},
	} {
		if got := retryAfter(in, now); !cmp.Equal(got, want) {
			t.Errorf("%q: got %v, want %v", in, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff{first: time.Second}
		for _, tt := range []struct{ lasted, atLeast, want time.Duration }{
			{0, 0, time.Second},
			{0, 0, 2 * time.Second},
			{0, 10 * time.Second, 10 * time.Second},
			{0, 0, 8 * time.Second},
			{0, 0, 16 * time.Second},
			{0, 0, 32 * time.Second},
			{0, 0, time.Minute},
			{0, 0, time.Minute},
			{time.Hour, 0, time.Second},
		} {
			begun := time.Now()
			if !b.wait(t.Context(), tt.lasted, tt.atLeast) || time.Since(begun) != tt.want {
				t.Errorf("waited %s, want %s", time.Since(begun), tt.want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if b.wait(ctx, 0, 0) {
			t.Error("waited beyond the context")
		}
	})
}
