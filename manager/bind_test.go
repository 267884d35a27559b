package manager_test

import (
	"net"
	"testing"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
	"github.com/shannon-mcp/shannon/manager"
)

// A daemon that may not listen as it is told starts no server on the way out.
func TestRefusedDaemonStartsNothing(t *testing.T) {
	home := t.TempDir()
	m, err := manager.Open(t.Context(), manager.Config{Home: home, Passive: true}, manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.AddServer(t.Context(), fake(t, "idle", mcptest.Script{})); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = busy.Close() })
	for listen, code := range map[string]shannon.Code{
		busy.Addr().String(): shannon.CodePortTaken,
		"0.0.0.0:0":          shannon.CodeInvalidConfig,
	} {
		cfg := manager.Config{Home: home, Listen: listen, ListenChosen: true}
		if err := manager.Serve(t.Context(), cfg, manager.Options{}, nil); shannon.CodeOf(err) != code {
			t.Errorf("%s: %v", listen, err)
		}
	}
	m, err = manager.Open(t.Context(), manager.Config{Home: home, Passive: true}, manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := m.History(t.Context(), shannon.HistoryFilter{})
	if err != nil || len(rows) != 0 {
		t.Errorf("history: %+v, %v", rows, err)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
