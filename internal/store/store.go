// Package store keeps what was asked for and what happened: the definitions of
// servers, the ledger of their connections, and what is remembered about a
// definition so that a restart need not ask again. It is one SQLite file, the
// one of the Python manager, which [Open] takes over in place: a backup, then
// migrations.
//
// It knows rows and files. It must not know what a definition means, when a
// server is to be started, or who asks; it validates nothing but what a table
// cannot hold. Secrets are in the file in plain text, which is why the file is
// 0600, and are in no error and no log.
//
// A [Store] may be used by several goroutines, and the file by several processes
// at once: WAL lets everyone read while one writes, every write is an immediate
// transaction that waits its turn for the busy timeout, and an upgrade is a
// single transaction, so that of several openers exactly one performs it.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/shannon-mcp/shannon"
)

// Options say what to open. Only Path is required.
type Options struct {
	Path string
	Log  *slog.Logger     // nil discards
	Now  func() time.Time // nil means time.Now
	// BusyTimeout is how long to wait for another process; 0 means 5 s.
	BusyTimeout time.Duration
}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.BusyTimeout == 0 {
		o.BusyTimeout = 5 * time.Second
	}
}

// Store is an open database.
type Store struct {
	opts   Options
	reads  *sql.DB
	writes *sql.DB // one connection: writers of this process queue here, not in SQLite

	openRows, closeRow, insertRow *sql.Stmt // of the ledger
}

// querier is what [sql.DB], [sql.Conn] and [sql.Tx] have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// connect makes a pool on the file, which must exist. Mode is SQLite's: ro or rw.
// Nothing is opened before the first use.
func (o *Options) connect(mode string, conns int) (*sql.DB, error) {
	path := filepath.ToSlash(o.Path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // a drive letter
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"mode":          {mode},
		"_busy_timeout": {strconv.FormatInt(o.BusyTimeout.Milliseconds(), 10)},
		// In WAL mode a power cut may take the last commits, but never harms the file.
		"_synchronous": {"NORMAL"},
		"_txlock":      {"immediate"},
	}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// Close waits for what runs and closes the file.
func (s *Store) Close() error {
	var errs []error
	for _, stmt := range []*sql.Stmt{s.openRows, s.closeRow, s.insertRow} {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	errs = append(errs, s.reads.Close(), s.writes.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// now is the time as the file can hold it.
func (s *Store) now() time.Time { return s.opts.Now().UTC().Truncate(time.Microsecond) }

// write runs do in one immediate transaction. Errors come back with what was
// tried in front.
func (s *Store) write(ctx context.Context, what string, do func(*sql.Tx) error) error {
	err := func() error {
		tx, err := s.writes.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after a commit
		if err := do(tx); err != nil {
			return err
		}
		return tx.Commit()
	}()
	return s.opts.wrap(what, err)
}

// wrap says what was tried and turns SQLite's result codes into problems. Errors
// that are problems already stay as they are.
func (o *Options) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*shannon.Error](err); ok {
		return err
	}
	if p := o.diagnose(err); p != nil {
		return p
	}
	return fmt.Errorf("%s: %w", what, err)
}

// resultCode returns SQLite's extended result code, 0 when err is not SQLite's.
func resultCode(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// diagnose gives the result codes that a person can do something about as
// problems, nil for others.
func (o *Options) diagnose(err error) *shannon.Error {
	switch resultCode(err) & 0xff { // the primary code
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return o.locked(err)
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM:
		return o.readOnly(err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return o.corrupt(err)
	case sqlite3.SQLITE_FULL:
		return &shannon.Error{Err: err, Problem: shannon.Problem{
			Code:    shannon.CodeInternal,
			Message: "there is no space left to write " + o.Path,
			Hint:    "Free some space on that disk and try again",
		}}
	default:
		return nil
	}
}

func (o *Options) locked(err error) *shannon.Error {
	return &shannon.Error{Err: err, Problem: shannon.Problem{
		Code:    shannon.CodeDatabaseLocked,
		Message: fmt.Sprintf("database %s is locked by another program for more than %v", o.Path, o.BusyTimeout),
		Hint:    "End the program that holds it, or wait for it, and try again",
	}}
}

func (o *Options) readOnly(err error) *shannon.Error {
	return &shannon.Error{Err: err, Problem: shannon.Problem{
		Code:    shannon.CodeDatabaseReadOnly,
		Message: "database " + o.Path + " cannot be written: the file or its directory is read-only",
		Hint:    "Give yourself write permission on both, or choose another home with SHANNON_HOME",
	}}
}

func (o *Options) corrupt(err error) *shannon.Error {
	hint := "Move it away to begin anew: mv " + o.Path + " " + o.Path + ".broken"
	if backups := o.backups(); len(backups) > 0 {
		hint = "Move it away with its -wal and -shm, and put the last backup in its place: cp " +
			backups[len(backups)-1] + " " + o.Path
	}
	return &shannon.Error{Err: err, Problem: shannon.Problem{
		Code:    shannon.CodeDatabaseCorrupt,
		Message: "database " + o.Path + " is damaged, or is no SQLite database",
		Hint:    hint,
	}}
}

// foreign is for a sound SQLite file that is somebody else's.
func (o *Options) foreign(format string, args ...any) *shannon.Error {
	return shannon.Errorf(shannon.CodeDatabaseCorrupt,
		"Move it away to begin anew, or choose another home with SHANNON_HOME",
		"database %s is neither Shannon's nor the Python manager's: %s", o.Path, fmt.Sprintf(format, args...))
}
