package manager_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
)

// living returns the processes whose environment has that tag.
func living(tag string) (pids []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if env, err := os.ReadFile(f); err == nil && bytes.Contains(env, []byte(tag)) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

// tagged marks a server's processes, and gives it little time.
func tagged(s shannon.Server, tag string) shannon.Server {
	s.Env["SHANNON_TEST_TAG"] = shannon.Secret(tag)
	s.Timeout = shannon.Seconds(2)
	return s
}

// atHandshake is a fault of both first requests.
func atHandshake(f mcptest.Fault) mcptest.Script {
	a, b := f, f
	a.Method, b.Method = "initialize", "server/discover"
	return mcptest.Script{Faults: []mcptest.Fault{a, b}}
}

// TestBadServers takes up servers that fail in every way while a good one works on.
// That each start is begun at once and none waits for another is number 13 of what
// was wrong in the Python manager, that each is asked for its handshake number 1.
func TestBadServers(t *testing.T) {
	t.Parallel()
	garbage := strings.Repeat("this is no JSON\n{\"jsonrpc\":\n\x00\xff\n", 200)
	tests := map[string]struct {
		script mcptest.Script
		codes  []shannon.Code
	}{
		"garbage": {func() mcptest.Script {
			s := atHandshake(mcptest.Fault{Do: mcptest.Silence})
			s.Child.Noise = garbage
			return s
		}(), []shannon.Code{shannon.CodeHandshakeTimeout}},
		"exits":      {mcptest.Script{Child: mcptest.ChildScript{Exit: 3, Stderr: "no such option\n"}}, []shannon.Code{shannon.CodeExited, shannon.CodeCrashLoop}},
		"silent":     {atHandshake(mcptest.Fault{Do: mcptest.Silence}), []shannon.Code{shannon.CodeHandshakeTimeout}},
		"late":       {atHandshake(mcptest.Fault{Do: mcptest.Late, MS: 60_000}), []shannon.Code{shannon.CodeHandshakeTimeout}},
		"another-id": {atHandshake(mcptest.Fault{Do: mcptest.OtherID}), []shannon.Code{shannon.CodeHandshakeTimeout}},
		"huge":       {atHandshake(mcptest.Fault{Do: mcptest.Huge, Bytes: 50 << 20}), []shannon.Code{shannon.CodeTooLarge, shannon.CodeProtocolError}},
		"half":       {atHandshake(mcptest.Fault{Do: mcptest.Crash}), []shannon.Code{shannon.CodeExited, shannon.CodeCrashLoop, shannon.CodeProtocolError}},
		"no-result":  {atHandshake(mcptest.Fault{Do: mcptest.Result, Raw: `"text"`}), []shannon.Code{shannon.CodeProtocolError}},
		"stubborn": {func() mcptest.Script {
			s := atHandshake(mcptest.Fault{Do: mcptest.Silence})
			s.Child.IgnoreTerm, s.Child.IgnoreEOF = true, true
			return s
		}(), []shannon.Code{shannon.CodeHandshakeTimeout}},
		"refuses-all": {atHandshake(mcptest.Fault{Do: mcptest.Error}), []shannon.Code{shannon.CodeProtocolError, shannon.CodeCallFailed}},
	}
	tag := fmt.Sprintf("bad-%d", time.Now().UnixNano())
	m := open(t, t.TempDir())
	began := time.Now()
	for name, tt := range tests {
		s := tagged(fake(t, name, tt.script), tag)
		if name == "huge" {
			s.Timeout, s.RetryDelay = shannon.Seconds(30), shannon.Seconds(60) // reading it takes its time
		}
		if _, err := m.AddServer(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	add(t, m, tagged(fake(t, "loud", mcptest.Script{Child: mcptest.ChildScript{Stderr: garbage, Noise: garbage}}), tag))
	add(t, m, tagged(fake(t, "good", mcptest.Script{}), tag))
	if d := time.Since(began); d > 8*time.Second {
		t.Errorf("good servers waited %s for bad ones", d)
	}
	url := endpoint(t, m)
	c := mcptest.Dial(t, url+"/mcp", mcptest.Options{Timeout: time.Minute})
	c.Open()
	for _, shout := range []string{strings.Repeat(strings.Repeat("x", 1000)+"\n", 5000), strings.Repeat("x", 5<<20)} {
		if _, err := m.CallTool(t.Context(), "loud", "stderr", []byte(fmt.Sprintf(`{"text":%q}`, shout))); err != nil {
			t.Errorf("5 MB of stderr: %v", err)
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	settle := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer settle()
	wg.Go(func() {
		for {
			for _, tool := range []string{"good__echo", "loud__echo"} {
				if r := c.Tool(tool, `{"n":1}`); r.Result == nil {
					t.Errorf("%s while others fail: %s %v", tool, r.Raw, r.Err)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	for name, tt := range tests {
		eventually(t, name+" has a named problem", func() bool {
			rows, err := m.History(t.Context(), shannon.HistoryFilter{Server: name})
			if err != nil {
				t.Fatal(err)
			}
			failed := false
			for _, r := range rows {
				switch r.State {
				case shannon.StateConnected:
					t.Errorf("%s was connected: %+v", name, r)
				case shannon.StateError:
					failed = true
					if !slices.Contains(tt.codes, r.Problem) || r.NextRetry == nil || r.Error == "" {
						t.Errorf("%s: %+v", name, r)
					}
				default:
				}
			}
			return failed
		})
	}
	settle()
	var asked sync.WaitGroup
	for name := range tests {
		asked.Go(func() {
			r := mcptest.Dial(t, url+"/servers/"+name+"/mcp", mcptest.Options{Timeout: time.Minute}).Call("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}`)
			if r.Error == nil {
				t.Errorf("the endpoint of %s answers %s %v", name, r.Raw, r.Err)
			}
		})
	}
	asked.Wait()
	closeNow(t, m)
	if left := living(tag); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// TestBadCalls breaks servers in the middle of calls. The call ends with a named
// problem in time, calls of others go on, and the server works again.
func TestBadCalls(t *testing.T) {
	t.Parallel()
	tests := []struct {
		do      mcptest.Do
		code    shannon.Code // one of those that stand in it; "" means that the call succeeds
		mayRun  bool
		restart bool
	}{
		{mcptest.Silence, shannon.CodeTimeout, true, false},
		{mcptest.Late, shannon.CodeTimeout, true, false},
		{mcptest.OtherID, shannon.CodeTimeout, true, false},
		{mcptest.Huge, shannon.CodeTooLarge, true, false},
		{mcptest.BadUTF8, shannon.CodeProtocolError, true, false},
		{mcptest.Crash, shannon.CodeConnectionLost + " " + shannon.CodeProtocolError, true, true},
		{mcptest.Exit, shannon.CodeConnectionLost, true, true},
		{mcptest.Noise, "", false, false},
		{mcptest.Twice, "", false, false},
	}
	tag := fmt.Sprintf("call-%d", time.Now().UnixNano())
	m := open(t, t.TempDir())
	limit := shannon.Seconds(2)
	for _, version := range []string{"2025-11-25", "2026-07-28"} {
		for _, tt := range tests {
			f := mcptest.Fault{Do: tt.do, Method: "tools/call", Name: "add", Times: 1, MS: 4000, Bytes: 12 << 20, Code: 4, Raw: "garbage"}
			s := tagged(fake(t, string(tt.do)+"-"+version[:4], mcptest.Script{Versions: []string{version}, Faults: []mcptest.Fault{f}}), tag)
			if s.RequestTimeout = &limit; tt.do == mcptest.Huge {
				s.RequestTimeout = nil // reading it takes its time
			}
			s.RetryDelay = shannon.Seconds(0.1)
			add(t, m, s)
		}
	}
	add(t, m, tagged(fake(t, "good", mcptest.Script{}), tag))
	c := mcptest.Dial(t, endpoint(t, m)+"/mcp", mcptest.Options{Timeout: 20 * time.Second})
	c.Open()
	var wg sync.WaitGroup
	for _, version := range []string{"2025", "2026"} {
		for _, tt := range tests {
			wg.Go(func() {
				server := string(tt.do) + "-" + version
				began := time.Now()
				r := c.Tool(server+"__add", `{"a":1,"b":2}`)
				if d := time.Since(began); d > 10*time.Second && tt.do != mcptest.Huge {
					t.Errorf("%s: answered after %s", server, d)
				}
				if tt.code == "" {
					if r.Result == nil {
						t.Errorf("%s: %s %v", server, r.Raw, r.Err)
					}
				} else if got := string(r.Get("error", "data", "code")); !strings.Contains(string(tt.code), strings.Trim(got, `"`)) || got == "" || (string(r.Get("error", "data", "mayHaveRun")) == "true") != tt.mayRun {
					t.Errorf("%s: %.500s %v", server, r.Raw, r.Err)
				}
				eventually(t, server+" works again", func() bool { return c.Tool(server+"__echo", `{"n":1}`).Result != nil })
				if st, err := m.Status(t.Context(), server); err != nil || st.State != shannon.StateConnected || st.Problem != nil || st.LastError != "" {
					t.Errorf("%s: %+v %v", server, st, err)
				}
				rows, err := m.History(t.Context(), shannon.HistoryFilter{Server: server, State: shannon.StateReconnecting})
				if err != nil || (len(rows) > 0) != tt.restart {
					t.Errorf("%s: rows %+v %v", server, rows, err)
				}
			})
		}
	}
	for range 100 {
		if r := c.Tool("good__echo", `{}`); r.Result == nil {
			t.Errorf("a good server: %s %v", r.Raw, r.Err)
		}
	}
	wg.Wait()
	closeNow(t, m)
	if left := living(tag); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// TestGrandchildren is number 10 of what was wrong in the Python manager: a crashed
// child left its own children behind, and its stderr was only logged.
func TestGrandchildren(t *testing.T) {
	t.Parallel()
	tag := fmt.Sprintf("grand-%d", time.Now().UnixNano())
	m := open(t, t.TempDir())
	s := tagged(fake(t, "forker", mcptest.Script{Child: mcptest.ChildScript{Stderr: "last words\n"}}), tag)
	s.RetryDelay = shannon.Seconds(30)
	add(t, m, s)
	if _, err := m.CallTool(t.Context(), "forker", "fork", []byte(`{"n":3,"stubborn":true}`)); err != nil {
		t.Fatal(err)
	}
	if n := len(living(tag)); n != 4 {
		t.Fatalf("%d processes", n)
	}
	if _, err := m.CallTool(t.Context(), "forker", "exit", []byte(`{"code":7}`)); shannon.CodeOf(err) != shannon.CodeConnectionLost {
		t.Errorf("exit: %v", err)
	}
	eventually(t, "the end of all", func() bool { return len(living(tag)) == 0 })
	var rows []shannon.Transition
	eventually(t, "a row of the end", func() bool {
		var err error
		rows, err = m.History(t.Context(), shannon.HistoryFilter{Server: "forker", State: shannon.StateReconnecting})
		return err == nil && len(rows) == 1
	})
	if r := rows[0]; r.ExitCode == nil || *r.ExitCode != 7 || !strings.Contains(r.Stderr, "last words") || r.PID == 0 || r.Cause != "exit" || r.Problem != shannon.CodeExited || r.NextRetry == nil {
		t.Errorf("the row says too little: %+v", r)
	}
}

// TestNothingIsStarted lists and describes everything of a manager that is there for
// one command.
func TestNothingIsStarted(t *testing.T) {
	t.Parallel()
	tag := fmt.Sprintf("passive-%d", time.Now().UnixNano())
	home := t.TempDir()
	m := open(t, home)
	add(t, m, tagged(fake(t, "known", mcptest.Script{Versions: []string{"2025-11-25"}}), tag))
	closeNow(t, m)

	m = openWith(t, configOf(home, func(c *config) { c.Passive = true }))
	if _, err := m.AddServer(t.Context(), tagged(fake(t, "new", mcptest.Script{}), tag)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for what, err := range map[string]error{
			"servers":  second(m.ListServers(t.Context(), shannon.ServerFilter{})),
			"server":   second(m.Server(t.Context(), "known")),
			"statuses": second(m.Statuses(t.Context())),
			"status":   second(m.Status(t.Context(), "known")),
			"summary":  second(m.Summary(t.Context())),
			"history":  second(m.History(t.Context(), shannon.HistoryFilter{})),
			"tools":    second(m.Tools(t.Context(), "")),
			"tools of": second(m.Tools(t.Context(), "known")),
			"set":      second(m.UpdateServer(t.Context(), "new", []byte(`{"title":"x","timeout":9}`))),
			"command":  second(m.UpdateServer(t.Context(), "new", []byte(`{"args":["x"]}`))),
		} {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if pids := living(tag); len(pids) > 0 {
			t.Fatalf("something was started: %v", pids)
		}
	}
	c := mcptest.Dial(t, endpoint(t, m)+"/mcp", mcptest.Options{Timeout: time.Minute})
	c.Open()
	if list := string(c.Call("tools/list", "").Result); !strings.Contains(list, "known__echo") {
		t.Errorf("what is known is not listed: %s", list)
	}
	if pids := living(tag); len(pids) > 0 {
		t.Fatalf("something was started: %v", pids)
	}
	if r := c.Tool("known__echo", `{"n":1}`); r.Result == nil {
		t.Errorf("a call starts nothing: %s %v", r.Raw, r.Err)
	}
	if n := len(living(tag)); n != 1 {
		t.Errorf("%d processes after a call of one", n)
	}
}
