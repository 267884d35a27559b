package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/shannon-mcp/shannon"
)

//go:embed migrations/*.sql
var migrations embed.FS

// latest is the version that the last migration leads to: two files, and the
// derivation of names.
const latest int64 = 3

// upgrade brings the database to the latest version, after a backup unless it is
// empty. One immediate transaction is around the look, the backup and all
// migrations: of several processes one upgrades and the others find it done, and
// a failure or a crash leaves what was there.
func (s *Store) upgrade(ctx context.Context) (err error) {
	conn, err := s.writes.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to its pool
	if err := s.useWAL(ctx, conn); err != nil {
		return err
	}
	// Taken also when nothing is to be done: a database that cannot be written,
	// or is locked, is told now and not by the first command that writes.
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	end := "ROLLBACK"
	defer func() {
		// The end must be reached also when ctx is done.
		if _, e := conn.ExecContext(context.WithoutCancel(ctx), end); err == nil {
			err = e
		}
	}()
	version, err := s.opts.identify(ctx, conn)
	if err != nil {
		return err
	}
	s.secure(ctx)
	if version == latest {
		return nil
	}
	hint := "The database is as it was"
	if version != fresh {
		backup, err := s.backup(ctx)
		if err != nil {
			return fmt.Errorf("back up database: %w", err)
		}
		s.opts.Log.InfoContext(ctx, "database backed up", "path", backup)
		hint += ", and " + backup + " is a copy of it"
	}
	if err := conn.Raw(func(c any) error { return migrate(ctx, c) }); err != nil {
		if p := s.opts.diagnose(err); p != nil {
			return p
		}
		return shannon.Errorf(shannon.CodeInternal, hint, "upgrade database %s to version %d: %w", s.opts.Path, latest, err)
	}
	end = "COMMIT"
	s.opts.Log.InfoContext(ctx, "database upgraded", "path", s.opts.Path, "from", max(version, 0), "to", latest)
	return nil
}

// useWAL switches the journal, which lasts. Unlike everything else this does not
// wait for other connections, so it is tried until the busy timeout is over.
func (s *Store) useWAL(ctx context.Context, q querier) error {
	var mode string
	if err := q.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil || mode == "wal" {
		return err
	}
	deadline := time.NewTimer(s.opts.BusyTimeout)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		err := q.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
		if resultCode(err)&0xff != sqlite3.SQLITE_BUSY {
			return err
		}
		select {
		case <-again.C:
		case <-deadline.C:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// migrate runs the migrations on a connection of the driver that is in a
// transaction.
func migrate(ctx context.Context, c any) error {
	conn, ok := c.(sqliteConn)
	if !ok {
		return fmt.Errorf("migrate with %T: %w", c, errors.ErrUnsupported)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	db := sql.OpenDB(enclosed{conn})
	defer func() { _ = db.Close() }() // closes nothing
	db.SetMaxOpenConns(1)
	names := goose.NewGoMigration(latest, &goose.GoFunc{RunTx: deriveNames}, nil)
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithGoMigrations(names), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("collect migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		// Goose tells how far it came, which matters to nobody: all of it goes.
		if partial, ok := errors.AsType[*goose.PartialError](err); ok {
			return partial.Err
		}
		return err
	}
	return nil
}

// sqliteConn is what database/sql needs of a connection.
type sqliteConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
}

// enclosed is a connection inside a transaction that somebody else began and
// will end: transactions in it are parts of that one. It is its own connector,
// so that goose, which wants a whole database, gets just this connection.
type enclosed struct{ sqliteConn }

func (e enclosed) Connect(context.Context) (driver.Conn, error) { return e, nil }
func (e enclosed) Driver() driver.Driver                        { return &sqlite.Driver{} }
func (e enclosed) Close() error                                 { return nil }

func (e enclosed) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return part{}, nil }

type part struct{}

func (part) Commit() error   { return nil }
func (part) Rollback() error { return nil } // goose then fails, and all is rolled back

const (
	backupsKept = 3
	backupStamp = "20060102T150405.000000Z" // sorts by time
)

// backup copies the database, WAL and all, to a file beside it and deletes all
// but the last few copies. It runs on a second connection, because VACUUM cannot
// run in a transaction; the one of upgrade has not changed anything yet.
func (s *Store) backup(ctx context.Context) (string, error) {
	var path string
	for stamp := s.now(); ; stamp = stamp.Add(time.Microsecond) {
		path = s.opts.Path + ".backup-" + stamp.Format(backupStamp)
		// VACUUM INTO accepts an empty file, and this one has the right mode.
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", s.opts.fileError(err)
		}
		if err := f.Close(); err != nil {
			return "", err
		}
		break
	}
	if _, err := s.reads.ExecContext(ctx, "VACUUM INTO ?", path); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	old := s.opts.backups()
	for _, path := range old[:max(0, len(old)-backupsKept)] {
		if err := os.Remove(path); err != nil {
			s.opts.Log.WarnContext(ctx, "old backup stays", "path", path, "err", err)
		}
	}
	return path, nil
}

// backups lists the backups that [Store.backup] made, oldest first.
func (o *Options) backups() []string {
	dir, base := filepath.Split(o.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // what cannot be listed is not there to be named or deleted
	}
	var out []string
	for _, e := range entries { // by name
		stamp, ok := strings.CutPrefix(e.Name(), base+".backup-")
		if _, err := time.Parse(backupStamp, stamp); ok && err == nil {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(out)
	return out
}
