package edge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shannon-mcp/shannon/internal/wire"
)

func mustRequest(ctx context.Context, h http.Header, body string) *http.Request {
	req, err := http.NewRequestWithContext(ctx, "POST", "http://x/mcp", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header = h
	return req
}

// eras runs a test with the headers and the body of a call in each era.
func eras(t *testing.T, o Options, b func() *fake, run func(t *testing.T, s *rig, h func(pairs ...string) http.Header, body string)) {
	t.Run("legacy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newRig(t, o, b())
			id := s.initialize("2025-11-25")
			run(t, s, func(pairs ...string) http.Header { return heads(append(pairs, headerSession, id)...) }, toolCall("1"))
		})
	})
	t.Run("modern", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			run(t, newRig(t, o, b()), func(pairs ...string) http.Header { return modern("tools/call", "t", pairs...) },
				modernCall("1", "tools/call", `"name":"t",`))
		})
	})
}

func TestReplyBecomesStream(t *testing.T) {
	b := func() *fake {
		return &fake{handle: func(_ context.Context, _ *wire.Request, sink wire.Sink) (wire.Reply, error) {
			for i := range 3 {
				sink.Deliver(progress("1", i))
			}
			return reply("{\"a\":\n[1,\r\n2]}")
		}}
	}
	eras(t, Options{}, b, func(t *testing.T, s *rig, h func(...string) http.Header, body string) {
		e := newEvents(t, s.open(t.Context(), "POST", "/mcp", h(), body))
		for i := range 3 {
			if m := e.next(); m != string(progress("1", i).Raw) {
				t.Errorf("got %s", m)
			}
		}
		if m := e.next(); !strings.Contains(m, `"a": [1,  2]`) || !strings.Contains(m, `"id":1,`) {
			t.Errorf("got %s", m)
		}
		if m := e.next(); m != "" {
			t.Errorf("behind the reply: %s", m)
		}
		e.close()
		// Without streams there is JSON, with its line breaks, and no progress.
		a := s.do("POST", "/mcp", h("Accept", "application/json"), body)
		if a.header.Get("Content-Type") != "application/json" || !strings.Contains(a.body, "{\"a\":\n[1,\r\n2]}") &&
			!strings.Contains(a.body, "\"a\":\n[1,\r\n2]}") {
			t.Errorf("JSON: %v %q", a.header, a.body)
		}
	})
}

func TestOnlyEventsAccepted(t *testing.T) {
	eras(t, Options{}, func() *fake { return &fake{} }, func(t *testing.T, s *rig, h func(...string) http.Header, body string) {
		e := newEvents(t, s.open(t.Context(), "POST", "/mcp", h("Accept", "text/event-stream"), body))
		defer e.close()
		if m := e.next(); !strings.Contains(m, `"result"`) {
			t.Errorf("got %s", m)
		}
	})
}

func TestQuietReplyBecomesStream(t *testing.T) {
	b := func() *fake {
		return &fake{handle: func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
			time.Sleep(31 * time.Second)
			return reply(`{}`)
		}}
	}
	eras(t, Options{}, b, func(t *testing.T, s *rig, h func(...string) http.Header, body string) {
		start := time.Now()
		res := s.open(t.Context(), "POST", "/mcp", h(), body)
		defer res.Body.Close()
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("silent for %v", d)
		}
		text, _ := io.ReadAll(res.Body)
		if !strings.HasPrefix(string(text), ":\n\nevent: message\ndata: {") || time.Since(start) != 31*time.Second {
			t.Errorf("%q after %v", text, time.Since(start))
		}
		start = time.Now()
		if a := s.do("POST", "/mcp", h("Accept", "application/json"), body); a.header.Get("Content-Type") != "application/json" || time.Since(start) != 31*time.Second {
			t.Errorf("JSON only: %v", a)
		}
	})
}

func TestSlowReaderLosesProgressOnly(t *testing.T) {
	const n = 20_000
	fill := strings.Repeat("x", 1000)
	b := func() *fake {
		return &fake{handle: func(_ context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
			if r.Method == "tools/call" {
				for i := range n {
					note := progress(`"`+fill+`"`, i)
					sink.Deliver(note)
				}
			}
			return echo(r)
		}}
	}
	eras(t, Options{}, b, func(t *testing.T, s *rig, h func(...string) http.Header, body string) {
		start := time.Now()
		res := s.open(t.Context(), "POST", "/mcp", h(), body)
		synctest.Wait() // the call is done, the client has read nothing
		s.edge.mu.Lock()
		for x := range s.edge.exchanges {
			x.feed.mu.Lock()
			if x.feed.size > maxQueuedBytes || len(x.feed.queue) > maxQueued {
				t.Errorf("%d bytes wait", x.feed.size)
			}
			x.feed.mu.Unlock()
		}
		s.edge.mu.Unlock()
		time.Sleep(50 * time.Second) // slow, but within its patience
		e := newEvents(t, res)
		defer e.close()
		var last string
		count := 0
		for m := e.next(); m != ""; m = e.next() {
			last = m
			count++
		}
		if !strings.Contains(last, `"result"`) || count < 2 || count > 3*maxQueued {
			t.Errorf("%d messages, the last one %.100s, after %v", count, last, time.Since(start))
		}
	})
}

func TestReaderThatNeverReads(t *testing.T) {
	b := func() *fake {
		return &fake{handle: func(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
			if string(r.Get(wire.FieldID)) != "1" {
				return echo(r)
			}
			for i := range 5 {
				sink.Deliver(progress("1", i))
				time.Sleep(time.Second)
			}
			return reply(`{"text":"` + strings.Repeat("x", 1<<20) + `"}`)
		}}
	}
	eras(t, Options{Patience: time.Minute}, b, func(t *testing.T, s *rig, h func(...string) http.Header, body string) {
		for _, accept := range []string{"application/json", "application/json, text/event-stream"} {
			conn, err := s.pipes.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			head := h("Accept", accept)
			head.Set("Content-Length", fmt.Sprint(len(body)))
			var raw strings.Builder
			_ = head.Write(&raw)
			w := bufio.NewWriter(conn)
			fmt.Fprintf(w, "POST /mcp HTTP/1.1\r\nHost: x\r\n%s\r\n%s", raw.String(), body)
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			start := time.Now()
			other := strings.Replace(body, `"id":1`, `"id":2`, 1)
			if a := s.do("POST", "/mcp", h(), other); a.status != 200 || a.rpc(t) != 0 || time.Since(start) != 0 {
				t.Errorf("another call: %d %s after %v", a.status, a.body, time.Since(start))
			}
			time.Sleep(time.Minute) // its patience ends
			synctest.Wait()
			s.edge.mu.Lock()
			if n := len(s.edge.exchanges); n != 0 {
				t.Errorf("%s: %d exchanges are left", accept, n)
			}
			s.edge.mu.Unlock()
			conn.Close()
		}
	})
}

func TestSenderThatNeverSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, Options{Patience: time.Minute}, &fake{})
		conn, err := s.pipes.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
		start := time.Now()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 400 || time.Since(start) != time.Minute {
			t.Errorf("%d after %v", res.StatusCode, time.Since(start))
		}
	})
}

func TestChunkedBody(t *testing.T) {
	s := newRig(t, Options{MaxMessage: 300}, &fake{})
	id := s.initialize("2025-11-25")
	for size, want := range map[int]int{10: 200, 300: 413} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://x/mcp",
			io.MultiReader(strings.NewReader(ping), strings.NewReader(strings.Repeat(" ", size))))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = heads(headerSession, id)
		res, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%d more bytes: %d", size, res.StatusCode)
		}
	}
}

func TestCloseCutsOff(t *testing.T) {
	b := func() *fake {
		return &fake{handle: func(ctx context.Context, _ *wire.Request, sink wire.Sink) (wire.Reply, error) {
			sink.Deliver(progress("1", 1))
			<-ctx.Done()
			return wire.Reply{}, context.Cause(ctx)
		}}
	}
	eras(t, Options{}, b, func(t *testing.T, s *rig, h func(...string) http.Header, body string) {
		reading := s.open(t.Context(), "POST", "/mcp", h(), body)
		defer reading.Body.Close()
		conn, err := s.pipes.dial(t.Context()) // one that stops in the middle of its request
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(io.Discard, conn) })
		if err := s.edge.Close(ctx); err == nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		conn.Close()
		wg.Wait()
	})
}

func TestBackendPanics(t *testing.T) {
	b := func() *fake {
		return &fake{handle: func(_ context.Context, _ *wire.Request, sink wire.Sink) (wire.Reply, error) {
			sink.Deliver(progress("1", 1))
			panic(http.ErrAbortHandler)
		}}
	}
	eras(t, Options{}, b, func(t *testing.T, s *rig, h func(...string) http.Header, body string) {
		if res, err := s.client.Do(mustRequest(t.Context(), h(), body)); err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		synctest.Wait()
		if n := len(s.edge.exchanges); n != 0 {
			t.Errorf("%d exchanges are left", n)
		}
	})
}

func TestFeedIsBounded(t *testing.T) {
	var f feed
	put := func(method, raw string) { f.put(wire.Notification{Method: method, Raw: []byte(raw)}) }
	put("notifications/tools/list_changed", "a")
	for i := range 10 * maxQueued {
		put("notifications/message", fmt.Sprint(i))
		put("notifications/resources/updated", "same")
		put("notifications/tools/list_changed", "b")
	}
	batch, _, _ := f.take()
	if len(batch) != maxQueued || string(batch[0].Raw) != "a" || string(batch[maxQueued-1].Raw) != fmt.Sprint(10*maxQueued-1) &&
		string(batch[maxQueued-2].Raw) != fmt.Sprint(10*maxQueued-1) {
		t.Errorf("%d: %s … %s", len(batch), batch[0].Raw, batch[len(batch)-1].Raw)
	}
	large := strings.Repeat("x", maxQueuedBytes/2+1)
	put("m", large)
	put("m", large)
	put("m", strings.Repeat("y", 2*maxQueuedBytes))
	if batch, _, _ := f.take(); len(batch) != 1 || batch[0].Raw[0] != 'y' {
		t.Errorf("%d", len(batch))
	}
	f.end([]byte("last"))
	f.end([]byte("again"))
	if f.put(wire.Notification{}) {
		t.Error("an ended feed takes more")
	}
	if _, last, ended := f.take(); string(last) != "last" || !ended {
		t.Errorf("%s %v", last, ended)
	}
}
