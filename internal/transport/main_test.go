package transport

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// serverVariable makes the test binary a server: scripted, or one of the SDK.
const serverVariable = "TRANSPORT_TEST_SERVER"

func TestMain(m *testing.M) {
	switch name := os.Getenv(serverVariable); name {
	case "":
		goleak.VerifyTestMain(m)
	case "sdk":
		serveSDK()
	default:
		os.Exit(newScript(name).serve(os.Stdin, os.Stdout, os.Stderr))
	}
}

// script is a stdio server that misbehaves as its name says.
type script struct {
	name string
	mu   sync.Mutex
	out  io.Writer
	err  io.Writer
	seen []string // notifications, and replies to requests of its own
	sub  string   // the id of the subscription
	slow bool
}

// newScript makes a server; one whose name begins with "slow-" reads nothing for a
// while, as one that is being downloaded.
func newScript(name string) *script {
	name, slow := strings.CutPrefix(name, "slow-")
	return &script{name: name, slow: slow}
}

func (s *script) is(names ...string) bool { return slices.Contains(names, s.name) }

func (s *script) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
}

// serve speaks until in ends, and returns the exit code.
func (s *script) serve(in io.Reader, out, stderr io.Writer) int {
	s.out, s.err = out, stderr
	if s.slow {
		time.Sleep(450 * time.Millisecond)
	}
	switch {
	case s.is("exit"):
		fmt.Fprintf(stderr, "first line\ncannot open database\n")
		return 3
	case s.is("garbage", "noisy"):
		s.say("Starting server…")
	case s.is("hang-up"):
		if c, ok := out.(io.Closer); ok {
			c.Close()
		}
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		e, err := wire.Scan([]byte(lines.Text()))
		if err != nil {
			fmt.Fprintf(stderr, "bad message: %v\n", err)
			return 4
		}
		if code, over := s.message(e); over {
			return code
		}
	}
	return 0
}

const dualResult = `{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25"],"capabilities":{"tools":{"listChanged":true}},` +
	`"instructions":"be kind","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"dual","version":"1"}}}`

const modernResult = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}}}`

func initializeResult(version string) string {
	return `{"protocolVersion":"` + version + `","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"old","version":"1"},"instructions":"be kind"}`
}

func (s *script) message(e wire.Envelope) (code int, over bool) {
	id := e.Get(wire.FieldID)
	if e.Kind != wire.KindRequest {
		s.seen = append(s.seen, string(e.Raw))
		return 0, false
	}
	switch {
	case s.is("garbage"):
		s.say("not json at all")
		return 0, false
	case s.is("other-id"):
		s.say(`{"jsonrpc":"2.0","id":"somebody-else","result":{}}`)
		return 0, false
	case s.is("mute", "hang-up"):
		return 0, false
	}
	switch e.Method {
	case "server/discover":
		return s.discover(string(id))
	case "initialize":
		switch {
		case s.is("modern-only"):
			s.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method; I speak 2026-07-28"}}`, id)
		case s.is("future"):
			s.say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, initializeResult("2031-01-01"))
		default:
			s.say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, initializeResult("2025-06-18"))
		}
	case "subscriptions/listen":
		s.sub = string(id)
		s.say(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s},"notifications":{"toolsListChanged":true}}}`, id)
	case "tools/call":
		return s.tool(e, string(id))
	default:
		s.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}`, id)
	}
	return 0, false
}

func (s *script) discover(id string) (code int, over bool) {
	switch {
	case s.is("dual", "noisy"):
		s.say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, dualResult)
	case s.is("modern-only"):
		s.say(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, modernResult)
	case s.is("legacy-silent"):
	case s.is("legacy-dies"):
		return 1, true
	case s.is("unsupported"):
		s.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"no","data":{"supported":["2027-01-01"],"requested":"2026-07-28"}}}`, id)
	case s.is("picky"):
		s.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32021,"message":"roots wanted"}}`, id)
	case s.is("points-back"):
		s.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32022,"message":"no","data":{"supported":["2025-11-25"],"requested":"2026-07-28"}}}`, id)
	default:
		s.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"Invalid request parameters"}}`, id)
	}
	return 0, false
}

// tool runs the tools: echo gives the request back, slow never answers, seen tells
// what came besides requests, and so on.
func (s *script) tool(e wire.Envelope, id string) (code int, over bool) {
	name, _ := e.Text(wire.FieldName)
	result := func(text string) {
		s.say(`{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":%s}]}}`, id, wire.AppendString(nil, text))
	}
	switch name {
	case "echo":
		result(string(e.Raw))
	case "seen":
		result(strings.Join(s.seen, "\n"))
	case "slow":
	case "progress":
		s.say(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":1}}`, e.Get(wire.FieldMetaToken))
		result("done")
	case "ask":
		s.say(`{"jsonrpc":"2.0","id":"p","method":"ping"}`)
		s.say(`{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}`)
		result("asked")
	case "change":
		s.say(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`, s.sub)
		result("changed")
	case "unsubscribe":
		s.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, s.sub)
		result("over")
	case "stderr":
		fmt.Fprintln(s.err, "a line on stderr")
		result("said")
	case "die":
		fmt.Fprintln(s.err, "segmentation fault, so to speak")
		return 7, true
	case "huge":
		s.say(`{"jsonrpc":"2.0","id":%s,"result":{"x":"%s"}}`, id, strings.Repeat("x", 2<<20))
	case "wrong-id":
		s.say(`{"jsonrpc":"2.0","id":"%s-not","result":{}}`, id)
	}
	return 0, false
}

// recorder is what Hooks were told.
type recorder struct {
	mu            sync.Mutex
	notifications []string
	lines         []string
}

func (r *recorder) hooks() Hooks {
	return Hooks{
		Notification: func(e wire.Envelope) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.notifications = append(r.notifications, e.Method)
		},
		Log: func(source string, line []byte) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.lines = append(r.lines, source+": "+string(line))
		},
	}
}

func (r *recorder) count(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, m := range r.notifications {
		if m == method {
			n++
		}
	}
	return n
}

func (r *recorder) logged(part string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.lines, func(l string) bool { return strings.Contains(l, part) })
}

// sinkFunc is a Sink.
type sinkFunc func(wire.Notification)

func (f sinkFunc) Deliver(n wire.Notification) { f(n) }

// eventually polls, with a deadline.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// closing closes a peer when the test ends.
func closing(t *testing.T, p wire.Peer) wire.Peer {
	t.Helper()
	t.Cleanup(func() { _ = closePeer(t, p) })
	return p
}

func closePeer(t *testing.T, p wire.Peer) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := p.Close(ctx)
	select {
	case <-p.Done():
	default:
		t.Error("Done is open after Close")
	}
	return err
}

var legacyClient = &wire.Client{Era: shannon.EraLegacy, Version: "2025-11-25", Info: []byte(`{"name":"editor","version":"9"}`)}

func request(t testing.TB, method, params string) *wire.Request {
	t.Helper()
	r, err := wire.Author(legacyClient, method, []byte(params))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func toolCall(t testing.TB, name string) *wire.Request {
	return request(t, "tools/call", `{"name":"`+name+`","arguments":{"n":9007199254740993}}`)
}

// mustCall makes a call that must get a result, and returns that.
func mustCall(t *testing.T, p wire.Peer, r *wire.Request) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	reply, err := p.Call(ctx, r, nil)
	if err != nil {
		t.Fatalf("call %s: %v", r.Method, err)
	}
	if reply.Kind != wire.KindResult {
		t.Fatalf("call %s: %s", r.Method, reply.Raw)
	}
	return string(reply.Get(wire.FieldResult))
}

// callText makes a call and returns the text that the scripted tools answer with.
func callText(t *testing.T, p wire.Peer, tool string) string {
	t.Helper()
	for c := range wire.Elements(wire.Member([]byte(mustCall(t, p, toolCall(t, tool))), "content")) {
		text, _ := wire.Unquote(wire.Member(c, "text"))
		return text
	}
	return ""
}

// dialer returns one with short delays.
func dialer(t testing.TB, s Starter) *Dialer {
	t.Helper()
	d := NewDialer(Options{Start: s, Name: "shannon", Version: "1.2.3"})
	d.retry = 5 * time.Millisecond
	t.Cleanup(d.Close)
	return d
}

func wantCode(t *testing.T, err error, code shannon.Code) {
	t.Helper()
	if shannon.CodeOf(err) != code {
		t.Fatalf("got code %q (%v), want %q", shannon.CodeOf(err), err, code)
	}
}
