package edge

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`

func toolCall(id string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":` + id + `}}}`
}

func TestInitialize(t *testing.T) {
	for _, c := range []struct{ asked, got string }{
		{"2024-11-05", "2024-11-05"},
		{"2025-03-26", "2025-03-26"},
		{"2025-06-18", "2025-06-18"},
		{"2025-11-25", "2025-11-25"},
		{"2026-07-28", "2025-11-25"},
		{"1999-01-01", "2025-11-25"},
		{"", "2025-11-25"},
	} {
		t.Run(c.asked, func(t *testing.T) {
			s := newRig(t, Options{}, &fake{})
			a := s.post(heads(), `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+c.asked+
				`","capabilities":{"roots":{ }},"clientInfo":{"name":"é","x":1.0}}}`)
			want := `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"` + c.got + `","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true}},` +
				`"serverInfo":{"name":"fake","version":"1", "x":1.10},"instructions":"be \"good\""}}`
			if a.status != 200 || a.body != want {
				t.Fatalf("got  %d %s\nwant %s", a.status, a.body, want)
			}
			id := a.header.Get(headerSession)
			if !regexp.MustCompile(`^[!-~]{26,}$`).MatchString(id) {
				t.Errorf("session id %q", id)
			}
			s.post(heads(headerSession, id, "X-Principal", ""), toolCall("1"))
			got := *s.b.clients[0]
			wantClient := wire.Client{
				Era: shannon.EraLegacy, Version: c.got, Affinity: id,
				Info: []byte(`{"name":"é","x":1.0}`), Capabilities: []byte(`{"roots":{ }}`),
			}
			if diff := cmp.Diff(wantClient, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestInitializeFails(t *testing.T) {
	b := &fake{describe: func(context.Context) (wire.Info, error) {
		return wire.Info{}, shannon.Errorf(shannon.CodeServerDown, "start it", "it is down")
	}}
	s := newRig(t, Options{}, b)
	a := s.post(heads(), `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`)
	if a.status != 200 || a.rpc(t) != -32603 || !strings.Contains(a.body, "start it") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if n := len(s.edge.sessions); n != 0 {
		t.Errorf("%d sessions", n)
	}
}

func TestSessionIsBound(t *testing.T) {
	s := newRig(t, Options{}, &fake{})
	id := s.initialize("2025-11-25", "X-Principal", "alice")
	for _, c := range []struct {
		path, principal, id string
		status              int
	}{
		{"/mcp", "alice", id, 200},
		{"/mcp", "bob", id, 404},
		{"/mcp", "", id, 404},
		{"/other", "alice", id, 404},
		{"/mcp", "alice", strings.ToLower(id), 404},
		{"/mcp", "alice", id + "x", 404},
	} {
		for _, method := range []string{"POST", "DELETE"} {
			if method == "DELETE" && c.status == 200 {
				continue
			}
			body := ping
			if method == "DELETE" {
				body = ""
			}
			a := s.do(method, c.path, heads(headerSession, c.id, "X-Principal", c.principal), body)
			if a.status != c.status {
				t.Errorf("%s %+v: %d", method, c, a.status)
			}
		}
	}
	h := heads(headerSession, id, "X-Principal", "alice")
	if a := s.do("DELETE", "/mcp", h, ""); a.status != 204 {
		t.Errorf("delete: %d", a.status)
	}
	for method, body := range map[string]string{"POST": ping, "GET": "", "DELETE": ""} {
		if a := s.do(method, "/mcp", h, body); a.status != 404 {
			t.Errorf("%s after delete: %d", method, a.status)
		}
	}
	if n := s.b.watching(); n != 0 {
		t.Errorf("%d still watch", n)
	}
}

func TestDropEndsTheEndpoint(t *testing.T) {
	started := make(chan struct{}, 2)
	b := &fake{handle: func(ctx context.Context, _ *wire.Request, _ wire.Sink) (wire.Reply, error) {
		started <- struct{}{}
		<-ctx.Done()
		return wire.Reply{}, ctx.Err()
	}}
	s := newRig(t, Options{}, b)
	id := s.initialize("2025-11-25")
	var wg sync.WaitGroup
	wg.Go(func() {
		if a := s.post(heads(headerSession, id), toolCall("1")); a.rpc(t) != -32603 || !strings.Contains(a.body, "session has ended") {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	stream := newEvents(t, s.open(t.Context(), "GET", "/mcp", heads(headerSession, id), ""))
	listening := newEvents(t, s.open(t.Context(), "POST", "/mcp", modern("subscriptions/listen", ""), listenCall("1")))
	<-started
	s.edge.Drop("/other")
	if a := s.post(heads(headerSession, id), strings.Replace(ping, `"id":1`, `"id":2`, 1)); a.status != 200 {
		t.Errorf("another endpoint's drop: %d", a.status)
	}
	s.edge.Drop("/mcp")
	wg.Wait()
	if m := stream.next(); m != "" {
		t.Errorf("stream: %s", m)
	}
	if m := listening.next(); !strings.Contains(m, "acknowledged") {
		t.Errorf("listen: %s", m)
	}
	if m := listening.next(); !strings.Contains(m, `"resultType":"complete"`) {
		t.Errorf("listen: %s", m)
	}
	if a := s.post(heads(headerSession, id), ping); a.status != 404 {
		t.Errorf("after drop: %d", a.status)
	}
}

func TestCancelByID(t *testing.T) {
	for _, id := range []string{`1`, `"1"`, `1.0`, `"a\"b"`} {
		t.Run(id, func(t *testing.T) {
			started, causes := make(chan struct{}), make(chan error, 1)
			b := &fake{handle: func(ctx context.Context, _ *wire.Request, _ wire.Sink) (wire.Reply, error) {
				close(started)
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return wire.Reply{}, ctx.Err()
			}}
			s := newRig(t, Options{}, b)
			ss, stranger := s.initialize("2025-06-18"), s.initialize("2025-06-18")
			var wg sync.WaitGroup
			wg.Go(func() {
				if a := s.post(heads(headerSession, ss), toolCall(id)); a.rpc(t) != -32603 || !strings.Contains(a.body, "cancelled") {
					t.Errorf("%d %s", a.status, a.body)
				}
			})
			<-started
			cancel := func(session, id string) {
				s.post(heads(headerSession, session), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`)
			}
			cancel(stranger, id) // another session with the same id
			cancel(ss, `"other"`)
			cancel(ss, `1.00`)
			select {
			case err := <-causes:
				t.Fatalf("cancelled by what does not name it: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
			cancel(ss, id)
			if err := <-causes; !errors.Is(err, errCancelled) {
				t.Errorf("cause: %v", err)
			}
			wg.Wait()
		})
	}
}

func TestIDInUse(t *testing.T) {
	release := make(chan struct{})
	started := make(chan struct{})
	b := &fake{handle: func(_ context.Context, r *wire.Request, _ wire.Sink) (wire.Reply, error) {
		if r.Method == "tools/call" {
			close(started)
			<-release
		}
		return echo(r)
	}}
	s := newRig(t, Options{}, b)
	one, two := s.initialize("2025-06-18"), s.initialize("2025-06-18")
	var wg sync.WaitGroup
	wg.Go(func() {
		if a := s.post(heads(headerSession, one), toolCall("7")); a.status != 200 || a.rpc(t) != 0 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	<-started
	list := func(id string) string { return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/list"}` }
	if a := s.post(heads(headerSession, one), list("7")); a.status != 400 || a.rpc(t) != -32600 || !strings.Contains(a.body, `"id":7`) {
		t.Errorf("same id: %d %s", a.status, a.body)
	}
	for _, c := range []struct{ session, id string }{{one, `"7"`}, {one, "8"}, {two, "7"}} {
		if a := s.post(heads(headerSession, c.session), list(c.id)); a.rpc(t) != 0 {
			t.Errorf("%v: %s", c, a.body)
		}
	}
	close(release)
	wg.Wait()
	if a := s.post(heads(headerSession, one), list("7")); a.rpc(t) != 0 {
		t.Errorf("the id again: %s", a.body)
	}
}

func TestBrokenConnectionIsNoCancel(t *testing.T) {
	started, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	b := &fake{handle: func(ctx context.Context, _ *wire.Request, sink wire.Sink) (wire.Reply, error) {
		close(started)
		<-release
		sink.Deliver(progress("1", 1))
		done <- ctx.Err()
		return reply(`{}`)
	}}
	s := newRig(t, Options{}, b)
	id := s.initialize("2025-11-25")
	ctx, hangUp := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		req := mustRequest(ctx, heads(headerSession, id), toolCall("1"))
		if res, err := s.client.Do(req); err == nil {
			res.Body.Close()
			t.Error("an answer")
		}
	})
	<-started
	hangUp()
	wg.Wait()
	time.Sleep(10 * time.Millisecond) // the server notices
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the call was cancelled: %v", err)
	}
	if a := s.post(heads(headerSession, id), strings.Replace(ping, `"id":1`, `"id":2`, 1)); a.status != 200 {
		t.Errorf("the session: %d", a.status)
	}
}

func TestBatch(t *testing.T) {
	s := newRig(t, Options{}, &fake{})
	id := s.initialize(batchVersion)
	a := s.post(heads(headerSession, id), ` [`+ping+` , {"jsonrpc":"2.0","method":"notifications/x"}, 7, {"jsonrpc":"2.0","id":2,"result":{}},
		{"jsonrpc":"2.0","id":"b","method":"tools/list"}, {"jsonrpc":"2.0","id":3,"method":"initialize"}, {"jsonrpc":"2.0","id":4,"method":"nope"}]`)
	want := `[{"jsonrpc":"2.0","id":1,"result":{}},` +
		`{"jsonrpc":"2.0","error":{"code":-32600,"message":"invalid request: the message is not an object"}},` +
		`{"jsonrpc":"2.0","id":"b","result":{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}},` +
		`{"jsonrpc":"2.0","id":3,"error":{"code":-32601,"message":"method \"initialize\" is not part of a session"}},` +
		`{"jsonrpc":"2.0","id":4,"error":{"code":-32601,"message":"method not found: nope"}}]`
	if a.status != 200 || a.body != want {
		t.Errorf("got  %d %s\nwant %s", a.status, a.body, want)
	}
	if a := s.post(heads(headerSession, id), `[{"jsonrpc":"2.0","method":"notifications/y"},{"jsonrpc":"2.0","id":2,"result":{}}]`); a.status != 202 || a.body != "" {
		t.Errorf("no requests: %d %s", a.status, a.body)
	}
	if a := s.post(heads(headerSession, id), "["+strings.Repeat(ping+",", maxBatch)+ping+"]"); a.status != 400 || a.rpc(t) != -32600 {
		t.Errorf("too many: %d %s", a.status, a.body)
	}
	if diff := cmp.Diff([]string{"notifications/x", "notifications/y"}, s.b.notified); diff != "" {
		t.Error(diff)
	}
	res := s.open(t.Context(), "POST", "/mcp", heads(headerSession, id, "Accept", "text/event-stream"), "["+ping+"]")
	if m := newEvents(t, res).next(); m != `[{"jsonrpc":"2.0","id":1,"result":{}}]` {
		t.Errorf("as events: %s", m)
	}
	res.Body.Close()
}

const toolsChanged = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`

func TestSessionStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, Options{}, &fake{})
		id := s.initialize("2025-11-25")
		open := func() *events {
			return newEvents(t, s.open(t.Context(), "GET", "/mcp", heads(headerSession, id, "Accept", "text/event-stream"), ""))
		}
		// What comes before there is a stream is kept, once.
		for range 3 {
			s.b.announce(toolsChanged)
		}
		s.b.announce(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":1}}`)
		s.b.announce(toolsChanged)
		first := open()
		defer first.close()
		if m := first.next(); m != toolsChanged {
			t.Errorf("kept: %s", m)
		}
		if m := first.next(); !strings.Contains(m, `"data":1`) {
			t.Errorf("kept: %s", m)
		}
		// A line break between tokens does not break the framing, nor the bytes that others share.
		shared := []byte("{\"jsonrpc\":\"2.0\",\n\"method\":\"notifications/x\"}")
		e, err := wire.Scan(shared)
		if err != nil {
			t.Fatal(err)
		}
		s.b.watchers[1](wire.Notification{Method: e.Method, Raw: shared})
		if m := first.next(); m != `{"jsonrpc":"2.0", "method":"notifications/x"}` || shared[16] == ' ' {
			t.Errorf("line break: %q from %q", m, shared)
		}
		// Each goes to one stream: the newest.
		second := open()
		s.b.announce(toolsChanged)
		if m := second.next(); m != toolsChanged {
			t.Errorf("second: %s", m)
		}
		second.close()
		synctest.Wait()
		s.b.announce(`{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`)
		if m := first.next(); !strings.Contains(m, "prompts") {
			t.Errorf("first got %s", m)
		}
		// A session has only so many streams: the oldest ends.
		var more []*events
		for range maxStreams {
			more = append(more, open())
			synctest.Wait()
		}
		if m := first.next(); m != "" {
			t.Errorf("first is still open: %s", m)
		}
		s.do("DELETE", "/mcp", heads(headerSession, id), "")
		for _, e := range more {
			if m := e.next(); m != "" {
				t.Errorf("after delete: %s", m)
			}
			e.close()
		}
	})
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, Options{Heartbeat: 15 * time.Second}, &fake{})
		id := s.initialize("2025-11-25")
		res := s.open(t.Context(), "GET", "/mcp", heads(headerSession, id), "")
		defer res.Body.Close()
		start := time.Now()
		buf := make([]byte, 100)
		for i := range 3 {
			n, err := res.Body.Read(buf)
			if err != nil || string(buf[:n]) != ":\n\n" || time.Since(start) != time.Duration(i+1)*15*time.Second {
				t.Errorf("%q %v after %v", buf[:n], err, time.Since(start))
			}
		}
		for k, want := range map[string]string{"X-Accel-Buffering": "no", "Cache-Control": "no-cache", "Content-Type": "text/event-stream"} {
			if got := res.Header.Get(k); got != want {
				t.Errorf("%s: %q", k, got)
			}
		}
	})
}

func TestIdleSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, Options{SessionIdle: time.Hour}, &fake{})
		idle, used, streaming := s.initialize("2025-11-25"), s.initialize("2025-11-25"), s.initialize("2025-11-25")
		res := s.open(t.Context(), "GET", "/mcp", heads(headerSession, streaming), "")
		defer res.Body.Close()
		go func() { // reads the comments, as a client does
			for buf := make([]byte, 100); ; {
				if _, err := res.Body.Read(buf); err != nil {
					return
				}
			}
		}()
		for range 3 {
			time.Sleep(40 * time.Minute)
			if a := s.post(heads(headerSession, used), ping); a.status != 200 {
				t.Errorf("used: %d", a.status)
			}
		}
		if n := s.b.watching(); n != 3 {
			t.Errorf("%d sessions", n)
		}
		s.initialize("2025-11-25") // looks for idle ones
		if n := s.b.watching(); n != 3 {
			t.Errorf("%d sessions", n)
		}
		for id, want := range map[string]int{idle: 404, used: 200, streaming: 200} {
			if a := s.post(heads(headerSession, id), ping); a.status != want {
				t.Errorf("got %d, want %d", a.status, want)
			}
		}
		time.Sleep(2 * time.Hour)
		if a := s.post(heads(headerSession, used), ping); a.status != 404 {
			t.Errorf("idle at last: %d", a.status)
		}
	})
}

func TestTooManySessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, Options{MaxSessions: 3}, &fake{})
		var ids []string
		for range 3 {
			ids = append(ids, s.initialize("2025-11-25"))
			time.Sleep(time.Second)
		}
		s.post(heads(headerSession, ids[0]), ping)
		time.Sleep(time.Second)
		ids = append(ids, s.initialize("2025-11-25"))
		for i, want := range []int{200, 404, 200, 200} {
			if a := s.post(heads(headerSession, ids[i]), ping); a.status != want {
				t.Errorf("session %d: %d", i, a.status)
			}
		}
		for _, i := range []int{0, 2, 3} {
			res := s.open(t.Context(), "GET", "/mcp", heads(headerSession, ids[i]), "")
			defer res.Body.Close()
		}
		a := s.post(heads(), `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}`)
		if a.status != 503 || a.rpc(t) != -32603 {
			t.Errorf("all in use: %d %s", a.status, a.body)
		}
		if n := s.b.watching(); n != 3 {
			t.Errorf("%d watch", n)
		}
	})
}

func progress(token string, n int) wire.Notification {
	return wire.Notification{
		Method: "notifications/progress",
		Raw:    fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`, token, n),
	}
}

// A legacy client would take input_required for an empty success.
func TestInputRequiredIsNoLegacyResult(t *testing.T) {
	b := &fake{handle: func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
		return reply(`{"resultType":"input_required","inputRequests":{}}`)
	}}
	s := newRig(t, Options{}, b)
	if a := s.post(heads(headerSession, s.initialize("2025-11-25")), toolCall("7")); a.status != 200 || a.rpc(t) != -32603 || !strings.Contains(a.body, `"id":7`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}
