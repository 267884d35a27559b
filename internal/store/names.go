package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/shannon-mcp/shannon"
)

// deriveNames is the migration that makes names handles: valid and unique. The
// Python manager's were display names; one that changes is kept as the title.
//
// Names are unique whatever their case, because they are names of log files, and
// of tools in clients that fold case. They are looked up as they are written.
func deriveNames(ctx context.Context, tx *sql.Tx) error {
	// An order that does not depend on where rows lie makes the outcome stable.
	rows, err := tx.QueryContext(ctx, `SELECT rowid, coalesce(CAST(id AS TEXT), ''), CAST(name AS TEXT)
		FROM mcp_servers ORDER BY created_at, id, rowid`)
	if err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	defer func() { _ = rows.Close() }() // Err tells
	var rowids []int64
	var old [][2]string
	for rows.Next() {
		var rowid int64
		var pair [2]string
		if err := rows.Scan(&rowid, &pair[0], &pair[1]); err != nil {
			return fmt.Errorf("read names: %w", err)
		}
		rowids, old = append(rowids, rowid), append(old, pair)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	for i, name := range handles(old) {
		if name == old[i][1] {
			continue
		}
		if _, err := tx.ExecContext(ctx, "UPDATE mcp_servers SET title = name, name = ? WHERE rowid = ?", name, rowids[i]); err != nil {
			return fmt.Errorf("set name: %w", err)
		}
	}
	if _, err := tx.ExecContext(ctx, "CREATE UNIQUE INDEX mcp_servers_name ON mcp_servers (name COLLATE NOCASE)"); err != nil {
		return fmt.Errorf("make names unique: %w", err)
	}
	return nil
}

// handles derives a name for each pair of id and old name, in order. A valid old
// name stays with the first that has it, so that no derived name takes it; every
// other is made of the old name, else of the id, and gets -2, -3 … when taken.
func handles(old [][2]string) []string {
	out := make([]string, len(old))
	taken := map[string]bool{}
	take := func(i int, name string) bool {
		key := strings.ToLower(name)
		if taken[key] {
			return false
		}
		taken[key], out[i] = true, name
		return true
	}
	for i, pair := range old {
		if shannon.ValidName(pair[1]) {
			take(i, pair[1])
		}
	}
	for i, pair := range old {
		if out[i] != "" {
			continue
		}
		base := handle(pair[1])
		if base == "" {
			base = handle(pair[0])
		}
		if base == "" {
			base = "server"
		}
		name := base
		for n := 2; !take(i, name); n++ {
			suffix := fmt.Sprintf("-%d", n)
			name = trim(base[:min(len(base), maxName-len(suffix))]) + suffix
		}
	}
	return out
}

const maxName = 32

// handle makes a valid name of text: the text itself if it is one, else lower
// case with - for what may not be in it, cut; "" when nothing is left.
func handle(text string) string {
	if shannon.ValidName(text) {
		return text
	}
	var b strings.Builder
	var last byte
	for _, c := range []byte(strings.ToLower(text)) {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			c = '-'
		}
		separates := c == '-' || c == '_'
		if separates && (last == '-' || last == '_') {
			continue
		}
		b.WriteByte(c)
		last = c
	}
	name := trim(b.String())
	return trim(name[:min(len(name), maxName)])
}

func trim(name string) string { return strings.Trim(name, "-_") }
