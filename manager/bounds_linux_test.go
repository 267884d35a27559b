package manager_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
)

// A server may say as much as it wants: what is kept of it is bounded.
func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	m := open(t, home)

	t.Run("lines of a log", func(t *testing.T) {
		add(t, m, fake(t, "talks", mcptest.Script{Child: mcptest.ChildScript{Stderr: "one\ntwo\n"}}))
		for _, n := range []int{math.MaxInt, math.MaxInt/2 + 1, 1} {
			for _, err := range m.Logs(t.Context(), "talks", shannon.LogFilter{Lines: n}) {
				if err != nil {
					t.Error(n, err)
				}
			}
		}
	})
	t.Run("the event of a notification", func(t *testing.T) {
		add(t, m, fake(t, "shouts", mcptest.Script{Versions: []string{"2025-11-25"}}))
		args := `{"method":"notifications/shout","params":{"text":"` + strings.Repeat("x", 1<<20) + `"}}`
		if _, err := m.CallTool(t.Context(), "shouts", "notify", []byte(args)); err != nil {
			t.Fatal(err)
		}
		var said []shannon.Event
		eventually(t, "the event", func() bool {
			said = nil
			for e, err := range m.Events(t.Context(), shannon.EventFilter{Name: shannon.EventNotification}) {
				if err == nil && e.Data["method"] == "notifications/shout" {
					said = append(said, e)
				}
			}
			return len(said) > 0
		})
		if b, err := json.Marshal(said[0]); err != nil || len(b) > 64<<10 {
			t.Errorf("the event has %d bytes: %v", len(b), err)
		}
	})
	t.Run("the error of a list", func(t *testing.T) {
		s := fake(t, "fails", mcptest.Script{Faults: []mcptest.Fault{{
			Do: mcptest.Error, Method: "tools/list", Raw: `{"code":-32603,"message":"the key sk-of-a-list is wrong ` + strings.Repeat("x", 60<<10) + `"}`,
		}}})
		s.Env["KEY"] = "sk-of-a-list"
		if _, err := m.AddServer(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		st, err := m.Connect(t.Context(), "fails")
		if err != nil || st.Problem == nil {
			t.Fatal(st, err)
		}
		b, _ := json.Marshal(st)
		if strings.Contains(string(b), "sk-of-a-list") || !strings.Contains(st.Problem.Message, shannon.Hidden) {
			t.Errorf("the problem is %.200s", st.Problem.Message)
		}
		if len(b) > 8<<10 {
			t.Errorf("the status has %d bytes", len(b))
		}
	})
	t.Run("files of a server that was removed", func(t *testing.T) {
		add(t, m, fake(t, "goes", mcptest.Script{Child: mcptest.ChildScript{Stderr: "here\n"}}))
		eventually(t, "the log", func() bool { return openFile(filepath.Join(home, "log", "goes.log")) })
		if err := m.RemoveServer(t.Context(), "goes"); err != nil {
			t.Fatal(err)
		}
		if openFile(filepath.Join(home, "log", "goes.log")) {
			t.Error("its log is open still")
		}
	})
}

// openFile tells whether this process has a file open.
func openFile(path string) bool {
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && to == path {
			return true
		}
	}
	return false
}

// In JSON a secret may stand in another form than in the definition.
func TestSecretsInJSONStay(t *testing.T) {
	t.Parallel()
	m := open(t, t.TempDir())
	s := fake(t, "says", mcptest.Script{Versions: []string{"2025-11-25"}})
	const secret = `pass"word\1234`
	s.Env["PASSWORD"] = secret
	add(t, m, s)
	text, _ := json.Marshal(secret)
	if _, err := m.CallTool(t.Context(), "says", "notify", []byte(`{"method":"notifications/says","params":{"text":`+string(text)+`}}`)); err != nil {
		t.Fatal(err)
	}
	var said string
	eventually(t, "the event", func() bool {
		for e, err := range m.Events(t.Context(), shannon.EventFilter{Name: shannon.EventNotification}) {
			if err == nil && e.Data["method"] == "notifications/says" {
				b, _ := json.Marshal(e.Data)
				said = string(b)
			}
		}
		return said != ""
	})
	if strings.Contains(said, "1234") {
		t.Errorf("the event shows %s", said)
	}
}

// A server that refuses the handshake may say why with what it was given.
func TestSecretsInRefusalsStay(t *testing.T) {
	t.Parallel()
	m := open(t, t.TempDir())
	s := fake(t, "refuses", mcptest.Script{Versions: []string{"2025-11-25"}, Faults: []mcptest.Fault{
		{Do: mcptest.Error, Method: "initialize", Raw: `{"code":-32000,"message":"sk-refused is no key","data":{"key":"sk-refused"}}`},
	}})
	s.Env["KEY"] = "sk-refused"
	if _, err := m.AddServer(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	_, err := m.Connect(t.Context(), "refuses")
	e, ok := errors.AsType[*shannon.Error](err)
	if !ok || e.Code != shannon.CodeProtocolError {
		t.Fatal(err)
	}
	if strings.Contains(e.Message+string(e.RPC), "sk-refused") || !strings.Contains(string(e.RPC), shannon.Hidden) || !json.Valid(e.RPC) {
		t.Errorf("the error says %q and shows %s", e.Message, e.RPC)
	}
}
