package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/shannon-mcp/shannon"
)

// Open opens the database, makes it when there is none, and brings an older one
// up to date after a backup of it. A database that is up to date is not written.
//
// It refuses, and leaves untouched, a database of a newer Shannon
// ([shannon.CodeDatabaseNewer]), a file that is damaged or somebody else's
// ([shannon.CodeDatabaseCorrupt]), one that cannot be written
// ([shannon.CodeDatabaseReadOnly]; permission bits count also for root, whom
// they would not stop), and one that another process has locked for longer than
// the busy timeout ([shannon.CodeDatabaseLocked]).
func Open(ctx context.Context, opts Options) (*Store, error) {
	opts.setDefaults()
	if err := opts.prepare(); err != nil {
		return nil, err
	}
	if err := opts.inspect(ctx); err != nil {
		return nil, opts.wrap("read database", err)
	}
	s := &Store{opts: opts}
	var err error
	if s.writes, err = opts.connect("rw", 1); err != nil {
		return nil, err
	}
	if s.reads, err = opts.connect("rw", 4); err != nil {
		_ = s.writes.Close() // it has not opened anything yet
		return nil, err
	}
	if err = s.upgrade(ctx); err == nil {
		err = s.prepareLedger(ctx)
	}
	if err != nil {
		_ = s.Close() // the first error is the one to tell
		return nil, opts.wrap("open database", err)
	}
	return s, nil
}

// creating makes the making of a file exclusive in this process: closing a
// descriptor of a file drops all locks that the process has on it, so nobody may
// have opened it for SQLite before its maker has closed it.
var creating sync.Mutex

// prepare makes Path absolute and sees to it that there is a file of ours to
// write there.
func (o *Options) prepare() error {
	path, err := filepath.Abs(o.Path)
	if err != nil || o.Path == "" {
		return fmt.Errorf("find database %q: %w", o.Path, errors.Join(err, fs.ErrInvalid))
	}
	// SQLite puts its other files beside what a link leads to.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	o.Path = path
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return o.fileError(err)
	}
	if !writable(dir) {
		return o.readOnly(fs.ErrPermission)
	}
	creating.Lock()
	defer creating.Unlock()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Made here rather than by SQLite, which would take the umask's mode; its
		// -wal and -shm get the mode of the file.
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) { // by another process
			return nil
		}
		if err != nil {
			return o.fileError(err)
		}
		return f.Close()
	}
	switch {
	case err != nil:
		return o.fileError(err)
	case !info.Mode().IsRegular():
		return o.foreign("it is not a file")
	case !writable(path):
		return o.readOnly(fs.ErrPermission)
	case info.Size() > 0 && info.Size() < minFile:
		return o.corrupt(io.ErrUnexpectedEOF)
	}
	return nil
}

// minFile is the least page that SQLite knows. It takes a file below that for an
// empty one and would write over it.
const minFile = 512

// fileError tells apart what the operating system said.
func (o *Options) fileError(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return o.readOnly(err)
	}
	return fmt.Errorf("prepare database: %w", err)
}

// inspect refuses a file that is not for us, without a trace. A connection that
// can write would on closing move a left-behind WAL into the file, so there it is
// a read-only one; where there is no WAL, one that can write is needed, because
// it takes away the empty WAL that SQLite makes for looking.
func (o *Options) inspect(ctx context.Context) error {
	mode := "rw"
	if info, err := os.Stat(o.Path + "-wal"); err == nil && info.Size() > 0 {
		mode = "ro"
	}
	db, err := o.connect(mode, 1)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing was written
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to its pool
	// All looks see the same state: another process may be upgrading it meanwhile.
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") }() // also when ctx is done
	version, err := o.identify(ctx, conn)
	if err != nil || version == fresh {
		return err
	}
	// A full check reads everything. That is right before an upgrade, which does
	// as well; afterwards it is enough that the servers can be read.
	check := "PRAGMA quick_check(mcp_servers)"
	if version < latest {
		check = "PRAGMA quick_check(1)"
	}
	var verdict string
	if err := conn.QueryRowContext(ctx, check).Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return o.corrupt(fmt.Errorf("check database: %s", verdict))
	}
	return nil
}

// fresh is the version of a database without any table; the Python manager's has
// version 0.
const fresh = -1

// columnsOf lists the columns of the Python manager's tables, sorted.
var columnsOf = map[string][]string{
	"mcp_servers": {
		"args", "command", "config", "created_at", "enabled", "endpoint", "env", "health_check_interval", "id", "name",
		"retry_count", "retry_delay", "timeout", "transport", "updated_at",
	},
	"mcp_connections": {
		"connected_at", "disconnected_at", "duration_seconds", "error_message", "id", "server_id", "state",
	},
	"mcp_discovery_cache": {"discovered_at", "expires_at", "servers", "source"},
}

const versionTable = "goose_db_version"

// identify returns the version of the database, or why it is not for us.
func (o *Options) identify(ctx context.Context, q querier) (int64, error) {
	tables, err := texts(ctx, q, "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_'")
	if err != nil {
		return 0, err
	}
	if len(tables) == 0 {
		return fresh, nil
	}
	if !slices.Contains(tables, "mcp_servers") {
		return 0, o.foreign("it has no table mcp_servers")
	}
	if slices.Contains(tables, versionTable) {
		return o.version(ctx, q)
	}
	for table, want := range columnsOf {
		have, err := texts(ctx, q, "SELECT name FROM pragma_table_info(?) ORDER BY name", table)
		if err != nil {
			return 0, err
		}
		if slices.Contains(tables, table) && !slices.Equal(have, want) {
			return 0, o.foreign("table %s has other columns", table)
		}
	}
	return 0, nil
}

func (o *Options) version(ctx context.Context, q querier) (int64, error) {
	var version sql.NullInt64
	err := q.QueryRowContext(ctx, "SELECT max(version_id) FROM "+versionTable+" WHERE is_applied").Scan(&version)
	if resultCode(err) == sqlite3.SQLITE_ERROR { // no such column
		return 0, o.foreign("table %s has other columns", versionTable)
	}
	if err != nil {
		return 0, err
	}
	if version.Int64 > latest {
		return 0, shannon.Errorf(shannon.CodeDatabaseNewer,
			"Install the newest Shannon, or put back the backup that it made beside the database when it took it over",
			"database %s was written by a newer Shannon: it has version %d, and this one knows up to %d",
			o.Path, version.Int64, latest)
	}
	return version.Int64, nil
}

// texts returns the first column of every row.
func texts(ctx context.Context, q querier, query string, args ...any) ([]string, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	var out []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		out = append(out, text)
	}
	return out, rows.Err()
}

// secure takes the permissions of others away, which the Python manager left.
func (s *Store) secure(ctx context.Context) {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		path := s.opts.Path + suffix
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&0o077 == 0 {
			continue
		}
		if err := os.Chmod(path, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.opts.Log.WarnContext(ctx, "database may be read by other users", "path", path, "err", err)
		}
	}
}
