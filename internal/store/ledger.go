package store

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
)

// The rows of the ledger that came from the Python manager are marked as migrated
// and never change.

const ledgerColumns = `server_id, server_name, state, cause, problem, error_message, attempt, era, version,
	pid, command, handshake_ms, exit_code, signal, stderr, connected_at, disconnected_at, duration_seconds, next_retry`

// prepareLedger prepares the statements of Record, which is called at every
// transition.
func (s *Store) prepareLedger(ctx context.Context) error {
	for _, p := range []struct {
		stmt  **sql.Stmt
		query string
	}{
		{&s.openRows, `SELECT id, connected_at FROM mcp_connections
			WHERE server_id = ? AND disconnected_at IS NULL AND migrated = 0`},
		{&s.closeRow, "UPDATE mcp_connections SET disconnected_at = ?, duration_seconds = ? WHERE id = ?"},
		{&s.insertRow, "INSERT INTO mcp_connections (" + ledgerColumns + ") VALUES (?" +
			strings.Repeat(", ?", strings.Count(ledgerColumns, ",")) + ")"},
	} {
		var err error
		if *p.stmt, err = s.writes.PrepareContext(ctx, p.query); err != nil { //nolint:sqlclosecheck // Close closes them
			return err
		}
	}
	return nil
}

// Record adds a row to the ledger and, in the same transaction, ends the state
// that the server was in until then. ConnectedAt, when the new state began, is
// now if nil. It returns the id of the row.
func (s *Store) Record(ctx context.Context, t shannon.Transition) (int64, error) {
	began := s.now()
	if t.ConnectedAt != nil {
		began = *t.ConnectedAt
	}
	var id int64
	err := s.write(ctx, "record transition", func(tx *sql.Tx) error {
		if err := s.endState(ctx, tx, t.ServerID, began); err != nil {
			return err
		}
		insert := tx.StmtContext(ctx, s.insertRow)
		defer func() { _ = insert.Close() }() // the prepared one stays
		result, err := insert.ExecContext(ctx,
			t.ServerID, some(t.Server), string(t.State), some(t.Cause), some(t.Problem), some(t.Error), some(t.Attempt), some(t.Era), some(t.Version),
			some(t.PID), some(t.Command), some(t.HandshakeMS), t.ExitCode, some(t.Signal), some(t.Stderr),
			formatTime(began), formatTimePtr(t.DisconnectedAt), t.Duration, formatTimePtr(t.NextRetry))
		if err != nil {
			return err
		}
		id, err = result.LastInsertId()
		return err
	})
	return id, err
}

// endState closes the open row of a server; several, should there be.
func (s *Store) endState(ctx context.Context, tx *sql.Tx, serverID string, end time.Time) error {
	type open struct {
		id    int64
		began sql.NullString
	}
	var found []open
	openRows, closeRow := tx.StmtContext(ctx, s.openRows), tx.StmtContext(ctx, s.closeRow)
	defer func() { _, _ = openRows.Close(), closeRow.Close() }() // the prepared ones stay
	rows, err := openRows.QueryContext(ctx, serverID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err tells
	for rows.Next() {
		var o open
		if err := rows.Scan(&o.id, &o.began); err != nil {
			return err
		}
		found = append(found, o)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, o := range found {
		var seconds any
		if began, ok := parseTime(o.began.String); ok {
			// The wall clock may have been set back in between.
			seconds = max(0, math.Round(end.Sub(began).Seconds()*1e6)/1e6)
		}
		if _, err := closeRow.ExecContext(ctx, formatTime(end), seconds, o.id); err != nil {
			return err
		}
	}
	return nil
}

// some gives NULL for a zero value.
func some[T ~string | ~int | ~int64](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// History returns rows of the ledger, newest first. A filter's server is an id, or
// a name that a server has or had in some row: then all rows of that server are
// meant, under whatever name.
func (s *Store) History(ctx context.Context, f shannon.HistoryFilter) ([]shannon.Transition, error) {
	out, err := s.history(ctx, f)
	return out, s.opts.wrap("read history", err)
}

func (s *Store) history(ctx context.Context, f shannon.HistoryFilter) ([]shannon.Transition, error) {
	where, args := []string{"1"}, []any{}
	if f.Server != "" {
		where = append(where, `server_id IN (SELECT ? UNION SELECT id FROM mcp_servers WHERE name = ?
			UNION SELECT server_id FROM mcp_connections WHERE server_name = ?)`)
		args = append(args, f.Server, f.Server, f.Server)
	}
	if f.State != "" {
		where, args = append(where, "state = ?"), append(args, string(f.State))
	}
	if !f.Since.IsZero() {
		// Stored forms differ after the date, so the rest is compared below.
		where, args = append(where, "connected_at >= ?"), append(args, f.Since.UTC().Format(time.DateOnly))
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	rows, err := s.reads.QueryContext(ctx, "SELECT id, "+ledgerColumns+" FROM mcp_connections WHERE "+
		strings.Join(where, " AND ")+" ORDER BY id DESC", args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	var out []shannon.Transition
	for len(out) < limit && rows.Next() {
		t, err := scanTransition(rows)
		if err != nil {
			return nil, err
		}
		if f.Since.IsZero() || t.ConnectedAt != nil && !t.ConnectedAt.Before(f.Since) {
			out = append(out, t)
		}
	}
	return out, rows.Err()
}

func scanTransition(rows *sql.Rows) (shannon.Transition, error) {
	var t shannon.Transition
	var connected, disconnected, next sql.NullString
	var exit sql.NullInt64
	var duration sql.NullString // the column of the Python manager may hold anything
	if err := rows.Scan(&t.ID, &t.ServerID, &orZero[string]{&t.Server}, &t.State, &orZero[string]{&t.Cause},
		&orZero[shannon.Code]{&t.Problem}, &orZero[string]{&t.Error}, &orZero[int]{&t.Attempt}, &orZero[shannon.Era]{&t.Era},
		&orZero[string]{&t.Version}, &orZero[int]{&t.PID}, &orZero[string]{&t.Command}, &orZero[int64]{&t.HandshakeMS},
		&exit, &orZero[string]{&t.Signal}, &orZero[string]{&t.Stderr}, &connected, &disconnected, &duration, &next); err != nil {
		return t, fmt.Errorf("read row: %w", err)
	}
	if exit.Valid {
		code := int(exit.Int64)
		t.ExitCode = &code
	}
	if seconds, err := strconv.ParseFloat(duration.String, 64); err == nil {
		t.Duration = &seconds
	}
	t.ConnectedAt, t.DisconnectedAt, t.NextRetry = parseTimePtr(connected), parseTimePtr(disconnected), parseTimePtr(next)
	return t, nil
}

// orZero scans NULL as the zero value.
type orZero[T any] struct{ into *T }

// Scan implements [sql.Scanner].
func (o *orZero[T]) Scan(v any) error {
	var n sql.Null[T]
	err := n.Scan(v)
	*o.into = n.V
	return err
}

// Prune deletes rows of states that ended longer than keep ago, and returns how
// many. Rows of the Python manager stay, and the last 100 of every server.
func (s *Store) Prune(ctx context.Context, keep time.Duration) (int, error) {
	var n int64
	err := s.write(ctx, "prune history", func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `DELETE FROM mcp_connections
			WHERE migrated = 0 AND disconnected_at < ? AND id NOT IN (
				SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY server_id ORDER BY id DESC) AS newest FROM mcp_connections)
				WHERE newest <= 100)`, formatTime(s.now().Add(-keep)))
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	return int(n), err
}
