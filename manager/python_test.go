package manager_test

import (
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
)

// pythonHome makes a home folder as the Python manager leaves it, with one server
// that works, one that is switched off and one that cannot be reached.
func pythonHome(t *testing.T) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), ".shannon-mcp")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(home, "mcp_servers.db"))
	if err != nil {
		t.Fatal(err)
	}
	s := fake(t, "x", mcptest.Script{Versions: []string{"2025-11-25"}})
	env := map[string]string{}
	for k, v := range s.Env {
		env[k] = v.Reveal()
	}
	text, err := json.Marshal(env)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		query string
		args  []any
	}{
		{`PRAGMA journal_mode = WAL`, nil},
		{`CREATE TABLE mcp_servers (id TEXT PRIMARY KEY, name TEXT NOT NULL, transport TEXT NOT NULL, command TEXT, args TEXT, env TEXT,
			endpoint TEXT, timeout INTEGER DEFAULT 30, retry_count INTEGER DEFAULT 3, retry_delay REAL DEFAULT 1.0,
			health_check_interval INTEGER DEFAULT 60, enabled BOOLEAN DEFAULT 1, config TEXT DEFAULT '{}', created_at TEXT NOT NULL, updated_at TEXT NOT NULL)`, nil},
		{`CREATE TABLE mcp_connections (id INTEGER PRIMARY KEY AUTOINCREMENT, server_id TEXT NOT NULL, state TEXT NOT NULL, connected_at TEXT,
			disconnected_at TEXT, error_message TEXT, duration_seconds REAL, FOREIGN KEY (server_id) REFERENCES mcp_servers(id))`, nil},
		{`CREATE TABLE mcp_discovery_cache (source TEXT PRIMARY KEY, servers TEXT NOT NULL, discovered_at TEXT NOT NULL, expires_at TEXT NOT NULL)`, nil},
		{`INSERT INTO mcp_servers (id, name, transport, command, env, created_at, updated_at) VALUES ('local_mcp-git', 'Git Tools', 'stdio', ?, ?, '2025-11-13T14:20:04.123456', '2025-11-13T14:20:05')`, []any{s.Command, string(text)}},
		{`INSERT INTO mcp_servers (id, name, transport, endpoint, enabled, created_at, updated_at) VALUES ('claude_off', 'off', 'http', 'http://127.0.0.1:1/mcp', 0, '2025-11-13T14:20:04', '2025-11-13T14:20:05')`, nil},
		{`INSERT INTO mcp_servers (id, name, transport, created_at, updated_at) VALUES ('odd', 'carrier', 'pigeon', '2025-11-13T14:20:04', '2025-11-13T14:20:05')`, nil},
		{`INSERT INTO mcp_connections (server_id, state, connected_at, disconnected_at, duration_seconds) VALUES ('local_mcp-git', 'connected', '2026-11-13T14:20:04', '2026-11-13T14:21:04', 60.0)`, nil},
	} {
		if _, err := db.ExecContext(t.Context(), q.query, q.args...); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return home
}

// TestPythonHome takes over the home folder of the Python manager. That history
// survives removal is number 5 of what was wrong there, that what a server offers is
// listed number 8, that servers can be changed number 9.
func TestPythonHome(t *testing.T) {
	t.Parallel()
	home := pythonHome(t)
	c := configOf(home, func(c *config) { c.History.Retention = shannon.Duration(1 << 62) })
	m := openWith(t, c)
	wantModeIs700(t, home)
	servers, err := m.ListServers(t.Context(), shannon.ServerFilter{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, s := range servers {
		got[s.ID] = s.Name + "/" + s.Title
	}
	if len(got) != 3 || got["local_mcp-git"] != "git-tools/Git Tools" || got["claude_off"] != "off/" || got["odd"] != "carrier/" {
		t.Errorf("%v", got)
	}
	if st, err := m.Connect(t.Context(), "git-tools"); err != nil {
		t.Fatalf("%v %+v", err, st)
	}
	tools, err := m.Tools(t.Context(), "git-tools")
	if err != nil || len(tools) == 0 {
		t.Errorf("%d tools %v", len(tools), err)
	}
	st, err := m.Status(t.Context(), "carrier")
	if err != nil || st.State == shannon.StateConnected || st.Problem == nil || st.Problem.Code != shannon.CodeBadTransport || st.NextRetry != nil {
		t.Errorf("an unknown transport: %+v %v", st, err)
	}
	if _, err := m.UpdateServer(t.Context(), "off", []byte(`{"enabled":true,"timeout":1}`)); err != nil {
		t.Error(err)
	}
	if _, err := m.UpdateServer(t.Context(), "git-tools", []byte(`{"name":"git"}`)); err != nil {
		t.Error(err)
	}
	if err := m.RemoveServer(t.Context(), "git"); err != nil {
		t.Fatal(err)
	}
	closeNow(t, m)

	m = openWith(t, c)
	for _, name := range []string{"git", "git-tools", "local_mcp-git"} {
		rows, err := m.History(t.Context(), shannon.HistoryFilter{Server: name})
		if err != nil || len(rows) < 4 {
			t.Fatalf("history of %s: %+v %v", name, rows, err)
		}
		if first, last := rows[len(rows)-1], rows[0]; first.Duration == nil || *first.Duration != 60 || last.State != shannon.StateDisconnected || last.Cause != "removed" {
			t.Errorf("history of %s: %+v … %+v", name, first, last)
		}
	}
	if _, err := m.Server(t.Context(), "git"); shannon.CodeOf(err) != shannon.CodeUnknownServer {
		t.Errorf("the server came back: %v", err)
	}
}

func wantModeIs700(t *testing.T, path string) {
	t.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v %v", path, info.Mode(), err)
	}
}

// TestKilled opens what a manager leaves on disk that is ended without a word.
func TestKilled(t *testing.T) {
	t.Parallel()
	home, after := t.TempDir(), t.TempDir()
	m := openWith(t, configOf(home, nil))
	add(t, m, fake(t, "one", mcptest.Script{}))
	if _, err := m.History(t.Context(), shannon.HistoryFilter{}); err != nil { // what has happened is written
		t.Fatal(err)
	}
	for _, name := range []string{"mcp_servers.db-wal", "mcp_servers.db"} {
		b, err := os.ReadFile(filepath.Join(home, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(after, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	m = openWith(t, configOf(after, nil))
	if st, err := m.Connect(t.Context(), "one"); err != nil || st.Tools == 0 {
		t.Errorf("%+v %v", st, err)
	}
	rows, err := m.History(t.Context(), shannon.HistoryFilter{Server: "one"})
	if err != nil || len(rows) != 4 {
		t.Fatalf("%+v %v", rows, err)
	}
	for i, r := range rows {
		if open := r.DisconnectedAt == nil; open != (i == 0) {
			t.Errorf("row %d: %+v", i, r)
		}
	}
}

// TestStatusIsComplete holds a state against what a connection of the Python manager had.
func TestStatusIsComplete(t *testing.T) {
	t.Parallel()
	m := openWith(t, configOf(t.TempDir(), nil))
	s := fake(t, "one", mcptest.Script{Versions: []string{"2025-11-25"}})
	s.HealthCheckInterval = shannon.Seconds(0.05)
	add(t, m, s)
	eventually(t, "a ping", func() bool { st, err := m.Status(t.Context(), "one"); return err == nil && st.LastPing != nil })
	st, err := m.Status(t.Context(), "one")
	if err != nil || st.ServerID == "" || st.State != shannon.StateConnected || st.Transport != shannon.TransportStdio || st.PID == 0 ||
		st.ErrorCount != 0 || st.LastError != "" || st.ConnectedAt == nil || st.ReconnectAttempts != 0 || !st.Healthy ||
		st.Version != "2025-11-25" || st.Command == "" || st.ServerInfo == "" || st.Tools == 0 {
		t.Errorf("%+v %v", st, err)
	}
	sum, err := m.Summary(t.Context())
	if err != nil || sum.TotalServers != 1 || sum.ConnectedServers != 1 || sum.ErrorConnections != 0 || sum.ActiveHealthChecks != 1 {
		t.Errorf("%+v %v", sum, err)
	}
}

// TestEventsSayWhatPythonSaid and more: names, data and priorities.
func TestEventsSayWhatPythonSaid(t *testing.T) {
	t.Parallel()
	m := openWith(t, configOf(t.TempDir(), nil))
	good := fake(t, "good", mcptest.Script{Versions: []string{"2025-11-25"}})
	add(t, m, good)
	if _, err := m.CallTool(t.Context(), "good", "change", []byte(`{"add":["fresh"]}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.UpdateServer(t.Context(), "good", []byte(`{"title":"T","timeout":9}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the notification", func() bool {
		for _, err := range m.Events(t.Context(), shannon.EventFilter{Name: shannon.EventNotification}) {
			return err == nil
		}
		return false
	})
	if _, err := m.Disconnect(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	if err := m.RemoveServer(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	bad := fake(t, "bad", mcptest.Script{Child: mcptest.ChildScript{Exit: 3}})
	if _, err := m.AddServer(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Connect(t.Context(), "bad"); err == nil {
		t.Fatal("a bad server is connected")
	}
	want := map[string]struct {
		priority shannon.Priority
		keys     string
	}{
		shannon.EventAdded:            {shannon.PriorityNormal, "server_id name transport"},
		shannon.EventConnected:        {shannon.PriorityHigh, "server_id name transport era version handshake_ms pid"},
		shannon.EventUpdated:          {shannon.PriorityNormal, "server_id name fields"},
		shannon.EventNotification:     {shannon.PriorityLow, "server_id name method"},
		shannon.EventDisconnected:     {shannon.PriorityNormal, "server_id name duration cause"},
		shannon.EventRemoved:          {shannon.PriorityNormal, "server_id name"},
		shannon.EventConnectionFailed: {shannon.PriorityHigh, "server_id name error code attempt next_retry exit_code"},
		shannon.EventToolsChanged:     {shannon.PriorityNormal, "tools"},
	}
	seen := map[string]bool{}
	var order []string
	for e, err := range m.Events(t.Context(), shannon.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		w, ok := want[e.Name]
		if !ok || e.Priority != w.priority || e.Category != "mcp" || e.Source == "" || time.Since(e.Timestamp) > time.Minute {
			t.Errorf("%+v", e)
		}
		for key := range strings.FieldsSeq(w.keys) {
			if e.Data[key] == nil || e.Data[key] == "" {
				t.Errorf("%s lacks %s: %v", e.Name, key, e.Data)
			}
		}
		if e.Name == shannon.EventDisconnected {
			if d, ok := e.Data["duration"].(float64); !ok || d <= 0 || d > 60 {
				t.Errorf("duration %v", e.Data["duration"])
			}
		}
		if !seen[e.Name] {
			seen[e.Name] = true
			order = append(order, e.Name)
		}
	}
	if len(seen) != len(want) {
		t.Errorf("only %v", order)
	}
	// Added comes before what comes of it.
	if slices.Index(order, shannon.EventAdded) != 0 || slices.Index(order, shannon.EventRemoved) < slices.Index(order, shannon.EventDisconnected) {
		t.Errorf("order %v", order)
	}
}

// TestNumber17 is what was wrong in the Python manager as number 17: a WebSocket
// server could be added without an address, ping was answered with something else
// than {}, and notifications were answered at all.
func TestNumber17(t *testing.T) {
	t.Parallel()
	m := openWith(t, configOf(t.TempDir(), nil))
	for _, transport := range []shannon.Transport{shannon.TransportWebSocket, shannon.TransportHTTP, shannon.TransportSSE, "pigeon", ""} {
		s := shannon.NewServer("nowhere")
		s.Transport = transport
		if _, err := m.AddServer(t.Context(), s); shannon.CodeOf(err) != shannon.CodeInvalidServer {
			t.Errorf("%q without an address: %v", transport, err)
		}
	}
	add(t, m, fake(t, "one", mcptest.Script{Versions: []string{"2025-11-25"}}))
	for _, path := range []string{"/mcp", "/servers/one/mcp"} {
		c := mcptest.Dial(t, endpoint(t, m)+path, mcptest.Options{Timeout: time.Minute})
		c.Open()
		if r := c.Call("ping", ""); string(r.Result) != "{}" {
			t.Errorf("%s: ping got %s %v", path, r.Raw, r.Err)
		}
	}
}
