// Package contract is the contract of [shannon.Manager] as a test suite. One
// suite runs on package manager and, through the management API, on package
// remote, so that a caller cannot tell the two apart. It is imported by tests
// only.
//
// It knows the interface and the comments on it, nothing of an implementation,
// and asserts only what they promise. Each of its tests opens a manager of its
// own; they run one after the other.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
)

// limit is how long anything may take before it counts as hanging.
const limit = 20 * time.Second

// secret is a value that must not be seen again.
const secret = "s3cr3t-value-of-the-contract"

// Exchange is a request to the fixture and the exact bytes that it answers with.
type Exchange struct {
	Name string // of the tool, or the method
	In   string // arguments or params, a JSON object
	Out  string // the result, or the error object
}

// Fixture is a real MCP server, started as a child process.
type Fixture struct {
	Command string
	Args    []string
	// Env must hold a variable without which the program is no server: the suite
	// sees by it that secrets survive.
	Env map[string]shannon.Secret

	// Tool is a tool and what it returns. It should be hard to carry: integers
	// over 2^53, unknown members, escapes, white space.
	Tool Exchange
	// Fails is a tool that is answered with a JSON-RPC error.
	Fails Exchange
	// Slow is a tool that does not answer before it is cancelled.
	Slow string
	// Request is a request that is no tool call, and its result.
	Request Exchange
	// Stderr is a part of a line that the server writes to its standard error
	// when it starts.
	Stderr string
}

// server is the fixture's definition. It is not enabled unless asked: then
// nothing happens by itself, and the test says when.
func (f *Fixture) server(name string) shannon.Server {
	s := shannon.NewServer(name)
	s.Transport, s.Command, s.Args, s.Env = shannon.TransportStdio, f.Command, f.Args, f.Env
	s.Enabled = false
	return s
}

// Test runs the suite. open opens a manager with an empty registry, which it
// closes by t.Cleanup.
func Test(t *testing.T, f *Fixture, open func(t *testing.T) shannon.Manager) {
	tests := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Add", testAdd},
		{"AddRefuses", testAddRefuses},
		{"Secrets", testSecrets},
		{"Get", testGet},
		{"List", testList},
		{"Update", testUpdate},
		{"UpdateRefuses", testUpdateRefuses},
		{"Remove", testRemove},
		{"Connect", testConnect},
		{"ConnectRefuses", testConnectRefuses},
		{"Disconnect", testDisconnect},
		{"Restart", testRestart},
		{"Status", testStatus},
		{"Summary", testSummary},
		{"Tools", testTools},
		{"Call", testCall},
		{"CallFails", testCallFails},
		{"CallEnds", testCallEnds},
		{"Request", testRequest},
		{"Notify", testNotify},
		{"History", testHistory},
		{"HistoryFilter", testHistoryFilter},
		{"Events", testEvents},
		{"EventFilter", testEventFilter},
		{"EventsResume", testEventsResume},
		{"EventsFollow", testEventsFollow},
		{"EventsLagged", testEventsLagged},
		{"Logs", testLogs},
		{"LogsFollow", testLogsFollow},
		{"UnknownServer", testUnknownServer},
		{"Concurrent", testConcurrent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.run(t, &suite{Fixture: f, m: open(t), ctx: t.Context()})
		})
	}
}

// suite is what a test works with.
type suite struct {
	*Fixture
	m   shannon.Manager
	ctx context.Context //nolint:containedctx // a test's own, for its length
}

// add adds a server and fails the test where that fails.
func (s *suite) add(t *testing.T, srv shannon.Server) shannon.Server {
	t.Helper()
	added, err := s.m.AddServer(s.ctx, srv)
	if err != nil {
		t.Fatalf("add %s: %v", srv.Name, err)
	}
	return added
}

// connected adds the fixture, enabled, and connects it.
func (s *suite) connected(t *testing.T, name string) shannon.Status {
	t.Helper()
	srv := s.server(name)
	srv.Enabled = true
	s.add(t, srv)
	return s.connect(t, name)
}

func (s *suite) connect(t *testing.T, name string) shannon.Status {
	t.Helper()
	st, err := s.m.Connect(s.ctx, name)
	if err != nil {
		t.Fatalf("connect %s: %v", name, err)
	}
	return st
}

func (s *suite) get(t *testing.T, name string) shannon.Server {
	t.Helper()
	srv, err := s.m.Server(s.ctx, name)
	if err != nil {
		t.Fatalf("get %s: %v", name, err)
	}
	return srv
}

// wantCode reports an error that has none of the codes or says nothing.
func wantCode(t *testing.T, what string, err error, codes ...shannon.Code) {
	t.Helper()
	for _, c := range codes {
		if shannon.CodeOf(err) != c {
			continue
		}
		if err.Error() == "" || err.Error() == string(c) {
			t.Errorf("%s: an error of code %s says nothing", what, c)
		}
		if !errors.Is(err, &shannon.Error{Problem: shannon.Problem{Code: c}}) {
			t.Errorf("%s: errors.Is does not know the code of %v", what, err)
		}
		return
	}
	t.Errorf("%s: error %v of code %q, want %q", what, err, shannon.CodeOf(err), codes)
}

// hint returns the hint of an error.
func hint(err error) string {
	if p := shannon.ProblemOf(err); p != nil {
		return p.Hint
	}
	return ""
}

// text is v as JSON, as everything is that leaves the manager.
func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("encode %T: %v", v, err)
	}
	return string(b)
}

// object decodes the JSON form of v, with its numbers as they stand.
func object(t *testing.T, v any) map[string]any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader([]byte(text(t, v))))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		t.Fatalf("decode %T: %v", v, err)
	}
	return m
}

// eventually polls until what is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		select {
		case <-t.Context().Done():
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// within runs what, which must not hang.
func within(t *testing.T, what string, run func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		run()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("not within %v: %s", limit, what)
	}
}

func names(servers []shannon.Server) string {
	out := make([]string, len(servers))
	for i, s := range servers {
		out[i] = s.Name
	}
	return strings.Join(out, " ")
}
