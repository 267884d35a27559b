package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/process"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// memory is a Starter of scripts in this process.
type memory struct {
	mu      sync.Mutex
	started int
	running atomic.Int64
}

type memoryChild struct {
	in       *io.PipeReader
	stdin    *io.PipeWriter
	stdout   *io.PipeReader
	done     chan struct{}
	exit     wire.Exit
	stopping sync.Once
	host     *memory
}

func (m *memory) Start(_ context.Context, p Program) (Child, error) {
	m.mu.Lock()
	m.started++
	m.mu.Unlock()
	m.running.Add(1)
	c := &memoryChild{done: make(chan struct{}), host: m}
	c.in, c.stdin = io.Pipe()
	stdout, out := io.Pipe()
	c.stdout = stdout
	var stderr bytes.Buffer
	go func() {
		defer close(c.done)
		c.exit = wire.Exit{PID: 4711, Code: newScript(p.Command).serve(c.in, out, io.MultiWriter(&stderr, lineWriter(p.Stderr)))}
		c.exit.Stderr = stderr.String()
		c.in.Close()
		out.Close()
	}()
	return c, nil
}

type lineWriter func([]byte)

func (w lineWriter) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		w(bytes.TrimSuffix(line, []byte("\n")))
	}
	return len(b), nil
}

func (c *memoryChild) PID() int              { return 4711 }
func (c *memoryChild) Path() string          { return "/bin/script" }
func (c *memoryChild) Stdin() io.WriteCloser { return c.stdin }
func (c *memoryChild) Stdout() io.Reader     { return c.stdout }
func (c *memoryChild) Done() <-chan struct{} { return c.done }
func (c *memoryChild) Exit() *wire.Exit      { return &c.exit }
func (c *memoryChild) Stop(_ context.Context) {
	c.stopping.Do(func() {
		c.stdin.Close()
		c.stdout.Close()
		<-c.done
		c.host.running.Add(-1)
	})
}

func stdioTarget(script string) Target {
	return Target{Kind: shannon.TransportStdio, Command: script, Timeout: 900 * time.Millisecond, MaxMessage: 1 << 20}
}

func dialScript(t *testing.T, script string, w Want) (wire.Peer, *recorder) {
	t.Helper()
	rec := &recorder{}
	p, err := dialer(t, &memory{}).Dial(t.Context(), stdioTarget(script), w, rec.hooks())
	if err != nil {
		t.Fatal(err)
	}
	return closing(t, p), rec
}

func TestStdioHandshake(t *testing.T) {
	legacy, modern := shannon.EraLegacy, shannon.EraModern
	for _, tt := range []struct {
		script  string
		want    Want
		era     shannon.Era
		eras    []shannon.Era
		started int
	}{
		{script: "legacy", era: legacy, eras: []shannon.Era{legacy}, started: 1},
		{script: "legacy-silent", era: legacy, eras: []shannon.Era{legacy}, started: 1},
		{script: "slow-legacy", era: legacy, eras: []shannon.Era{legacy}, started: 1},
		{script: "slow-dual", era: legacy, eras: []shannon.Era{modern, legacy}, started: 1},
		{script: "slow-modern-only", era: modern, eras: []shannon.Era{modern}, started: 1},
		{script: "legacy-dies", era: legacy, eras: []shannon.Era{legacy}, started: 2},
		{script: "points-back", era: legacy, eras: []shannon.Era{legacy}, started: 1},
		{script: "dual", era: modern, eras: []shannon.Era{modern, legacy}, started: 1},
		{script: "noisy", era: modern, eras: []shannon.Era{modern, legacy}, started: 1},
		{script: "dual", want: Want{Era: legacy}, era: legacy, eras: []shannon.Era{modern, legacy}, started: 1},
		{script: "modern-only", want: Want{Era: legacy}, era: modern, eras: []shannon.Era{modern}, started: 1},
		{script: "dual", want: Want{Era: legacy, Known: []shannon.Era{modern, legacy}}, era: legacy, eras: []shannon.Era{modern, legacy}, started: 1},
		{script: "legacy-dies", want: Want{Known: []shannon.Era{legacy}}, era: legacy, eras: []shannon.Era{legacy}, started: 1},
		{script: "modern-only", want: Want{Known: []shannon.Era{legacy}}, era: modern, eras: []shannon.Era{modern}, started: 2},
		{script: "legacy-dies", want: Want{Known: []shannon.Era{modern}}, era: legacy, eras: []shannon.Era{legacy}, started: 2},
		{script: "legacy", want: Want{Known: []shannon.Era{modern}}, era: legacy, eras: []shannon.Era{legacy}, started: 1},
	} {
		t.Run(tt.script, func(t *testing.T) {
			host := &memory{}
			p, err := dialer(t, host).Dial(t.Context(), stdioTarget(tt.script), tt.want, Hooks{})
			if err != nil {
				t.Fatal(err)
			}
			info := p.Info()
			if info.Era != tt.era || !cmp.Equal(info.Eras, tt.eras) || host.started != tt.started {
				t.Errorf("got %s of %s after %d starts, want %s of %s after %d", info.Era, info.Eras, host.started, tt.era, tt.eras, tt.started)
			}
			if info.PID != 4711 || info.Command != "/bin/script" || info.Handshake <= 0 {
				t.Errorf("info: %+v", info)
			}
			if tt.era == legacy && (info.Version != "2025-06-18" || info.Instructions != "be kind" || len(info.ServerInfo) == 0) {
				t.Errorf("info: %+v", info)
			}
			if got := callText(t, p, "echo"); !strings.Contains(got, "9007199254740993") {
				t.Errorf("echo: %s", got)
			}
			if tt.era == legacy && !strings.Contains(callText(t, p, "seen"), "notifications/initialized") {
				t.Error("notifications/initialized was not sent")
			}
			if err := closePeer(t, p); err != nil {
				t.Errorf("close: %v", err)
			}
			if host.running.Load() != 0 {
				t.Error("something is left running")
			}
		})
	}
}

func TestStdioHandshakeFails(t *testing.T) {
	for _, tt := range []struct {
		script string
		code   shannon.Code
		text   string // in message or hint
	}{
		{"exit", shannon.CodeExited, "cannot open database"},
		{"mute", shannon.CodeHandshakeTimeout, "900ms"},
		{"garbage", shannon.CodeHandshakeTimeout, "no MCP message"},
		{"other-id", shannon.CodeHandshakeTimeout, "whose id is that of no request"},
		{"future", shannon.CodeProtocolError, "2031-01-01"},
		{"unsupported", shannon.CodeUnsupported, "2027-01-01"},
		{"picky", shannon.CodeProtocolError, "roots wanted"},
	} {
		t.Run(tt.script, func(t *testing.T) {
			t.Parallel()
			host := &memory{}
			_, err := dialer(t, host).Dial(t.Context(), stdioTarget(tt.script), Want{}, Hooks{})
			wantCode(t, err, tt.code)
			if p := shannon.ProblemOf(err); !strings.Contains(p.Message+p.Hint, tt.text) {
				t.Errorf("%+v does not say %q", p, tt.text)
			}
			if tt.code == shannon.CodeExited {
				if e, ok := errors.AsType[*wire.Exit](err); !ok || e.Code != 3 || e.PID != 4711 {
					t.Errorf("no exit in the chain of %v", err)
				}
			}
			if host.running.Load() != 0 {
				t.Error("something is left running")
			}
		})
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	host := &memory{}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(30*time.Millisecond, func() { cancel(why) })
	_, err := dialer(t, host).Dial(ctx, stdioTarget("mute"), Want{}, Hooks{})
	if !errors.Is(err, why) || host.running.Load() != 0 {
		t.Fatalf("got %v with %d running", err, host.running.Load())
	}
}

func TestUnreachableKinds(t *testing.T) {
	for kind, code := range map[shannon.Transport]shannon.Code{
		shannon.TransportSSE: shannon.CodeUnsupported, shannon.TransportWebSocket: shannon.CodeUnsupported, "pigeon": shannon.CodeBadTransport,
	} {
		_, err := dialer(t, nil).Dial(t.Context(), Target{Kind: kind}, Want{}, Hooks{})
		wantCode(t, err, code)
		if shannon.ProblemOf(err).Hint == "" {
			t.Errorf("%s: no hint", kind)
		}
	}
}

// TestStdioCalls has the same expectations of both eras, and looks at what the
// server sees of a legacy client's request.
func TestStdioCalls(t *testing.T) {
	for _, era := range []shannon.Era{shannon.EraLegacy, shannon.EraModern} {
		t.Run(string(era), func(t *testing.T) {
			p, rec := dialScript(t, "dual", Want{Era: era})
			echo := callText(t, p, "echo")
			if got := strings.Contains(echo, `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`); got != (era == shannon.EraModern) {
				t.Errorf("_meta of the modern era: %v in %s", got, echo)
			}
			if era == shannon.EraModern && !strings.Contains(echo, `"name":"editor"`) {
				t.Errorf("the client is not named in %s", echo)
			}
			var token string
			r := request(t, "tools/call", `{"name":"progress","_meta":{"progressToken":"mine"}}`)
			if _, err := p.Call(t.Context(), r, sinkFunc(func(n wire.Notification) {
				e, _ := wire.Scan(n.Raw)
				token = string(e.Get(wire.FieldProgressToken))
			})); err != nil || token != `"mine"` {
				t.Errorf("progress with token %s, error %v", token, err)
			}
			callText(t, p, "ask")
			seen := callText(t, p, "seen")
			answered := strings.Contains(seen, `"id":"p"`) && strings.Contains(seen, "-32601")
			if era == shannon.EraLegacy && !answered || era == shannon.EraModern && (answered || !rec.logged("forbids: ping")) {
				t.Errorf("requests of the server: %s; log %v", seen, rec.lines)
			}
			callText(t, p, "stderr")
			eventually(t, "stderr", func() bool { return rec.logged("stderr: a line on stderr") })
			_, err := p.Call(t.Context(), toolCall(t, "huge"), nil)
			wantCode(t, err, shannon.CodeTooLarge)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := p.Call(ctx, toolCall(t, "wrong-id"), nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a reply with another id: %v", err)
			}
			eventually(t, "stdout", func() bool { return rec.logged(`-not"`) })
		})
	}
}

func TestStdioCancel(t *testing.T) {
	for _, era := range []shannon.Era{shannon.EraLegacy, shannon.EraModern} {
		p, _ := dialScript(t, "dual", Want{Era: era})
		why := errors.New("the user pressed escape")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { cancel(why) })
		if _, err := p.Call(ctx, toolCall(t, "slow"), nil); !errors.Is(err, why) {
			t.Fatalf("got %v", err)
		}
		if seen := callText(t, p, "seen"); !strings.Contains(seen, "notifications/cancelled") || !strings.Contains(seen, why.Error()) {
			t.Errorf("%s: the server saw %s", era, seen)
		}
	}
}

func TestStdioListen(t *testing.T) {
	const changed = "notifications/tools/list_changed"
	p, rec := dialScript(t, "dual", Want{})
	eventually(t, "subscription", func() bool { callText(t, p, "change"); return rec.count(changed) > 0 })
	before := rec.count(changed)
	callText(t, p, "unsubscribe")
	eventually(t, "a new subscription, announced", func() bool { return rec.count(changed) > before })
	if rec.count(methodAcknowledged)+rec.count("notifications/cancelled") != 0 {
		t.Errorf("what is about subscriptions leaked: %v", rec.notifications)
	}
}

func TestStdioServerDies(t *testing.T) {
	p, _ := dialScript(t, "legacy", Want{})
	_, err := p.Call(t.Context(), toolCall(t, "die"), nil)
	wantCode(t, err, shannon.CodeConnectionLost)
	exit, ok := errors.AsType[*wire.Exit](err)
	if e, _ := errors.AsType[*shannon.Error](err); !e.MayHaveRun || !ok || exit.Code != 7 {
		t.Errorf("got %#v", err)
	}
	<-p.Done()
	_, err = p.Call(t.Context(), toolCall(t, "echo"), nil)
	wantCode(t, err, shannon.CodeServerDown)
	if err := closePeer(t, p); shannon.CodeOf(err) != shannon.CodeExited || !strings.Contains(err.Error(), "segmentation fault") {
		t.Errorf("closed for %v", err)
	}
}

// realHost starts this test binary.
func realHost(t testing.TB) Starter {
	t.Helper()
	h, err := process.NewHost(process.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return Host{h}
}

func selfTarget(t testing.TB, server string) Target {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	target := stdioTarget(exe)
	target.Timeout = 6 * time.Second
	target.Env = append(process.BaseEnv(os.Environ()), serverVariable+"="+server)
	return target
}

func TestRealChild(t *testing.T) {
	t.Parallel() // it waits more than it works
	host := realHost(t)
	rec := &recorder{}
	p, err := dialer(t, host).Dial(t.Context(), selfTarget(t, "noisy"), Want{}, rec.hooks())
	if err != nil {
		t.Fatal(err)
	}
	closing(t, p)
	callText(t, p, "stderr")
	eventually(t, "stderr", func() bool { return rec.logged("stderr: a line") && rec.logged("stdout: Starting") })
	if p.Info().PID == os.Getpid() || p.Info().PID <= 0 {
		t.Errorf("pid %d", p.Info().PID)
	}
	_, err = p.Call(t.Context(), toolCall(t, "die"), nil)
	if exit, ok := errors.AsType[*wire.Exit](err); !ok || exit.Code != 7 || !strings.Contains(exit.Stderr, "segmentation") {
		t.Errorf("got %v", err)
	}
	_, err = dialer(t, host).Dial(t.Context(), selfTarget(t, "exit"), Want{}, Hooks{})
	wantCode(t, err, shannon.CodeExited)
	if !strings.Contains(err.Error(), "code 3") || !strings.Contains(err.Error(), "cannot open database") {
		t.Errorf("got %v", err)
	}
	gone := stdioTarget("no-such-program-anywhere")
	_, err = dialer(t, host).Dial(t.Context(), gone, Want{}, Hooks{})
	wantCode(t, err, shannon.CodeCommandNotFound)
	hung := selfTarget(t, "hang-up")
	hung.Timeout = 5 * time.Second
	if _, err := dialer(t, host).Dial(t.Context(), hung, Want{}, Hooks{}); err == nil {
		t.Error("a server without standard output was reached")
	}
}
