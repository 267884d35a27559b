package manager_test

import (
	"context"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon/manager"
)

type config = manager.Config

func configOf(home string, change func(*config)) config {
	c := config{Home: home}
	if change != nil {
		change(&c)
	}
	return c
}

// openWith opens a manager that may be closed before the test ends.
func openWith(t *testing.T, c config, options ...manager.Options) *manager.Manager {
	t.Helper()
	o := manager.Options{}
	if len(options) > 0 {
		o = options[0]
	}
	m, err := manager.Open(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(t, m) })
	return m
}

// closeNow closes a manager, which may be closed again.
func closeNow(t *testing.T, m *manager.Manager) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	began := time.Now()
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("Close took %s", d)
	}
}
