package store

import (
	"context"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
)

// pythonSchema is what the Python manager makes.
const pythonSchema = `
PRAGMA journal_mode = WAL;
PRAGMA foreign_keys = OFF; -- it is on there; here rows that violate it are made
CREATE TABLE mcp_servers (
	id TEXT PRIMARY KEY,
	name TEXT NOT NULL,
	transport TEXT NOT NULL,
	command TEXT,
	args TEXT,
	env TEXT,
	endpoint TEXT,
	timeout INTEGER DEFAULT 30,
	retry_count INTEGER DEFAULT 3,
	retry_delay REAL DEFAULT 1.0,
	health_check_interval INTEGER DEFAULT 60,
	enabled BOOLEAN DEFAULT 1,
	config TEXT DEFAULT '{}',
	created_at TEXT NOT NULL,
	updated_at TEXT NOT NULL
);
CREATE INDEX idx_servers_transport ON mcp_servers(transport);
CREATE INDEX idx_servers_enabled ON mcp_servers(enabled);
CREATE TABLE mcp_connections (
	id INTEGER PRIMARY KEY AUTOINCREMENT,
	server_id TEXT NOT NULL,
	state TEXT NOT NULL,
	connected_at TEXT,
	disconnected_at TEXT,
	error_message TEXT,
	duration_seconds REAL,
	FOREIGN KEY (server_id) REFERENCES mcp_servers(id)
);
CREATE INDEX idx_connections_server ON mcp_connections(server_id);
CREATE TABLE mcp_discovery_cache (
	source TEXT PRIMARY KEY,
	servers TEXT NOT NULL,
	discovered_at TEXT NOT NULL,
	expires_at TEXT NOT NULL
);`

const pythonRows = `
INSERT INTO mcp_servers (id, name, transport, command, args, env, config, created_at, updated_at) VALUES
	('local_mcp-git', 'Git Tools', 'stdio', '/usr/local/bin/mcp-git', '["--stdio"]', '{"TOKEN": "hunter2"}', '{}', '2025-11-13T14:20:04.123456', '2025-11-13T14:20:05'),
	('claude_fetch', 'fetch', 'stdio', 'uvx', NULL, NULL, NULL, '2025-11-13T14:20:05', '2025-11-13T14:20:05'),
	('local_fetch', 'fetch', 'stdio', 'mcp-fetch', 'null', '', '', '2025-11-13T14:20:06', '2025-11-13T14:20:06'),
	('claude_Fetch', 'FETCH', 'stdio', 'mcp-fetch', '[]', '{}', '{}', '2025-11-13T14:20:07Z', '2025-11-13 14:20:07'),
	('odd', 'carrier', 'pigeon', NULL, NULL, NULL, '{}', '2025-11-13T14:20:08', 'once upon a time'),
	('broken', 'broken', 'stdio', 'x', '["a', '{"K": hunter2}', '{"api_key": NaN}', '2025-11-13T14:20:09', '2025-11-13T14:20:09'),
	('github_ü', '日本語', 'sse', NULL, NULL, NULL, '{"api_key": "hunter2"}', '2025-11-13T14:20:10', '2025-11-13T14:20:10'),
	('', '', 'http', NULL, NULL, NULL, '{}', '2025-11-13T14:20:11', '2025-11-13T14:20:11'),
	(NULL, 'a__b', 'http', NULL, '["-p", 8080, true]', '{"PORT": 8080}', '{}', '2025-11-13T14:20:12', '2025-11-13T14:20:12');
INSERT INTO mcp_servers VALUES
	('full', 'Full', 'websocket', NULL, '["a","b"]', '{"A":"b"}', 'wss://example.com', 45, 5, 0.3, 120, 0, '{"x": 1}', '2025-11-13T14:20:13', '2025-11-13T14:20:13'),
	('nulls', 'nulls', 'http', NULL, NULL, NULL, 'https://example.com', NULL, NULL, NULL, NULL, NULL, NULL, '2025-11-13T14:20:14', '2025-11-13T14:20:14'),
	('text', 'text', 'http', NULL, NULL, NULL, 'https://example.com', '30s', 'many', 'soon', '1m', 'true', NULL, '2025-11-13T14:20:15', '2025-11-13T14:20:15'),
	('text2', 'text2', 'http', NULL, NULL, NULL, 'https://example.com', '20', '2.0', '2', '5', 'false', NULL, '2025-11-13T14:20:16', '2025-11-13T14:20:16');
INSERT INTO mcp_connections (id, server_id, state, connected_at, disconnected_at, error_message, duration_seconds) VALUES
	(3, 'local_mcp-git', 'connected', '2025-11-13T14:20:04.123456', '2025-11-13T14:21:04', NULL, 59.876544),
	(4, 'local_mcp-git', 'connected', '2025-11-14T14:20:04', NULL, NULL, NULL),
	(7, 'removed', 'error', NULL, NULL, 'it broke', NULL),
	(9, 'local_mcp-git', 'error', NULL, NULL, 'and again', 'no number');
UPDATE sqlite_sequence SET seq = 41 WHERE name = 'mcp_connections';
INSERT INTO mcp_discovery_cache VALUES ('local', '[{"id": "local_mcp-git"}]', '2025-11-13T14:20:04', '2025-11-13T15:20:04');`

// pythonDB makes a database as the Python manager leaves it.
func pythonDB(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	mustExec(t, db, pythonSchema+pythonRows)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPythonDatabase(t *testing.T) {
	path := dbPath(t)
	pythonDB(t, path)
	before := dump(t, path)
	s := open(t, path)

	servers, err := s.Servers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{} // id → name: title
	byID := map[string]shannon.Server{}
	for _, srv := range servers {
		if !shannon.ValidName(srv.Name) {
			t.Errorf("%q is no name", srv.Name)
		}
		if srv.Start != shannon.StartEager || srv.Isolation != shannon.IsolationAuto || srv.Prefix != nil || srv.RequestTimeout != nil {
			t.Errorf("%s has start %q, isolation %q, prefix %v, request timeout %v", srv.Name, srv.Start, srv.Isolation, srv.Prefix, srv.RequestTimeout)
		}
		id := srv.ID
		if strings.HasPrefix(id, "srv_") { // had none
			id = "NULL"
		}
		got[id] = srv.Name + ": " + srv.Title
		byID[id] = srv
	}
	want := map[string]string{
		"local_mcp-git": "git-tools: Git Tools",
		"claude_fetch":  "fetch: ",
		"local_fetch":   "fetch-2: fetch",
		"claude_Fetch":  "FETCH-3: FETCH",
		"odd":           "carrier: ",
		"broken":        "broken: ",
		"github_ü":      "github: 日本語",
		"":              "server: ",
		"NULL":          "a_b: a__b",
		"full":          "Full: ",
		"nulls":         "nulls: ",
		"text":          "text: ",
		"text2":         "text2: ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names: %s", diff)
	}

	for id, want := range map[string]string{
		"local_mcp-git": `{"id":"local_mcp-git","name":"git-tools","title":"Git Tools","transport":"stdio","command":"/usr/local/bin/mcp-git","args":["--stdio"],"isolation":"auto","start":"eager","enabled":true,"timeout":30,"retry_count":3,"retry_delay":1,"health_check_interval":60,"created_at":"2025-11-13T14:20:04.123456Z","updated_at":"2025-11-13T14:20:05Z","env":{"TOKEN":"hunter2"}}`,
		"full":          `{"id":"full","name":"Full","transport":"websocket","args":["a","b"],"endpoint":"wss://example.com","isolation":"auto","start":"eager","enabled":false,"timeout":45,"retry_count":5,"retry_delay":0.3,"health_check_interval":120,"created_at":"2025-11-13T14:20:13Z","updated_at":"2025-11-13T14:20:13Z","env":{"A":"b"},"config":{"x":1}}`,
		"nulls":         `{"id":"nulls","name":"nulls","transport":"http","endpoint":"https://example.com","isolation":"auto","start":"eager","enabled":true,"timeout":30,"retry_count":3,"retry_delay":1,"health_check_interval":60,"created_at":"2025-11-13T14:20:14Z","updated_at":"2025-11-13T14:20:14Z"}`,
		"text":          `{"id":"text","name":"text","transport":"http","endpoint":"https://example.com","isolation":"auto","start":"eager","enabled":true,"timeout":30,"retry_count":3,"retry_delay":1,"health_check_interval":60,"created_at":"2025-11-13T14:20:15Z","updated_at":"2025-11-13T14:20:15Z"}`,
		"text2":         `{"id":"text2","name":"text2","transport":"http","endpoint":"https://example.com","isolation":"auto","start":"eager","enabled":false,"timeout":20,"retry_count":2,"retry_delay":2,"health_check_interval":5,"created_at":"2025-11-13T14:20:16Z","updated_at":"2025-11-13T14:20:16Z"}`,
	} {
		if diff := cmp.Diff(want, plain(t, byID[id])); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
	if diff := cmp.Diff([]string{"-p", "8080", "true"}, byID["NULL"].Args); diff != "" {
		t.Errorf("args: %s", diff)
	}
	if got := byID["NULL"].Env["PORT"].Reveal(); got != "8080" {
		t.Errorf("env: %q", got)
	}

	flaws, err := s.Flaws(t.Context())
	if err != nil || len(flaws) != 2 || flaws["odd"].Code != shannon.CodeBadTransport || flaws["broken"].Code != shannon.CodeInvalidServer {
		t.Errorf("flaws: %v, %v", flaws, err)
	}

	wantHistory := `[{"id":9,"server_id":"local_mcp-git","server":"Git Tools","state":"error","error":"and again"},` +
		`{"id":7,"server_id":"removed","state":"error","error":"it broke"},` +
		`{"id":4,"server_id":"local_mcp-git","server":"Git Tools","state":"connected","connected_at":"2025-11-14T14:20:04Z"},` +
		`{"id":3,"server_id":"local_mcp-git","server":"Git Tools","state":"connected","connected_at":"2025-11-13T14:20:04.123456Z","disconnected_at":"2025-11-13T14:21:04Z","duration_seconds":59.876544}]`
	if diff := cmp.Diff(wantHistory, jsonOf(t, history(t, s, shannon.HistoryFilter{}))); diff != "" {
		t.Errorf("history: %s", diff)
	}
	for _, name := range []string{"git-tools", "Git Tools", "local_mcp-git"} {
		if got := ids(history(t, s, shannon.HistoryFilter{Server: name})); !slices.Equal(got, []int64{9, 4, 3}) {
			t.Errorf("history of %q is %v", name, got)
		}
	}
	// The sequence goes on behind deleted rows, and rows from before do not change.
	if id := record(t, s, shannon.Transition{ServerID: "local_mcp-git", State: shannon.StateConnecting}); id != 42 {
		t.Errorf("first new row is %d, want 42", id)
	}
	if diff := cmp.Diff(wantHistory[1:], jsonOf(t, history(t, s, shannon.HistoryFilter{})[1:])[1:]); diff != "" {
		t.Errorf("history: %s", diff)
	}
	if _, err := s.Delete(t.Context(), "git-tools"); err != nil {
		t.Error(err)
	}
	if got := ids(history(t, s, shannon.HistoryFilter{Server: "Git Tools"})); !slices.Equal(got, []int64{42, 9, 4, 3}) {
		t.Errorf("history after removal is %v", got)
	}
	if got, err := texts(t.Context(), s.reads, "SELECT source || servers || discovered_at || expires_at FROM mcp_discovery_cache"); err != nil ||
		!slices.Equal(got, []string{`local[{"id": "local_mcp-git"}]2025-11-13T14:20:042025-11-13T15:20:04`}) {
		t.Errorf("discovery cache is %v, %v", got, err)
	}
	checkIntegrity(t, path)
	backups := s.opts.backups()
	if len(backups) != 1 {
		t.Fatalf("backups: %v", backups)
	}
	if diff := cmp.Diff(before, dump(t, backups[0])); diff != "" {
		t.Errorf("backup: %s", diff)
	}
	wantMode(t, backups[0], 0o600)
	wantMode(t, path, 0o600)
	wantMode(t, path+"-wal", 0o600)
	wantMode(t, path+"-shm", 0o600)
}

func wantMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != mode {
		t.Errorf("%s: mode is %v, %v; want %v", filepath.Base(path), info.Mode(), err, mode)
	}
}

func TestOpenTwiceChangesNothing(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, string){"python": pythonDB, "fresh": func(*testing.T, string) {}} {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			prepare(t, path)
			if err := open(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			content, files := dump(t, path), snapshot(t, path)
			for range 3 {
				if err := open(t, path).Close(); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(files, snapshot(t, path)); diff != "" {
				t.Errorf("files: %s", diff)
			}
			if diff := cmp.Diff(content, dump(t, path)); diff != "" {
				t.Errorf("content: %s", diff)
			}
		})
	}
}

// The same database gives the same names, wherever its rows lie.
func TestNamesAreStable(t *testing.T) {
	outcome := func(shuffle string) []string {
		path := dbPath(t)
		pythonDB(t, path)
		mustExec(t, raw(t, path), shuffle)
		got, err := texts(t.Context(), open(t, path).reads, "SELECT name || created_at FROM mcp_servers ORDER BY 1")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := outcome("SELECT 1")
	if diff := cmp.Diff(want, outcome("UPDATE mcp_servers SET rowid = 1000 - rowid; VACUUM")); diff != "" {
		t.Error(diff)
	}
}

func TestHandles(t *testing.T) {
	long := strings.Repeat("x", 40)
	for _, tc := range []struct {
		old  [][2]string
		want []string
	}{
		{[][2]string{{"1", "git"}, {"2", "git"}, {"3", "git-2"}, {"4", "git"}}, []string{"git", "git-3", "git-2", "git-4"}},
		{[][2]string{{"1", "My Git!"}, {"2", "my-git"}}, []string{"my-git-2", "my-git"}},
		{[][2]string{{"1", "Git"}, {"2", "gIT"}}, []string{"Git", "gIT-2"}},
		{[][2]string{{"1", long}, {"2", long + "y"}}, []string{long[:32], long[:30] + "-2"}},
		{[][2]string{{"1", "a__b"}, {"2", "__a"}, {"3", "a-_-b"}}, []string{"a_b", "a", "a-_-b"}},
		{[][2]string{{"local_ü", "ü"}, {"", ""}, {"", "…"}}, []string{"local", "server", "server-2"}},
		{[][2]string{{"1", strings.Repeat("x", 31) + " y"}, {"2", "-a-"}}, []string{strings.Repeat("x", 31), "a"}},
		{[][2]string{{"1", "a\x00b"}, {"2", "a\xffb"}, {"3", "../../etc"}}, []string{"a-b", "a-b-2", "etc"}},
		{[][2]string{{"1", strings.Repeat("x", 29) + "-_z"}, {"2", strings.Repeat("x", 29) + "-_z"}}, []string{strings.Repeat("x", 29) + "-_z", strings.Repeat("x", 29) + "-2"}},
	} {
		got := handles(tc.old)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%q: %s", tc.old, diff)
		}
		for _, name := range got {
			if !shannon.ValidName(name) {
				t.Errorf("%q: %q is no name", tc.old, name)
			}
		}
	}
}

func FuzzHandles(f *testing.F) {
	f.Add("git", "Git", "git-2")
	f.Add("__", "x y", strings.Repeat("é", 50))
	f.Fuzz(func(t *testing.T, a, b, c string) {
		seen := map[string]bool{}
		for _, name := range handles([][2]string{{"1", a}, {b, b}, {"", c}, {a, a}, {c, b}}) {
			if !shannon.ValidName(name) || seen[strings.ToLower(name)] {
				t.Fatalf("%q is no name, or taken", name)
			}
			seen[strings.ToLower(name)] = true
		}
	})
}

// What a killed writer left in the WAL is migrated, and is in the backup.
func TestWALOfKilledWriter(t *testing.T) {
	path := dbPath(t)
	pythonDB(t, path)
	cmd := process(t, "killed", path)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("the writer ended by itself: %s", out)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		t.Fatalf("no WAL is left: %v", err)
	}
	s := open(t, path)
	if _, err := s.Server(t.Context(), "late"); err != nil {
		t.Error(err)
	}
	got, err := texts(t.Context(), raw(t, s.opts.backups()[0]), "SELECT name FROM mcp_servers WHERE id = 'late'")
	if err != nil || !slices.Equal(got, []string{"late"}) {
		t.Errorf("backup has %v, %v", got, err)
	}
	checkIntegrity(t, path)
}

func init() {
	roles["killed"] = func(path string) error {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			return err
		}
		if _, err := db.ExecContext(context.Background(), `INSERT INTO mcp_servers (id, name, transport, created_at, updated_at)
			VALUES ('late', 'late', 'stdio', '2025-11-13T14:20:04', '2025-11-13T14:20:04')`); err != nil {
			return err
		}
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		if err := self.Kill(); err != nil {
			return err
		}
		select {}
	}
}

func TestFailedMigrationLeavesContent(t *testing.T) {
	path := dbPath(t)
	pythonDB(t, path)
	db := raw(t, path)
	mustExec(t, db, "CREATE TRIGGER no BEFORE UPDATE OF name ON mcp_servers BEGIN SELECT raise(ABORT, 'no'); END")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := dump(t, path)
	for range 5 {
		_, err := Open(t.Context(), Options{Path: path})
		wantCode(t, err, shannon.CodeInternal)
		if p := shannon.ProblemOf(err); !strings.Contains(p.Hint, ".backup-") {
			t.Errorf("hint is %q", p.Hint)
		}
	}
	if diff := cmp.Diff(before, dump(t, path)); diff != "" {
		t.Errorf("content: %s", diff)
	}
	if got := (&Options{Path: path}).backups(); len(got) != 3 {
		t.Errorf("backups: %v", got)
	}
	checkBackupsNewest(t, path)
	mustExec(t, raw(t, path), "DROP TRIGGER no")
	open(t, path)
	checkIntegrity(t, path)
}

// checkBackupsNewest makes sure that files which are no backups of ours stay.
func checkBackupsNewest(t *testing.T, path string) {
	t.Helper()
	mine := path + ".backup-before-the-move"
	if err := os.WriteFile(mine, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Path: path, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	wantCode(t, err, shannon.CodeInternal)
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

// Databases that other programs of SQLite read: the command line, where there is one.
func TestSQLiteCommandReadsIt(t *testing.T) {
	sqlite, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("no sqlite3 here")
	}
	path := dbPath(t)
	pythonDB(t, path)
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), sqlite, path, "PRAGMA integrity_check; SELECT count(*) FROM mcp_servers").CombinedOutput()
	if got := strings.Fields(string(out)); err != nil || !slices.Equal(got, []string{"ok", strconv.Itoa(13)}) {
		t.Errorf("got %v, %v", got, err)
	}
}
