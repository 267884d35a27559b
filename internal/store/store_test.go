package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon"
)

// roles are what the test binary does when a test starts it as another process.
var roles = map[string]func(path string) error{}

func TestMain(m *testing.M) {
	if role, ok := roles[os.Getenv("STORE_TEST_ROLE")]; ok {
		if err := role(os.Getenv("STORE_TEST_PATH")); err != nil {
			fmt.Fprintln(os.Stderr, shannon.CodeOf(err), err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// process prepares this binary to run as another process.
func process(t *testing.T, role, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "STORE_TEST_ROLE="+role, "STORE_TEST_PATH="+path)
	return cmd
}

func dbPath(t *testing.T) string { return filepath.Join(t.TempDir(), "home", "mcp_servers.db") }

// open opens a store that the test closes.
func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// raw opens the file without the store.
func raw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func mustExec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// dump is the whole content of a database as text, schema and all.
func dump(t *testing.T, path string) string {
	t.Helper()
	db := raw(t, path)
	defer db.Close()
	schema, err := texts(t.Context(), db, "SELECT name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := texts(t.Context(), db, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(strings.Join(schema, "\n"))
	for _, table := range tables {
		columns, err := texts(t.Context(), db, "SELECT 'quote(\"' || name || '\")' FROM pragma_table_info(?)", table)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := texts(t.Context(), db, "SELECT "+strings.Join(columns, " || ',' || ")+" FROM "+table+" ORDER BY 1")
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n" + table + "\n" + strings.Join(rows, "\n"))
	}
	return b.String()
}

func checkIntegrity(t *testing.T, path string) {
	t.Helper()
	db := raw(t, path)
	defer db.Close()
	got, err := texts(t.Context(), db, "PRAGMA integrity_check")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ok"}, got); diff != "" {
		t.Errorf("integrity_check: %s", diff)
	}
	if got, err = texts(t.Context(), db, "SELECT \"table\" FROM pragma_foreign_key_check"); err != nil || len(got) > 0 {
		t.Errorf("foreign_key_check: %v, %v", got, err)
	}
}

func wantCode(t *testing.T, err error, code shannon.Code) {
	t.Helper()
	if shannon.CodeOf(err) != code {
		t.Errorf("got error %v (%s), want code %q", err, shannon.CodeOf(err), code)
	}
}

// plain compares servers with their secrets, which hide from formatting.
func plain(t *testing.T, s shannon.Server) string {
	t.Helper()
	b, err := s.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func fullServer() shannon.Server {
	s := shannon.NewServer("full")
	s.ID, s.Title, s.Description = "local_full", "Full <one>", "line\nline"
	s.Transport, s.Command, s.Args, s.Cwd = shannon.TransportStdio, "npx", []string{"-y", "", "ü\"\\"}, "/tmp"
	s.Env = map[string]shannon.Secret{"TOKEN": "hunter2", "EMPTY": ""}
	s.Endpoint = "https://example.com/mcp?a=b&c=d"
	s.Headers = map[string]shannon.Secret{"Authorization": "Bearer hunter2"}
	s.Prefix, s.Isolation, s.Start, s.Enabled = new(""), shannon.IsolationSession, shannon.StartLazy, false
	s.Timeout, s.RequestTimeout = shannon.Seconds(1.5), new(shannon.Duration(0))
	s.RetryCount, s.RetryDelay, s.HealthCheckInterval = 0, shannon.Duration(300*time.Millisecond), shannon.Seconds(90)
	s.Config = shannon.Opaque(`{"api_key":"hunter2", "n":9007199254740993}`)
	return s
}

func TestServerRoundTrip(t *testing.T) {
	path := dbPath(t)
	now := time.Date(2026, 11, 22, 18, 0, 0, 123456789, time.FixedZone("", 3600))
	s, err := Open(t.Context(), Options{Path: path, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	minimal := shannon.NewServer("minimal")
	minimal.Transport = shannon.TransportStdio
	for _, in := range []shannon.Server{fullServer(), minimal} {
		stored, err := s.Insert(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if want := now.UTC().Truncate(time.Microsecond); !stored.CreatedAt.Equal(want) || !stored.UpdatedAt.Equal(want) {
			t.Errorf("times are %v and %v, want %v", stored.CreatedAt, stored.UpdatedAt, want)
		}
		if in.ID == "" && !strings.HasPrefix(stored.ID, "srv_") {
			t.Errorf("minted id %q", stored.ID)
		}
		got, err := s.Server(t.Context(), in.Name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(plain(t, stored), plain(t, got)); diff != "" {
			t.Errorf("read is not what was stored: %s", diff)
		}
		in.ID, in.CreatedAt, in.UpdatedAt = stored.ID, stored.CreatedAt, stored.UpdatedAt
		if diff := cmp.Diff(plain(t, in), plain(t, got)); diff != "" {
			t.Errorf("read is not what was given: %s", diff)
		}
	}
	list, err := s.Servers(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "full" || list[1].Name != "minimal" {
		t.Errorf("list is %v, %v", list, err)
	}
	if flaws, err := s.Flaws(t.Context()); err != nil || len(flaws) != 0 {
		t.Errorf("flaws %v, %v", flaws, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	checkIntegrity(t, path)
	got, err := texts(t.Context(), raw(t, path), "SELECT created_at FROM mcp_servers WHERE name = 'full'")
	if diff := cmp.Diff([]string{"2026-11-22T17:00:00.123456"}, got); err != nil || diff != "" {
		t.Errorf("stored time: %v %s", err, diff)
	}
}

func TestTakenAndUnknown(t *testing.T) {
	s := open(t, dbPath(t))
	a := shannon.NewServer("one")
	a.ID, a.Transport = "id1", shannon.TransportStdio
	if _, err := s.Insert(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	b := a
	b.ID = ""
	_, err := s.Insert(t.Context(), b)
	wantCode(t, err, shannon.CodeNameTaken)
	b.Name = "ONE" // the same on file systems that fold case
	_, err = s.Insert(t.Context(), b)
	wantCode(t, err, shannon.CodeNameTaken)
	b.Name, b.ID = "two", "id1"
	_, err = s.Insert(t.Context(), b)
	wantCode(t, err, shannon.CodeNameTaken)
	b.ID = "id2"
	if _, err = s.Insert(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Update(t.Context(), "id2", func(s *shannon.Server) error { s.Name = "One"; return nil })
	wantCode(t, err, shannon.CodeNameTaken)
	if _, after, err := s.Update(t.Context(), "id2", func(s *shannon.Server) error { s.Name = "Two"; return nil }); err != nil || after.Name != "Two" {
		t.Errorf("changing case: %v, %v", after.Name, err)
	}

	_, err = s.Server(t.Context(), "nix")
	wantCode(t, err, shannon.CodeUnknownServer)
	_, err = s.Delete(t.Context(), "nix")
	wantCode(t, err, shannon.CodeUnknownServer)
	_, _, err = s.Update(t.Context(), "nix", func(*shannon.Server) error { return nil })
	wantCode(t, err, shannon.CodeUnknownServer)
}

func TestUpdate(t *testing.T) {
	s := open(t, dbPath(t))
	in, err := s.Insert(t.Context(), fullServer())
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("no")
	if _, _, err := s.Update(t.Context(), in.ID, func(s *shannon.Server) error { s.Name = "x"; return refused }); !errors.Is(err, refused) {
		t.Errorf("error is %v", err)
	}
	before, after, err := s.Update(t.Context(), in.ID, func(s *shannon.Server) error {
		s.ID, s.Name, s.CreatedAt = "other", "renamed", time.Time{}
		s.Args[0] = "changed in place"
		delete(s.Env, "TOKEN")
		s.Prefix, s.RequestTimeout, s.Headers = nil, nil, nil
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain(t, in), plain(t, before)); diff != "" {
		t.Errorf("before: %s", diff)
	}
	want := fullServer()
	want.Name, want.Args[0], want.Prefix, want.RequestTimeout, want.Headers = "renamed", "changed in place", nil, nil, nil
	delete(want.Env, "TOKEN")
	want.CreatedAt, want.UpdatedAt = in.CreatedAt, after.UpdatedAt
	if diff := cmp.Diff(plain(t, want), plain(t, after)); diff != "" {
		t.Errorf("after: %s", diff)
	}
	got, err := s.Server(t.Context(), "renamed")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain(t, after), plain(t, got)); diff != "" {
		t.Errorf("stored: %s", diff)
	}
	if after.UpdatedAt.Before(in.UpdatedAt) {
		t.Errorf("updated at %v, before %v", after.UpdatedAt, in.UpdatedAt)
	}
	deleted, err := s.Delete(t.Context(), "renamed")
	if err != nil || deleted.ID != in.ID {
		t.Errorf("deleted %v, %v", deleted.ID, err)
	}
}

func TestUnreadableFieldsStay(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	in, err := s.Insert(t.Context(), fullServer())
	if err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	mustExec(t, db, `UPDATE mcp_servers SET args = '["a', env = '{"K": ["hunter2"]}', headers = '7', config = '[1]', timeout = 'soon'`)
	got, err := s.Server(t.Context(), in.Name)
	if err != nil || got.Args != nil || got.Env != nil || got.Headers != nil || got.Config != nil || got.Timeout != shannon.Seconds(30) {
		t.Errorf("got %v, %v", got, err)
	}
	flaws, err := s.Flaws(t.Context())
	if err != nil || flaws[in.ID].Code != shannon.CodeInvalidServer {
		t.Fatalf("flaws %v, %v", flaws, err)
	}
	for _, field := range []string{"args", "env", "headers", "config"} {
		if !strings.Contains(flaws[in.ID].Message, field) {
			t.Errorf("%q does not name %s", flaws[in.ID].Message, field)
		}
	}
	if strings.Contains(fmt.Sprint(flaws), "hunter2") {
		t.Errorf("a secret shows in %v", flaws)
	}
	// A change of something else, and of two of them, one to nothing.
	if _, _, err = s.Update(t.Context(), in.ID, func(s *shannon.Server) error {
		s.Title, s.Args, s.Headers = "new", []string{}, map[string]shannon.Secret{"A": "b"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	have, err := texts(t.Context(), db, "SELECT json_array(title, args, env, headers, config, timeout) FROM mcp_servers")
	if diff := cmp.Diff([]string{`["new","[]","{\"K\": [\"hunter2\"]}","{\"A\":\"b\"}","[1]","soon"]`}, have); err != nil || diff != "" {
		t.Errorf("stored: %v %s", err, diff)
	}
}

func TestSecretsNeverShow(t *testing.T) {
	var log strings.Builder
	path := dbPath(t)
	pythonDB(t, path)
	s, err := Open(t.Context(), Options{Path: path, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := fullServer()
	server.Name = "other"
	if _, err = s.Insert(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	_, err = s.Insert(t.Context(), server)
	if text := fmt.Sprintf("%v %+v %#v", err, shannon.ProblemOf(err), log.String()); strings.Contains(text, "hunter2") || !strings.Contains(text, "backed up") {
		t.Errorf("got %s", text)
	}
}

func TestMemory(t *testing.T) {
	s := open(t, dbPath(t))
	in, err := s.Insert(t.Context(), fullServer())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	both := []shannon.Era{shannon.EraLegacy, shannon.EraModern}
	for _, m := range []Memory{
		{ServerID: in.ID, DefinitionHash: "h1", Eras: both, At: at},                                                                                 // tools unknown
		{ServerID: in.ID, DefinitionHash: "h2", Eras: both[:1], Tools: [][]byte{}, At: at},                                                          // no tools
		{ServerID: in.ID, DefinitionHash: "h3", Tools: [][]byte{[]byte("{\"n\": 9007199254740993,\n \"h\":\"<&>\\u0041\"}"), []byte(`{}`)}, At: at}, // bytes
	} {
		if err := s.Remember(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		got, err := s.Recall(t.Context())
		if diff := cmp.Diff(map[string]Memory{in.ID: m}, got); err != nil || diff != "" {
			t.Errorf("recalled: %v %s", err, diff)
		}
	}
	if err := s.Remember(t.Context(), Memory{ServerID: in.ID, Tools: [][]byte{[]byte("{},{}")}}); err == nil {
		t.Error("a tool that is no JSON was remembered")
	}
	if err := s.Remember(t.Context(), Memory{ServerID: "gone"}); err != nil {
		t.Error(err)
	}
	if _, err := s.Delete(t.Context(), in.Name); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Recall(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("recalled %v, %v", got, err)
	}
}

func TestTimes(t *testing.T) {
	want := time.Date(2025, 11, 13, 14, 20, 4, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2025-11-13T14:20:04":              want,
		"2025-11-13 14:20:04":              want,
		"2025-11-13T14:20:04Z":             want,
		"2025-11-13T14:20:04+00:00":        want,
		"2025-11-13T16:20:04+02:00":        want,
		"2025-11-13T14:20:04.123456":       want.Add(123456 * time.Microsecond),
		"2025-11-13 14:20:04.5":            want.Add(500 * time.Millisecond),
		"2025-11-13T14:20:04.123456Z":      want.Add(123456 * time.Microsecond),
		"2025-11-13T14:20:04.123456+00:00": want.Add(123456 * time.Microsecond),
	} {
		if got, ok := parseTime(text); !ok || !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%q is read as %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "yesterday", "2025-11-13", "2025-13-13T14:20:04"} {
		if got, ok := parseTime(text); ok {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

// A canceled context ends a write without harm to the next one.
func TestCanceled(t *testing.T) {
	s := open(t, dbPath(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Insert(ctx, fullServer()); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	in, err := s.Insert(t.Context(), fullServer())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Update(ctx, in.ID, func(s *shannon.Server) error { s.Title = "x"; cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if got, err := s.Server(t.Context(), in.Name); err != nil || got.Title != in.Title {
		t.Errorf("got %q, %v", got.Title, err)
	}
	if _, err := s.Delete(t.Context(), in.Name); err != nil {
		t.Error(err)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
