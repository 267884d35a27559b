package manager_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
)

// A server whose stored arguments cannot be read must not start without them.
func TestUnreadableServerIsNotStarted(t *testing.T) {
	home := t.TempDir()
	m := open(t, home)
	s := fake(t, "odd", mcptest.Script{})
	s.Enabled = false
	if _, err := m.AddServer(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "mcp_servers.db")
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `UPDATE mcp_servers SET args = '["--root", ', enabled = 1`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	m = open(t, home)
	if _, err := m.Connect(t.Context(), "odd"); shannon.CodeOf(err) != shannon.CodeInvalidServer {
		t.Errorf("connect: %v", err)
	}
	if _, err := m.UpdateServer(t.Context(), "odd", []byte(`{"args":["x"]}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Connect(t.Context(), "odd"); err != nil {
		t.Errorf("connect after repair: %v", err)
	}
}
