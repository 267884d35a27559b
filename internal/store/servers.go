package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/shannon-mcp/shannon"
)

// selectServers reads everything as text: SQLite keeps what was written, and
// nothing that the Python manager or a person wrote may make a row unreadable.
var selectServers = func() string {
	var b strings.Builder
	b.WriteString("SELECT id, CAST(created_at AS TEXT), CAST(updated_at AS TEXT)")
	for _, c := range columns {
		fmt.Fprintf(&b, ", CAST(%s AS TEXT)", c.name)
	}
	b.WriteString(" FROM mcp_servers")
	return b.String()
}()

// row is a server as stored, and the columns whose text could not be read.
type row struct {
	shannon.Server
	unreadable []string
}

func (r *row) scan(rows *sql.Rows) error {
	values := make([]sql.NullString, len(columns)+3)
	into := make([]any, len(values))
	for i := range values {
		into[i] = &values[i]
	}
	if err := rows.Scan(into...); err != nil {
		return err
	}
	r.Server = shannon.NewServer("") // the defaults, for NULL
	r.ID = values[0].String
	r.CreatedAt, _ = parseTime(values[1].String)
	r.UpdatedAt, _ = parseTime(values[2].String)
	for i, c := range columns {
		if !c.set(&r.Server, values[i+3]) {
			r.unreadable = append(r.unreadable, c.name)
		}
	}
	return nil
}

// readServers runs selectServers with what follows it.
func readServers(ctx context.Context, q querier, rest string, args ...any) ([]row, error) {
	rows, err := q.QueryContext(ctx, selectServers+" "+rest, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // Err tells
	var out []row
	for rows.Next() {
		var r row
		if err := r.scan(rows); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// readServer returns the only server for which the column has that value.
func readServer(ctx context.Context, q querier, column, value string) (shannon.Server, error) {
	rows, err := readServers(ctx, q, "WHERE "+column+" = ?", value)
	if err != nil {
		return shannon.Server{}, err
	}
	if len(rows) == 0 {
		return shannon.Server{}, shannon.Errorf(shannon.CodeUnknownServer, "", "there is no server %q", value)
	}
	return rows[0].Server, nil
}

// Servers returns every server, by name, also those with an unknown transport or
// with unreadable fields, which are empty; see [Store.Flaws].
func (s *Store) Servers(ctx context.Context) ([]shannon.Server, error) {
	rows, err := readServers(ctx, s.reads, "ORDER BY name")
	if err != nil {
		return nil, s.opts.wrap("list servers", err)
	}
	out := make([]shannon.Server, len(rows))
	for i := range rows {
		out[i] = rows[i].Server
	}
	return out, nil
}

// Server returns the server of exactly that name, or [shannon.CodeUnknownServer].
func (s *Store) Server(ctx context.Context, name string) (shannon.Server, error) {
	server, err := readServer(ctx, s.reads, "name", name)
	return server, s.opts.wrap("read server", err)
}

// Flaws says, by server id, what keeps a stored server from being used: a
// transport that this Shannon does not know, or args, env, headers or config
// that cannot be read. The stored text stays until that field is set.
func (s *Store) Flaws(ctx context.Context) (map[string]shannon.Problem, error) {
	rows, err := readServers(ctx, s.reads, "")
	if err != nil {
		return nil, s.opts.wrap("check servers", err)
	}
	flaws := map[string]shannon.Problem{}
	for _, r := range rows {
		switch {
		case !slices.Contains(shannon.Transports, r.Transport):
			flaws[r.ID] = shannon.Problem{
				Code:    shannon.CodeBadTransport,
				Message: fmt.Sprintf("server %q has the unknown transport %q", r.Name, r.Transport),
				Hint:    "Give it one of stdio, http, sse, websocket: shannon set " + r.Name + " transport=http",
			}
		case len(r.unreadable) > 0:
			flaws[r.ID] = shannon.Problem{
				Code:    shannon.CodeInvalidServer,
				Message: fmt.Sprintf("%s of server %q cannot be read: the stored text is no JSON of the right form", strings.Join(r.unreadable, ", "), r.Name),
				Hint:    "Set it anew with shannon set " + r.Name + "; until then the database keeps the text",
			}
		}
	}
	return flaws, nil
}

// Insert stores a server as new and returns it with its times, and with an id if
// it had none. A taken name, whatever its case, and a taken id are
// [shannon.CodeNameTaken].
func (s *Store) Insert(ctx context.Context, server shannon.Server) (shannon.Server, error) {
	if server.ID == "" {
		server.ID = "srv_" + strings.ToLower(rand.Text())
	}
	server.CreatedAt = s.now()
	server.UpdatedAt = server.CreatedAt
	names, args := "id, created_at, updated_at", []any{server.ID, formatTime(server.CreatedAt), formatTime(server.UpdatedAt)}
	for _, c := range columns {
		names, args = names+", "+c.name, append(args, c.get(&server))
	}
	err := s.write(ctx, "insert server", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO mcp_servers ("+names+") VALUES (?"+strings.Repeat(", ?", len(args)-1)+")", args...)
		return taken(err, &server)
	})
	if err != nil {
		return shannon.Server{}, err
	}
	return server, nil
}

// Update changes a server in one transaction: what change sees nobody else
// changes. Only fields that change are written, so text that could not be read
// stays unless its field is set. Id and creation time are not for change to
// alter. An error of change comes back, and nothing is stored.
func (s *Store) Update(ctx context.Context, id string, change func(*shannon.Server) error) (before, after shannon.Server, err error) {
	err = s.write(ctx, "update server", func(tx *sql.Tx) error {
		var err error
		if before, err = readServer(ctx, tx, "id", id); err != nil {
			return err
		}
		// Read again rather than copied: change may alter what a copy would share.
		if after, err = readServer(ctx, tx, "id", id); err != nil {
			return err
		}
		if err := change(&after); err != nil {
			return err
		}
		after.ID, after.CreatedAt, after.UpdatedAt = before.ID, before.CreatedAt, s.now()
		set, args := "updated_at = ?", []any{formatTime(after.UpdatedAt)}
		for _, c := range columns {
			if value := c.get(&after); value != c.get(&before) {
				set, args = set+", "+c.name+" = ?", append(args, value)
			}
		}
		_, err = tx.ExecContext(ctx, "UPDATE mcp_servers SET "+set+" WHERE id = ?", append(args, id)...)
		return taken(err, &after)
	})
	if err != nil {
		return shannon.Server{}, shannon.Server{}, err
	}
	return before, after, nil
}

// Delete removes a server and what is remembered about it, and returns it. Its
// history stays.
func (s *Store) Delete(ctx context.Context, name string) (shannon.Server, error) {
	var server shannon.Server
	err := s.write(ctx, "delete server", func(tx *sql.Tx) error {
		var err error
		if server, err = readServer(ctx, tx, "name", name); err != nil {
			return err
		}
		for _, statement := range []string{
			"DELETE FROM mcp_servers WHERE id = ?",
			"DELETE FROM shannon_memory WHERE server_id = ?",
		} {
			if _, err := tx.ExecContext(ctx, statement, server.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return server, err
}

// taken turns a violated uniqueness into a problem.
func taken(err error, server *shannon.Server) error {
	switch resultCode(err) {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE:
		return shannon.Errorf(shannon.CodeNameTaken, "Choose another name, or change that server: shannon set "+server.Name,
			"there is a server %q already (upper and lower case count as the same)", server.Name)
	case sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return shannon.Errorf(shannon.CodeNameTaken, "Leave the id out to get a new one", "there is a server with id %q already", server.ID)
	default:
		return err
	}
}
