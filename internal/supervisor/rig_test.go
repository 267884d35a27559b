package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var legacyOnly, both = []shannon.Era{shannon.EraLegacy}, []shannon.Era{shannon.EraLegacy, shannon.EraModern}

// peer is a link to a server that is not there.
type peer struct {
	info   wire.Info
	hooks  Hooks
	done   chan struct{}
	die    func() // once
	why    error  // of its death
	closes atomic.Int32
	slow   time.Duration // how long Close takes

	mu      sync.Mutex
	methods []string
	answer  func(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error)
	lists   func(cursor string) (result string, err error)
}

func newPeer(era shannon.Era, eras []shannon.Era, tools ...string) *peer {
	p := &peer{
		info: wire.Info{
			Era: era, Eras: eras, Version: map[shannon.Era]string{shannon.EraLegacy: "2025-11-25", shannon.EraModern: "2026-07-28"}[era],
			ServerInfo: []byte(`{"name":"fake","version":"1.0"}`), Capabilities: []byte(`{"tools":{}}`),
			PID: 42, Command: "/bin/fake", Handshake: 5 * time.Millisecond,
		},
		done: make(chan struct{}),
	}
	p.die = sync.OnceFunc(func() { close(p.done) })
	p.lists = func(string) (string, error) { return toolList(tools...), nil }
	return p
}

func toolList(tools ...string) string {
	for i := range tools {
		tools[i] = `{"name":"` + tools[i] + `"}`
	}
	return `{"tools":[` + strings.Join(tools, ",") + `]}`
}

// crash ends the peer as a process that exits does.
func (p *peer) crash() {
	p.why = shannon.Errorf(shannon.CodeExited, "", "the process exited: %w", &wire.Exit{PID: 42, Code: 3, Stderr: "oops"})
	p.die()
}

func (p *peer) Info() *wire.Info                             { return &p.info }
func (p *peer) Done() <-chan struct{}                        { return p.done }
func (p *peer) Notify(context.Context, string, []byte) error { return nil }

func (p *peer) Close(context.Context) error {
	p.closes.Add(1)
	time.Sleep(p.slow)
	select {
	case <-p.done:
		return p.why
	default:
		p.die()
		return nil
	}
}

func (p *peer) Call(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	p.mu.Lock()
	p.methods = append(p.methods, r.Method)
	answer, lists := p.answer, p.lists
	p.mu.Unlock()
	select {
	case <-p.done:
		return wire.Reply{}, shannon.Errorf(shannon.CodeServerDown, "", "not sent")
	default:
	}
	if r.Method == "tools/list" {
		cursor, _ := wire.Unquote(wire.Member(r.Get(wire.FieldParams), "cursor"))
		result, err := lists(cursor)
		if err != nil {
			return wire.Reply{}, err
		}
		if result == "" {
			return silence(ctx, r, sink)
		}
		return wire.ResultReply([]byte(result))
	}
	if answer != nil {
		return answer(ctx, r, sink)
	}
	return wire.ResultReply([]byte(`{"by":"` + string(p.info.Era) + `"}`))
}

// set makes the peer answer everything but tools/list so.
func (p *peer) set(answer func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// calls counts the requests of a method.
func (p *peer) calls(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, m := range p.methods {
		if m == method {
			n++
		}
	}
	return n
}

func silence(ctx context.Context, _ *wire.Request, _ wire.Sink) (wire.Reply, error) {
	<-ctx.Done()
	return wire.Reply{}, context.Cause(ctx)
}

func rpcError(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
	e, err := wire.Scan([]byte(`{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"the application failed"}}`))
	return wire.Reply{Envelope: e}, err
}

// rig is a unit with all that it works with.
type rig struct {
	*Unit
	t  *testing.T
	mu sync.Mutex

	dial  func(ctx context.Context, want shannon.Era) (*peer, error)
	dials []shannon.Era
	known [][]shannon.Era
	peers []*peer

	rows   []shannon.Transition
	offers [][]string
	names  []string // under which logs and notifications came
}

var errRefused = shannon.Errorf(shannon.CodeUnreachable, "", "connection refused")

// server is an eager stdio server whose first retry comes after a second.
func server() shannon.Server {
	s := shannon.NewServer("fake")
	s.ID, s.Transport, s.Command = "id-1", shannon.TransportStdio, "fake"
	return s
}

// rigFor starts a unit, whose server has one tool unless dial says otherwise. It
// must be called in a bubble.
func rigFor(t *testing.T, s shannon.Server, change func(*rig, *Options)) *rig {
	t.Helper()
	r := &rig{t: t, dial: func(context.Context, shannon.Era) (*peer, error) {
		return newPeer(shannon.EraLegacy, legacyOnly, "one"), nil
	}}
	o := Options{
		Dialer: r, Observer: r, Log: slog.New(slog.DiscardHandler), RequestTimeout: time.Minute,
		Client: &wire.Client{Era: ""}, Jitter: func() float64 { return 0 },
	}
	if change != nil {
		change(r, &o)
	}
	r.Unit = Start(context.WithoutCancel(t.Context()), s, o)
	t.Cleanup(func() {
		r.Close("stop")
		r.mu.Lock()
		defer r.mu.Unlock()
		for i, p := range r.peers {
			if n := p.closes.Load(); n != 1 {
				t.Errorf("peer %d was closed %d times", i, n)
			}
		}
		if st := r.Status(); st.State != shannon.StateDisconnected || st.PID != 0 || st.NextRetry != nil || st.ConnectedAt != nil || st.Healthy {
			t.Errorf("after Close: %+v", st)
		}
	})
	synctest.Wait()
	return r
}

// Dial implements Dialer.
func (r *rig) Dial(ctx context.Context, _ *shannon.Server, want shannon.Era, known []shannon.Era, h Hooks) (wire.Peer, error) {
	r.mu.Lock()
	r.dials = append(r.dials, want)
	r.known = append(r.known, known)
	dial := r.dial
	r.mu.Unlock()
	p, err := dial(ctx, want)
	if err != nil {
		return nil, err
	}
	p.hooks = h
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peers = append(r.peers, p)
	return p, nil
}

// reach makes later dials go so.
func (r *rig) reach(dial func(ctx context.Context, want shannon.Era) (*peer, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dial = dial
}

func refuse(context.Context, shannon.Era) (*peer, error) { return nil, errRefused }

func (r *rig) Transition(s *shannon.Server, t shannon.Transition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.ID != t.ServerID || s.Name != t.Server || t.ConnectedAt == nil {
		r.t.Errorf("the row %+v is not of %s", t, s.Name)
	}
	r.rows = append(r.rows, t)
}

func (r *rig) Offers(_ *shannon.Server, _ []shannon.Era, tools [][]byte) {
	names := []string{}
	for _, t := range tools {
		name, _ := wire.Unquote(wire.Member(t, "name"))
		names = append(names, name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.offers = append(r.offers, names)
}

func (r *rig) Notification(s *shannon.Server, _ wire.Envelope) { r.Log(s, "", nil) }

func (r *rig) Log(s *shannon.Server, _ string, _ []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, s.Name)
}

// last returns the newest peer.
func (r *rig) last() *peer {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.peers) == 0 {
		r.t.Fatal("there is no peer")
	}
	return r.peers[len(r.peers)-1]
}

func (r *rig) dialled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.dials)
}

// row returns a row of the ledger.
func (r *rig) row(i int) shannon.Transition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rows[i]
}

// history gives the rows so far as "state cause problem".
func (r *rig) history() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, t := range r.rows {
		out = append(out, strings.TrimSpace(fmt.Sprint(t.State, " ", t.Cause, " ", t.Problem)))
	}
	return out
}

// wantRows compares the rows behind the first ones.
func (r *rig) wantRows(after int, want ...string) {
	r.t.Helper()
	if got := r.history()[after:]; !slices.Equal(got, want) {
		r.t.Errorf("rows %q, want %q", got, want)
	}
}

func (r *rig) wantState(want shannon.State, problem shannon.Code) shannon.Status {
	r.t.Helper()
	synctest.Wait()
	st := r.Status()
	code := shannon.Code("")
	if st.Problem != nil {
		code = st.Problem.Code
	}
	if st.State != want || code != problem {
		r.t.Errorf("state %s %s, want %s %s", st.State, code, want, problem)
	}
	return st
}

// call calls a tool as a client of that era does, and returns who answered.
func (r *rig) call(era shannon.Era) (string, error) {
	return r.callIn(r.t.Context(), era)
}

func (r *rig) callIn(ctx context.Context, era shannon.Era) (string, error) {
	q, err := wire.Author(&wire.Client{Era: era}, "tools/call", []byte(`{"name":"one"}`))
	if err != nil {
		return "", err
	}
	reply, err := r.Relay(ctx, q, nil)
	if err != nil {
		return "", err
	}
	return string(reply.Get(wire.FieldResult)), nil
}

// failed is how a call failed.
type failed struct {
	shannon.Problem
	MayHaveRun bool
}

func wantCode(t *testing.T, err error, want shannon.Code) failed {
	t.Helper()
	if shannon.CodeOf(err) != want {
		t.Errorf("error %v is %s, want %s", err, shannon.CodeOf(err), want)
	}
	e, ok := errors.AsType[*shannon.Error](err)
	if !ok {
		return failed{}
	}
	return failed{e.Problem, e.MayHaveRun}
}
