package manager_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
	"github.com/shannon-mcp/shannon/manager"
	"github.com/shannon-mcp/shannon/remote"
)

// serve runs a daemon until stop is called, which returns what it ended with.
func serve(t *testing.T, c config) (m *manager.Manager, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan *manager.Manager, 1), make(chan error, 1)
	go func() {
		ended <- manager.Serve(ctx, c, manager.Options{}, func(m *manager.Manager) { ready <- m })
	}()
	done := false
	stop = func() error {
		cancel()
		done = true
		return <-ended
	}
	t.Cleanup(func() {
		if !done {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
	select {
	case m = <-ready:
	case err := <-ended:
		done = true
		t.Fatalf("serve: %v", err)
	}
	return m, stop
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
	} else if info.Mode().Perm() != want {
		t.Errorf("%s is %o, want %o", path, info.Mode().Perm(), want)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	home := filepath.Join(t.TempDir(), "home")
	m, stop := serve(t, configOf(home, func(c *config) { c.Listen, c.ListenChosen = "127.0.0.1:0", true }))
	for path, mode := range map[string]os.FileMode{
		"": 0o700, "shannon.sock": 0o600, "token": 0o600, "mcp_servers.db": 0o600, "daemon.json": 0o600, "log": 0o700, "run": 0o700,
	} {
		wantMode(t, filepath.Join(home, path), mode)
	}
	d, err := remote.ReadDaemon(home)
	if err != nil || d.PID != os.Getpid() || d.Address == "" || d.Socket != filepath.Join(home, "shannon.sock") {
		t.Errorf("%+v %v", d, err)
	}
	if pid, err := manager.Holder(home); err != nil || pid != os.Getpid() {
		t.Errorf("holder %d %v", pid, err)
	}

	// One daemon per home; a second one says who it is.
	err = manager.Serve(t.Context(), configOf(home, nil), manager.Options{}, nil)
	if shannon.CodeOf(err) != shannon.CodeDaemonRunning || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second daemon: %v", err)
	}
	wantMode(t, filepath.Join(home, "shannon.sock"), 0o600) // it has not hurt the first

	token, _, err := manager.ReadToken(home)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path, token string
		want        int
	}{
		{"/healthz", "", 200},
		{"/readyz", "", 200},
		{"/api/v1/servers", "", 401},
		{"/mcp", "", 401},
		{"/servers/x/mcp", "", 401},
		{"/api/v1/servers", "wrong", 401},
		{"/api/v1/servers", token.Reveal(), 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.Address+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.token != "" {
			r.Header.Set("Authorization", "Bearer "+tt.token)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s with token %q: %d, want %d", tt.path, tt.token, resp.StatusCode, tt.want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if s, err := m.Summary(t.Context()); err != nil || s.Phase != shannon.PhaseRunning || s.Address != d.Address || s.Socket != d.Socket || len(s.Problems) != 0 {
		t.Errorf("%+v %v", s, err)
	}

	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	for _, gone := range []string{"daemon.json", "shannon.sock"} {
		if _, err := os.Stat(filepath.Join(home, gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", gone, err)
		}
	}
	if pid, err := manager.Holder(home); err != nil || pid != 0 {
		t.Errorf("holder %d %v after the end", pid, err)
	}
	_, stop = serve(t, configOf(home, func(c *config) { c.Listen = "off" })) // and again
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	home := t.TempDir()
	taken := func(chosen bool) config {
		return configOf(home, func(c *config) { c.Listen, c.ListenChosen = l.Addr().String(), chosen })
	}
	err = manager.Serve(t.Context(), taken(true), manager.Options{}, nil)
	if shannon.CodeOf(err) != shannon.CodePortTaken || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), fmt.Sprint("pid ", os.Getpid())) {
		t.Errorf("a chosen port: %v", err)
	}
	if pid, err := manager.Holder(home); err != nil || pid != 0 {
		t.Errorf("holder %d %v after a failed start", pid, err)
	}
	m, _ := serve(t, taken(false))
	s, err := m.Summary(t.Context())
	if err != nil || s.Address != "" || s.Socket == "" || len(s.Problems) != 1 || s.Problems[0].Code != shannon.CodePortTaken {
		t.Errorf("the default port: %+v %v", s, err)
	}
	c, err := remote.Connect(t.Context(), home)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.ListServers(t.Context(), shannon.ServerFilter{}); err != nil {
		t.Errorf("over the socket: %v", err)
	}
}

// TestStopIsBounded stops a daemon while a call hangs in a server that ignores
// everything but SIGKILL.
func TestStopIsBounded(t *testing.T) {
	t.Parallel()
	tag := fmt.Sprintf("stop-%d", time.Now().UnixNano())
	m, stop := serve(t, configOf(t.TempDir(), func(c *config) { c.Listen, c.NoAuth = "127.0.0.1:0", true }))
	add(t, m, tagged(fake(t, "stubborn", mcptest.Script{Versions: []string{"2025-11-25"}, Child: mcptest.ChildScript{IgnoreTerm: true, IgnoreEOF: true}}), tag))
	s, err := m.Summary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := mcptest.Dial(t, "http://"+s.Address+"/mcp", mcptest.Options{Timeout: 30 * time.Second})
	c.Open()
	call := c.Go("tools/call", `{"name":"stubborn__hang","arguments":{}}`)
	hung := make(chan error, 1)
	go func() {
		_, err := m.CallTool(context.Background(), "stubborn", "hang", nil)
		hung <- err
	}()
	time.Sleep(100 * time.Millisecond) // both have it
	began := time.Now()
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if d := time.Since(began); d > 18*time.Second {
		t.Errorf("it took %s", d)
	}
	if r := call.Wait(); r.Result != nil {
		t.Errorf("the hanging call got %s", r.Raw)
	}
	if err := <-hung; err == nil {
		t.Error("the hanging call in this process has a result")
	}
	if left := living(tag); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// TestClosedManager calls everything after the end: errors, and nothing worse.
func TestClosedManager(t *testing.T) {
	t.Parallel()
	m := openWith(t, configOf(t.TempDir(), nil))
	add(t, m, fake(t, "one", mcptest.Script{}))
	closeNow(t, m)
	closeNow(t, m)
	for what, err := range map[string]error{
		"add":     second(m.AddServer(t.Context(), fake(t, "two", mcptest.Script{}))),
		"update":  second(m.UpdateServer(t.Context(), "one", []byte(`{"title":"x"}`))),
		"remove":  m.RemoveServer(t.Context(), "one"),
		"connect": second(m.Connect(t.Context(), "one")),
		"call":    second(m.CallTool(t.Context(), "one", "echo", nil)),
		"history": second(m.History(t.Context(), shannon.HistoryFilter{})),
	} {
		if err == nil {
			t.Errorf("%s after Close", what)
		}
	}
	if s, err := m.Summary(t.Context()); err != nil || s.Phase != shannon.PhaseStopped || s.ConnectedServers != 0 {
		t.Errorf("%+v %v", s, err)
	}
}

// TestAddDuringClose adds servers while a manager ends: none is left behind.
func TestAddDuringClose(t *testing.T) {
	t.Parallel()
	tag := fmt.Sprintf("adds-%d", time.Now().UnixNano())
	m := openWith(t, configOf(t.TempDir(), nil))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			if _, err := m.AddServer(context.Background(), tagged(fake(t, fmt.Sprint("s", i), mcptest.Script{}), tag)); err != nil {
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond)
	closeNow(t, m)
	<-done
	if left := living(tag); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// TestManyManagers keeps several in one process, which do not see each other.
func TestManyManagers(t *testing.T) {
	t.Parallel()
	for i := range 3 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			m := openWith(t, configOf(t.TempDir(), nil))
			add(t, m, fake(t, "same", mcptest.Script{Name: fmt.Sprint("server", i)}))
			st, err := m.Status(t.Context(), "same")
			if all, e := m.ListServers(t.Context(), shannon.ServerFilter{}); err != nil || e != nil || len(all) != 1 || !strings.HasPrefix(st.ServerInfo, fmt.Sprint("server", i)) {
				t.Errorf("%+v %v %v", st, err, e)
			}
		})
	}
}

func TestHomeIsGuarded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mode, want os.FileMode
		holds      string
	}{
		"empty":         {0o755, 0o700, ""},
		"configuration": {0o755, 0o700, "config.toml"},
		"other things":  {0o755, 0o755, "thesis.tex"},
		"shared":        {0o777 | os.ModeSticky, 0o777 | os.ModeSticky, ""},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			if c.holds != "" {
				if err := os.WriteFile(filepath.Join(home, c.holds), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(home, c.mode); err != nil {
				t.Fatal(err)
			}
			for range 2 { // also when the database is there
				closeNow(t, openWith(t, configOf(home, nil)))
				if info, err := os.Stat(home); err != nil || info.Mode()&^os.ModeDir != c.want {
					t.Errorf("the mode is %v, want %v (%v)", info.Mode(), c.want, err)
				}
			}
		})
	}
}
