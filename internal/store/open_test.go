package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
)

// snapshot is the directory of the database: names, modes, times and content.
// The -shm is an index of SQLite's, which reading changes.
func snapshot(t *testing.T, path string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = info.Mode().String()
		if info.Mode().IsRegular() && !strings.HasSuffix(e.Name(), "-shm") {
			content, err := os.ReadFile(filepath.Join(filepath.Dir(path), e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			out[e.Name()] += fmt.Sprintf(" %v %d %x", info.ModTime(), len(content), sha256.Sum256(content))
		}
	}
	return out
}

func TestFresh(t *testing.T) {
	for name, prepare := range map[string]func(path string) error{
		"nothing": func(string) error { return nil },
		"zero bytes": func(path string) error {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			return os.WriteFile(path, nil, 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "home", "a b", "100%?#ü.db")
			if err := prepare(path); err != nil {
				t.Fatal(err)
			}
			s := open(t, path)
			if _, err := s.Insert(t.Context(), fullServer()); err != nil {
				t.Fatal(err)
			}
			wantMode(t, filepath.Dir(path), 0o700)
			for _, suffix := range []string{"", "-wal", "-shm"} {
				wantMode(t, path+suffix, 0o600)
			}
			if got := s.opts.backups(); len(got) != 0 {
				t.Errorf("backups of nothing: %v", got)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if got := snapshot(t, path); len(got) != 1 {
				t.Errorf("files: %v", got)
			}
			checkIntegrity(t, path)
		})
	}
}

// current makes a database that is up to date and holds something.
func current(t *testing.T, path string) {
	t.Helper()
	s := open(t, path)
	if _, err := s.Insert(t.Context(), fullServer()); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		record(t, s, shannon.Transition{ServerID: "local_full", State: shannon.StateConnected, Stderr: strings.Repeat("x", 200)})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path string, at int64, with string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(with), at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func foreignDB(t *testing.T, path, schema string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	db := raw(t, path)
	mustExec(t, db, schema)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// What is refused stays as it was, with nothing beside it.
func TestRefused(t *testing.T) {
	garbage := strings.Repeat("no database ", 1000)
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, path string)
		code    shannon.Code
	}{
		"newer": {func(t *testing.T, path string) {
			current(t, path)
			db := raw(t, path)
			mustExec(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
			_ = db.Close()
		}, shannon.CodeDatabaseNewer},
		"newer with other tables": {func(t *testing.T, path string) {
			current(t, path)
			db := raw(t, path)
			mustExec(t, db, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1); DROP TABLE mcp_connections; ALTER TABLE mcp_servers ADD COLUMN x")
			_ = db.Close()
		}, shannon.CodeDatabaseNewer},
		"newer with WAL": {func(t *testing.T, path string) {
			current(t, path)
			if out, err := process(t, "newer", path).CombinedOutput(); err == nil {
				t.Fatalf("the writer ended by itself: %s", out)
			}
		}, shannon.CodeDatabaseNewer},
		"text": {func(t *testing.T, path string) {
			_ = os.Mkdir(filepath.Dir(path), 0o700)
			_ = os.WriteFile(path, []byte(garbage), 0o644)
		}, shannon.CodeDatabaseCorrupt},
		"one byte": {func(t *testing.T, path string) {
			_ = os.Mkdir(filepath.Dir(path), 0o700)
			_ = os.WriteFile(path, []byte("x"), 0o644)
		}, shannon.CodeDatabaseCorrupt},
		"600 bytes": {func(t *testing.T, path string) {
			_ = os.Mkdir(filepath.Dir(path), 0o700)
			_ = os.WriteFile(path, []byte(garbage[:600]), 0o644)
		}, shannon.CodeDatabaseCorrupt},
		"zeros": {func(t *testing.T, path string) {
			_ = os.Mkdir(filepath.Dir(path), 0o700)
			_ = os.WriteFile(path, make([]byte, 8192), 0o644)
		}, shannon.CodeDatabaseCorrupt},
		"text beside a WAL": {func(t *testing.T, path string) {
			pythonDB(t, path)
			_, _ = process(t, "killed", path).CombinedOutput()
			_ = os.WriteFile(path, []byte(garbage), 0o644)
		}, shannon.CodeDatabaseCorrupt},
		"header overwritten": {func(t *testing.T, path string) {
			current(t, path)
			overwrite(t, path, 0, garbage[:100])
		}, shannon.CodeDatabaseCorrupt},
		"schema overwritten": {func(t *testing.T, path string) {
			current(t, path)
			overwrite(t, path, 100, garbage[:3000])
		}, shannon.CodeDatabaseCorrupt},
		"servers overwritten": {func(t *testing.T, path string) {
			current(t, path)
			overwrite(t, path, 4096*(rootPage(t, path, "mcp_servers")-1), garbage[:4096])
		}, shannon.CodeDatabaseCorrupt},
		"cut short": {func(t *testing.T, path string) {
			current(t, path)
			_ = os.Truncate(path, 4096*3)
		}, shannon.CodeDatabaseCorrupt},
		"python's, history overwritten": {func(t *testing.T, path string) {
			pythonDB(t, path)
			overwrite(t, path, 4096*(rootPage(t, path, "mcp_connections")-1), garbage[:4096])
		}, shannon.CodeDatabaseCorrupt},
		"foreign": {func(t *testing.T, path string) {
			foreignDB(t, path, "CREATE TABLE songs (title TEXT); PRAGMA journal_mode = WAL")
		}, shannon.CodeDatabaseCorrupt},
		"foreign, also with goose": {func(t *testing.T, path string) {
			foreignDB(t, path, "CREATE TABLE goose_db_version (version_id INTEGER, is_applied INTEGER); INSERT INTO goose_db_version VALUES (999, 1)")
		}, shannon.CodeDatabaseCorrupt},
		"other columns": {func(t *testing.T, path string) {
			pythonDB(t, path)
			db := raw(t, path)
			mustExec(t, db, "ALTER TABLE mcp_servers ADD COLUMN extra TEXT")
			_ = db.Close()
		}, shannon.CodeDatabaseCorrupt},
		"other history": {func(t *testing.T, path string) {
			foreignDB(t, path, strings.Replace(pythonSchema, "error_message TEXT,", "", 1))
		}, shannon.CodeDatabaseCorrupt},
		"directory": {func(t *testing.T, path string) {
			_ = os.MkdirAll(path, 0o700)
		}, shannon.CodeDatabaseCorrupt},
		"read-only file": {func(t *testing.T, path string) {
			current(t, path)
			_ = os.Chmod(path, 0o400)
		}, shannon.CodeDatabaseReadOnly},
		"read-only file of python": {func(t *testing.T, path string) {
			pythonDB(t, path)
			_ = os.Chmod(path, 0o444)
		}, shannon.CodeDatabaseReadOnly},
		"read-only directory": {func(t *testing.T, path string) {
			pythonDB(t, path)
			_ = os.Chmod(filepath.Dir(path), 0o500)
			t.Cleanup(func() { _ = os.Chmod(filepath.Dir(path), 0o700) })
		}, shannon.CodeDatabaseReadOnly},
		"read-only empty directory": {func(t *testing.T, path string) {
			_ = os.Mkdir(filepath.Dir(path), 0o500)
			t.Cleanup(func() { _ = os.Chmod(filepath.Dir(path), 0o700) })
		}, shannon.CodeDatabaseReadOnly},
	} {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			tc.prepare(t, path)
			before := snapshot(t, path)
			_, err := Open(t.Context(), Options{Path: path})
			wantCode(t, err, tc.code)
			if p := shannon.ProblemOf(err); p != nil && (p.Hint == "" || !strings.Contains(p.Message, path)) {
				t.Errorf("message %q, hint %q", p.Message, p.Hint)
			}
			if diff := cmp.Diff(before, snapshot(t, path)); diff != "" {
				t.Errorf("touched: %s", diff)
			}
		})
	}
}

func rootPage(t *testing.T, path, table string) int64 {
	t.Helper()
	db := raw(t, path)
	defer db.Close()
	var page int64
	if err := db.QueryRowContext(t.Context(), "SELECT rootpage FROM sqlite_schema WHERE name = ?", table).Scan(&page); err != nil {
		t.Fatal(err)
	}
	return page
}

func TestNoPath(t *testing.T) {
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("opened nothing")
	}
}

// Somebody who is not root meets what the system refuses rather than bits.
func TestReadOnlyForOthers(t *testing.T) {
	nobody, ok := asNobody()
	if !ok || os.Getuid() != 0 {
		t.Skip("needs root, to become somebody else")
	}
	dir, err := os.MkdirTemp("", "store") //nolint:usetesting // others may not enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "store.test")
	if err := os.WriteFile(copied, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, modes := range map[string][2]os.FileMode{"file": {0o777, 0o644}, "directory": {0o755, 0o666}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name, "x.db")
			pythonDB(t, path)
			for at, mode := range map[string]os.FileMode{dir: 0o755, filepath.Dir(path): modes[0], path: modes[1]} {
				if err := os.Chmod(at, mode); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, path)
			cmd := exec.CommandContext(t.Context(), copied)
			cmd.SysProcAttr = nobody
			cmd.Env = []string{"STORE_TEST_ROLE=open", "STORE_TEST_PATH=" + path}
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.HasPrefix(string(out), string(shannon.CodeDatabaseReadOnly)) {
				t.Errorf("got %s, %v", out, err)
			}
			if diff := cmp.Diff(before, snapshot(t, path)); diff != "" {
				t.Errorf("touched: %s", diff)
			}
		})
	}
}

// hold starts a process that runs SQL on the database and keeps it locked until
// the test ends.
func hold(t *testing.T, path, query string) {
	t.Helper()
	cmd := process(t, "hold", path)
	cmd.Env = append(cmd.Env, "STORE_TEST_SQL="+query)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("holder says %q, %v", line, err)
	}
}

func TestLocked(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*testing.T, string)
		query   string
	}{
		"python's":                {pythonDB, "BEGIN EXCLUSIVE"},
		"python's, without a WAL": {pythonDB, "PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE"},
		"python's, mode":          {pythonDB, "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; SELECT * FROM mcp_servers"},
		"current":                 {current, "BEGIN EXCLUSIVE"},
		"current, mode":           {current, "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; UPDATE mcp_servers SET title = ''"},
	} {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			tc.prepare(t, path)
			hold(t, path, tc.query)
			before := snapshot(t, path)
			start := time.Now()
			_, err := Open(t.Context(), Options{Path: path, BusyTimeout: 400 * time.Millisecond})
			wantCode(t, err, shannon.CodeDatabaseLocked)
			if took := time.Since(start); took < 300*time.Millisecond || took > 1500*time.Millisecond {
				t.Errorf("took %v", took)
			}
			if diff := cmp.Diff(before, snapshot(t, path)); diff != "" {
				t.Errorf("touched: %s", diff)
			}
		})
	}
}

// A lock that comes later is told by the command that meets it.
func TestLockedLater(t *testing.T) {
	path := dbPath(t)
	s, err := Open(t.Context(), Options{Path: path, BusyTimeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	hold(t, path, "BEGIN IMMEDIATE")
	_, err = s.Insert(t.Context(), fullServer())
	wantCode(t, err, shannon.CodeDatabaseLocked)
	if _, err := s.Servers(t.Context()); err != nil {
		t.Errorf("reading: %v", err)
	}
}

const (
	crowd      = 6
	crowdSteps = 15
)

// Several processes open a database at once, of which one upgrades it, and then
// all write to the same rows.
func TestManyProcesses(t *testing.T) {
	for name, prepare := range map[string]func(*testing.T, string){"python": pythonDB, "fresh": func(*testing.T, string) {}} {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			prepare(t, path)
			var wg sync.WaitGroup
			for i := range crowd {
				wg.Go(func() {
					cmd := process(t, "crowd", path)
					cmd.Env = append(cmd.Env, fmt.Sprintf("STORE_TEST_WHO=%d", i))
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("process %d: %v: %s", i, err, out)
					}
				})
			}
			wg.Wait()
			s := open(t, path)
			wantBackups := 0
			if name == "python" {
				wantBackups = 1
			}
			if got := s.opts.backups(); len(got) != wantBackups {
				t.Errorf("backups: %v", got)
			}
			if got, err := s.Server(t.Context(), "counter"); err != nil || got.RetryCount != crowd*crowdSteps {
				t.Errorf("counted to %d, %v; want %d", got.RetryCount, err, crowd*crowdSteps)
			}
			rows := history(t, s, shannon.HistoryFilter{Server: "shared", Limit: 10000})
			if len(rows) != crowd*crowdSteps {
				t.Errorf("%d rows, want %d", len(rows), crowd*crowdSteps)
			}
			for i, r := range rows {
				if open := r.DisconnectedAt == nil; open != (i == 0) {
					t.Errorf("row %d of %d from the end is open: %v", i, len(rows), open)
				}
			}
			checkIntegrity(t, path)
		})
	}
}

// Several stores of one process share a file as well.
func TestManyStores(t *testing.T) {
	path := dbPath(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if err := crowdMember(t.Context(), path, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, err := open(t, path).Server(t.Context(), "counter"); err != nil || got.RetryCount != 4*crowdSteps {
		t.Errorf("counted to %d, %v", got.RetryCount, err)
	}
	checkIntegrity(t, path)
}

func crowdMember(ctx context.Context, path, who string) error {
	s, err := Open(ctx, Options{Path: path})
	if err != nil {
		return err
	}
	defer s.Close()
	counter := shannon.NewServer("counter")
	counter.ID, counter.Transport, counter.RetryCount = "counter", shannon.TransportStdio, 0
	if _, err := s.Insert(ctx, counter); err != nil && shannon.CodeOf(err) != shannon.CodeNameTaken {
		return err
	}
	for range crowdSteps {
		if _, _, err := s.Update(ctx, "counter", func(s *shannon.Server) error { s.RetryCount++; return nil }); err != nil {
			return err
		}
		if _, err := s.Record(ctx, shannon.Transition{ServerID: "shared", Server: who, State: shannon.StateConnected}); err != nil {
			return err
		}
	}
	return nil
}

func init() {
	roles["crowd"] = func(path string) error {
		return crowdMember(context.Background(), path, os.Getenv("STORE_TEST_WHO"))
	}
	roles["open"] = func(path string) error {
		s, err := Open(context.Background(), Options{Path: path})
		if err != nil {
			return err
		}
		return s.Close()
	}
	roles["hold"] = func(path string) error {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			return err
		}
		db.SetMaxOpenConns(1)
		if _, err := db.ExecContext(context.Background(), os.Getenv("STORE_TEST_SQL")); err != nil {
			return err
		}
		fmt.Println("held")
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	roles["newer"] = func(path string) error {
		db, err := sql.Open("sqlite", path)
		if err != nil {
			return err
		}
		if _, err := db.ExecContext(context.Background(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)"); err != nil {
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

// Who looks at a database while another upgrades it sees it before or after.
func TestLookDuringUpgrade(t *testing.T) {
	for range 8 {
		path := dbPath(t)
		pythonDB(t, path)
		o := Options{Path: path}
		o.setDefaults()
		var upgraded atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for !upgraded.Load() {
					if err := o.inspect(t.Context()); err != nil {
						t.Errorf("look: %v", err)
						return
					}
				}
			})
		}
		s, err := Open(t.Context(), o)
		upgraded.Store(true)
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
