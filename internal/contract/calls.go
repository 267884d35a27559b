package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
)

func testTools(t *testing.T, s *suite) {
	srv := s.server("tooled")
	srv.Enabled, srv.Start = true, shannon.StartLazy
	s.add(t, srv)
	one, err := s.m.Tools(s.ctx, "tooled")
	if err != nil {
		t.Fatalf("a lazy server was not connected for its tools: %v", err)
	}
	checkTools(t, s, one)
	all, err := s.m.Tools(s.ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	checkTools(t, s, all)
}

func checkTools(t *testing.T, s *suite, tools []shannon.Tool) {
	t.Helper()
	for _, tool := range tools {
		if tool.Name != s.Tool.Name {
			continue
		}
		if tool.Server != "tooled" || tool.PublicName != "tooled__"+tool.Name {
			t.Errorf("tool of server %q has the public name %q", tool.Server, tool.PublicName)
		}
		if object(t, tool.Definition)["name"] != tool.Name || object(t, tool.Definition)["inputSchema"] == nil {
			t.Errorf("its definition is %s", tool.Definition)
		}
		return
	}
	t.Errorf("tool %s is not among %s", s.Tool.Name, text(t, tools))
}

func testCall(t *testing.T, s *suite) {
	s.connected(t, "one")
	for _, args := range []string{s.Tool.In, " " + s.Tool.In + "\n"} {
		got, err := s.m.CallTool(s.ctx, "one", s.Tool.Name, json.RawMessage(args))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != s.Tool.Out {
			t.Errorf("the result is not that of the server:\n got %s\nwant %s", got, s.Tool.Out)
		}
	}
}

func testCallFails(t *testing.T, s *suite) {
	s.connected(t, "one")
	_, err := s.m.CallTool(s.ctx, "one", s.Fails.Name, json.RawMessage(s.Fails.In))
	wantCode(t, "a tool that fails", err, shannon.CodeCallFailed)
	if e, ok := errors.AsType[*shannon.Error](err); !ok || !bytes.Equal(e.RPC, []byte(s.Fails.Out)) || e.MayHaveRun {
		t.Errorf("the error is not that of the server: %+v", err)
	}
	_, err = s.m.CallTool(s.ctx, "one", "no-such-tool", nil)
	wantCode(t, "a tool that is not there", err, shannon.CodeUnknownTool)
	for _, args := range []string{`{"a":`, `{} {}`, `[1]`, `"x"`} {
		_, err = s.m.CallTool(s.ctx, "one", s.Tool.Name, json.RawMessage(args))
		wantCode(t, "arguments "+args, err, shannon.CodeInvalidRequest)
	}
}

func testCallEnds(t *testing.T, s *suite) {
	s.connected(t, "one")
	tests := []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelFunc)
		want error
		code shannon.Code
	}{
		{"canceled", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(100*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled, shannon.CodeCanceled},
		{"out of time", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*time.Millisecond)
		}, context.DeadlineExceeded, shannon.CodeTimeout},
	}
	for _, tt := range tests {
		within(t, "the end of a call that was "+tt.name, func() {
			ctx, cancel := tt.end(s.ctx)
			defer cancel()
			_, err := s.m.CallTool(ctx, "one", s.Slow, nil)
			if !errors.Is(err, tt.want) && shannon.CodeOf(err) != tt.code {
				t.Errorf("%s: error %v of code %s", tt.name, err, shannon.CodeOf(err))
			}
		})
	}
	if got, err := s.m.CallTool(s.ctx, "one", s.Tool.Name, json.RawMessage(s.Tool.In)); err != nil || string(got) != s.Tool.Out {
		t.Errorf("the next call: %s, %v", got, err)
	}
	if _, err := s.m.UpdateServer(s.ctx, "one", json.RawMessage(`{"timeout":0.2}`)); err != nil {
		t.Fatal(err)
	}
	s.connect(t, "one")
	within(t, "the server's own timeout", func() {
		_, err := s.m.Request(s.ctx, "one", "tools/call", json.RawMessage(`{"name":"`+s.Slow+`","arguments":{}}`))
		wantCode(t, "the server's own timeout", err, shannon.CodeTimeout)
	})
}

func testRequest(t *testing.T, s *suite) {
	s.connected(t, "one")
	got, err := s.m.Request(s.ctx, "one", s.Request.Name, json.RawMessage(s.Request.In))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != s.Request.Out {
		t.Errorf("the result is not that of the server:\n got %s\nwant %s", got, s.Request.Out)
	}
	_, err = s.m.Request(s.ctx, "one", "contract/no-such-method", nil)
	wantCode(t, "a method that is not there", err, shannon.CodeCallFailed)
	_, err = s.m.Request(s.ctx, "one", s.Request.Name, json.RawMessage(`{"a"`))
	wantCode(t, "params that are not JSON", err, shannon.CodeInvalidRequest)
	_, err = s.m.Request(s.ctx, "one", "", nil)
	wantCode(t, "no method", err, shannon.CodeInvalidRequest)
}

func testNotify(t *testing.T, s *suite) {
	s.connected(t, "one")
	if err := s.m.Notify(s.ctx, "one", "notifications/contract", json.RawMessage(`{"n":9007199254740993}`)); err != nil {
		t.Error(err)
	}
	if err := s.m.Notify(s.ctx, "one", "notifications/contract", nil); err != nil {
		t.Error(err)
	}
	wantCode(t, "params that are not JSON", s.m.Notify(s.ctx, "one", "notifications/contract", json.RawMessage(`{`)), shannon.CodeInvalidRequest)
	if _, err := s.m.Disconnect(s.ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if err := s.m.Notify(s.ctx, "one", "notifications/contract", nil); err == nil {
		t.Error("a notification went to a server that is not connected")
	}
}

// testUnknownServer asks every method for a server that is not there, also by
// names that could be taken for something else.
func testUnknownServer(t *testing.T, s *suite) {
	s.add(t, s.server("real"))
	for _, name := range []string{"nobody", ".", "..", "a/b", "../real", "%2e", "real/status", "re al", "réal", "a?b#c"} {
		asks := map[string]func() error{
			"Server":       func() error { _, err := s.m.Server(s.ctx, name); return err },
			"UpdateServer": func() error { _, err := s.m.UpdateServer(s.ctx, name, json.RawMessage(`{"title":"x"}`)); return err },
			"RemoveServer": func() error { return s.m.RemoveServer(s.ctx, name) },
			"Connect":      func() error { _, err := s.m.Connect(s.ctx, name); return err },
			"Disconnect":   func() error { _, err := s.m.Disconnect(s.ctx, name); return err },
			"Restart":      func() error { _, err := s.m.Restart(s.ctx, name); return err },
			"Status":       func() error { _, err := s.m.Status(s.ctx, name); return err },
			"Tools":        func() error { _, err := s.m.Tools(s.ctx, name); return err },
			"CallTool":     func() error { _, err := s.m.CallTool(s.ctx, name, "x", nil); return err },
			"Request":      func() error { _, err := s.m.Request(s.ctx, name, "ping", nil); return err },
			"Notify":       func() error { return s.m.Notify(s.ctx, name, "notifications/x", nil) },
			"Logs":         func() error { return lastError(s.m.Logs(s.ctx, name, shannon.LogFilter{})) },
			"Logs, followed": func() error {
				return lastError(s.m.Logs(s.ctx, name, shannon.LogFilter{Follow: true}))
			},
		}
		for method, ask := range asks {
			within(t, method, func() { wantCode(t, fmt.Sprintf("%s of %q", method, name), ask(), shannon.CodeUnknownServer) })
		}
	}
	_, err := s.m.Server(s.ctx, "")
	wantCode(t, "no name at all", err, shannon.CodeUnknownServer)
}

// lastError reads a sequence to its end.
func lastError[T any](seq func(func(T, error) bool)) (last error) {
	for _, err := range seq {
		last = err
	}
	return last
}

// testConcurrent does everything at once. What it looks for is found by the race
// detector, by results that are somebody else's, and by hanging.
func testConcurrent(t *testing.T, s *suite) {
	s.connected(t, "shared")
	within(t, "everything at once", func() {
		var wg sync.WaitGroup
		for i := range 8 {
			name := fmt.Sprintf("own%d", i)
			wg.Go(func() { s.lifeOf(t, name) })
			wg.Go(func() {
				for range 5 {
					got, err := s.m.CallTool(s.ctx, "shared", s.Tool.Name, json.RawMessage(s.Tool.In))
					if err != nil || string(got) != s.Tool.Out {
						t.Errorf("call: %s, %v", got, err)
					}
				}
			})
			wg.Go(func() {
				if err := lastError(s.m.Events(s.ctx, shannon.EventFilter{})); err != nil {
					t.Errorf("events: %v", err)
				}
				if st, err := s.m.Connect(s.ctx, "shared"); err != nil || st.State != shannon.StateConnected {
					t.Errorf("connect: %s, %v", st.State, err)
				}
			})
		}
		wg.Wait()
	})
	all, err := s.m.ListServers(s.ctx, shannon.ServerFilter{})
	if err != nil || names(all) != "shared" {
		t.Errorf("there remain %q, %v", names(all), err)
	}
}

// lifeOf is the life of a server, short.
func (s *suite) lifeOf(t *testing.T, name string) {
	if _, err := s.m.AddServer(s.ctx, s.server(name)); err != nil {
		t.Errorf("add %s: %v", name, err)
		return
	}
	if _, err := s.m.UpdateServer(s.ctx, name, json.RawMessage(`{"title":"`+name+`"}`)); err != nil {
		t.Errorf("update %s: %v", name, err)
	}
	if srv, err := s.m.Server(s.ctx, name); err != nil || srv.Title != name {
		t.Errorf("get %s: title %q, %v", name, srv.Title, err)
	}
	if _, err := s.m.Status(s.ctx, name); err != nil {
		t.Errorf("status of %s: %v", name, err)
	}
	if err := s.m.RemoveServer(s.ctx, name); err != nil {
		t.Errorf("remove %s: %v", name, err)
	}
}
