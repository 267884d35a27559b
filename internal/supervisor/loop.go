package supervisor

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// loop is the state of a unit. Only the goroutine of run touches it.
type loop struct {
	u      *Unit
	ctx    context.Context // the unit's life
	server shannon.Server
	cause  string // of the state
	ending string // why the unit is closed

	state   shannon.State
	since   time.Time
	problem *shannon.Problem
	stopped bool // the user said disconnect

	peers  map[shannon.Era]wire.Peer
	main   shannon.Era
	eras   []shannon.Era
	tools  [][]byte
	listed bool

	generation uint64 // of the connection; what belongs to an older one is thrown away
	dialing    map[shannon.Era]context.CancelFunc
	attempts   uint64
	failures   int
	err        error
	retry      *time.Timer
	nextRetry  time.Time
	lastCall   time.Time // when a call was last let through to connect

	health      *time.Timer
	pinging     bool
	errs        int
	lastPing    time.Time
	connectedAt time.Time
	listing     bool
	again       bool // list once more when listing has come back
}

// mainDial is the key of the main peer's dial, whose era is not yet known.
const mainDial = shannon.Era("")

func newLoop(u *Unit, s shannon.Server) *loop {
	l := &loop{
		u: u, ctx: u.ctx, server: s, ending: "stop", since: time.Now(), state: shannon.StateDisconnected,
		peers: map[shannon.Era]wire.Peer{}, dialing: map[shannon.Era]context.CancelFunc{},
		retry: stoppedTimer(), health: stoppedTimer(),
	}
	if k := u.o.Known; k != nil {
		l.eras, l.tools, l.listed = k.Eras, k.Tools, true
	}
	l.rest()
	l.publish()
	return l
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (l *loop) run() {
	defer close(l.u.gone)
	l.begin("start")
	for {
		select {
		case f := <-l.u.posts:
			f(l)
		case <-l.retry.C:
			l.connect("retry")
		case <-l.health.C:
			l.ping()
		case <-l.u.relist:
			l.relist()
		case <-l.ctx.Done():
			l.disconnect(l.ending, false)
			return
		}
	}
}

// publish makes the state visible.
func (l *loop) publish() {
	s := &Snapshot{
		Server: l.server, Tools: l.tools, Listed: l.listed,
		peers: maps.Clone(l.peers), main: l.main, eras: l.eras,
		attempts: l.attempts, err: l.err, changed: make(chan struct{}),
	}
	s.Status = shannon.Status{
		Server: l.server.Name, ServerID: l.server.ID, Transport: l.server.Transport, Enabled: l.server.Enabled,
		State: l.state, Since: l.since.UTC(), Problem: l.problem, Eras: l.eras, Tools: len(l.tools),
		ErrorCount: l.errs, ReconnectAttempts: l.failures,
		LastPing: moment(l.lastPing), NextRetry: moment(l.nextRetry), ConnectedAt: moment(l.connectedAt),
	}
	if l.err != nil {
		s.Status.LastError = l.err.Error()
	}
	if p := l.peers[l.main]; p != nil {
		i := p.Info()
		s.Status.Era, s.Status.Version, s.Status.ServerInfo = i.Era, i.Version, describe(i.ServerInfo)
		s.Status.PID, s.Status.Command, s.Status.HandshakeMS = i.PID, i.Command, i.Handshake.Milliseconds()
	}
	if old := l.u.state.Swap(s); old != nil {
		close(old.changed)
	}
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// describe gives an Implementation object as "name version".
func describe(info []byte) string {
	name, _ := wire.Unquote(wire.Member(info, "name"))
	if version, _ := wire.Unquote(wire.Member(info, "version")); version != "" {
		name += " " + version
	}
	return name
}

// enter moves into a state, makes it visible and tells the observer.
func (l *loop) enter(state shannon.State, cause string, err error) {
	l.state, l.since, l.cause = state, time.Now(), cause
	l.publish()
	s := &l.u.state.Load().Status
	t := shannon.Transition{
		ServerID: l.server.ID, Server: l.server.Name, State: state, Cause: cause,
		Attempt: l.failures, ConnectedAt: &s.Since, NextRetry: s.NextRetry,
		Era: s.Era, Version: s.Version, PID: s.PID, Command: s.Command, HandshakeMS: s.HandshakeMS,
	}
	if l.problem != nil {
		t.Problem = l.problem.Code
	}
	if err != nil {
		t.Error = err.Error()
		if exit, ok := errors.AsType[*wire.Exit](err); ok {
			t.PID, t.Signal, t.Stderr = exit.PID, exit.Signal, exit.Stderr
			if exit.Signal == "" {
				t.ExitCode = &exit.Code
			}
		}
	}
	l.u.o.Observer.Transition(t)
}

// rest names the reason for doing nothing.
func (l *loop) rest() {
	switch {
	case !l.server.Enabled:
		l.problem = &shannon.Problem{Code: shannon.CodeDisabled, Message: "the server is disabled", Hint: "shannon enable " + l.server.Name}
	case l.stopped:
		l.problem = &shannon.Problem{Code: shannon.CodeDisconnected, Message: "disconnected on request", Hint: "shannon connect " + l.server.Name}
	case l.server.Start == shannon.StartLazy:
		l.problem = &shannon.Problem{Code: shannon.CodeIdle, Message: "starts with the first call"}
	default:
		l.problem = nil
	}
}

// begin takes the server up by itself: an eager one, and one of which it is not
// known what it offers.
func (l *loop) begin(cause string) {
	if !l.u.o.Passive && (l.server.Start == shannon.StartEager || !l.listed) {
		l.connect(cause)
	}
}

// connect dials the main peer unless that is done or under way.
func (l *loop) connect(cause string) {
	if !l.server.Enabled || l.peers[l.main] != nil || l.dialing[mainDial] != nil {
		return
	}
	l.stopped, l.problem, l.nextRetry = false, nil, time.Time{}
	l.retry.Stop()
	state := shannon.StateConnecting
	if l.failures > 0 {
		state = shannon.StateReconnecting
	}
	l.enter(state, cause, nil)
	l.dial(mainDial)
}

// connectNow is connect at a user's word. It returns how many attempts have
// ended before.
func (l *loop) connectNow(cause string) (before uint64, err error) {
	if !l.server.Enabled {
		return 0, shannon.Errorf(shannon.CodeDisabled, "shannon enable "+l.server.Name, "server %q is disabled", l.server.Name)
	}
	before = l.attempts
	l.connect(cause)
	return before, nil
}

// need sees to a peer for a call of that era. nil means that one is on its way.
func (l *loop) need(era shannon.Era) error {
	switch {
	case !l.server.Enabled:
		return shannon.Errorf(shannon.CodeDisabled, "shannon enable "+l.server.Name, "server %q is disabled", l.server.Name)
	case l.stopped:
		return shannon.Errorf(shannon.CodeServerDown, "shannon connect "+l.server.Name, "server %q was disconnected on request", l.server.Name)
	case l.peers[l.main] != nil:
		if l.dialing[era] == nil {
			l.dial(era)
		}
	case l.dialing[mainDial] != nil:
	case l.err != nil && time.Since(l.lastCall) < callEvery:
		return l.down()
	default:
		l.lastCall = time.Now()
		l.connect("call")
	}
	return nil
}

// down is what a call gets while the server cannot be reached.
func (l *loop) down() error {
	hint := "shannon history " + l.server.Name
	if !l.nextRetry.IsZero() {
		hint = "Next try at " + l.nextRetry.UTC().Format(time.RFC3339) + "; shannon connect " + l.server.Name + " tries now"
	}
	return shannon.Errorf(shannon.CodeServerDown, hint, "server %q is not connected: %w", l.server.Name, l.err)
}

// dial reaches the server beside the loop and comes back with the result.
func (l *loop) dial(want shannon.Era) {
	ctx, cancel := context.WithCancel(l.ctx)
	l.dialing[want] = cancel
	generation, server, known := l.generation, l.server, l.eras
	l.u.wg.Go(func() {
		defer cancel()
		var listed list
		peer, err := l.u.o.Dialer.Dial(ctx, &server, want, known, l.u.hooks(&server))
		if err == nil && want == mainDial {
			listed = l.u.list(ctx, &server, peer)
		}
		kept := false
		late := l.u.post(l.ctx, func(l *loop) {
			if kept = generation == l.generation; kept {
				l.dialed(want, peer, listed, err)
			}
		})
		if (late != nil || !kept) && peer != nil {
			l.u.discard(ctx, peer)
		}
	})
}

// dialed takes the result of a dial.
func (l *loop) dialed(want shannon.Era, peer wire.Peer, listed list, err error) {
	delete(l.dialing, want)
	if want != mainDial {
		l.dialedSecond(want, peer, err)
		return
	}
	l.attempts++
	if err != nil {
		l.failed("connect", err)
		return
	}
	info := peer.Info()
	l.main, l.eras = info.Era, info.Eras
	l.peers[l.main] = peer
	l.err, l.errs = nil, 0
	l.connectedAt = time.Now()
	l.u.alive()
	l.health.Reset(l.interval())
	l.watch(peer)
	l.keep(listed)
	l.enter(shannon.StateConnected, l.cause, nil)
	l.offer(listed)
}

// dialedSecond takes the peer of another era than the main one's. Where there is
// none after all, calls of that era are bridged by the main peer.
func (l *loop) dialedSecond(want shannon.Era, peer wire.Peer, err error) {
	if err != nil || peer.Info().Era != want {
		if err != nil {
			l.u.o.Log.Warn("the server speaks an era less than it said", "server", l.server.Name, "era", want, "err", err)
		} else {
			l.u.discard(l.ctx, peer)
		}
		l.eras = slices.DeleteFunc(slices.Clone(l.eras), func(e shannon.Era) bool { return e == want })
		l.publish()
		return
	}
	l.peers[want] = peer
	l.watch(peer)
	l.publish()
}

// watch tells the loop when the peer has ended.
func (l *loop) watch(peer wire.Peer) {
	l.u.wg.Go(func() {
		select {
		case <-peer.Done():
			// Where the loop has ended, it has closed the peer itself.
			_ = l.u.post(l.ctx, func(l *loop) { l.ended(peer) })
		case <-l.ctx.Done():
		}
	})
}

// ended takes the end of a peer that nobody asked for.
func (l *loop) ended(peer wire.Peer) {
	era := peer.Info().Era
	if l.peers[era] != peer {
		return
	}
	delete(l.peers, era)
	err := l.u.closePeer(l.ctx, peer)
	if era != l.main {
		l.publish()
		return
	}
	if err == nil {
		err = shannon.Errorf(shannon.CodeConnectionLost, "", "the server ended the connection")
	}
	if time.Since(l.connectedAt) >= stable {
		l.failures = 0
	}
	l.close()
	l.failed("exit", err)
}

// failed decides what to do about a failed attempt or a lost connection.
func (l *loop) failed(cause string, err error) {
	l.err = err
	l.connectedAt = time.Time{}
	l.failures++
	d := decide(failure{
		Attempt: l.failures, Code: shannon.CodeOf(err), RetryDelay: l.server.RetryDelay.Std(),
		RetryAfter: retryAfter(err), Jitter: l.u.o.Jitter(),
	})
	p := *shannon.ProblemOf(err)
	p.Code = d.Code
	l.problem = &p
	l.nextRetry = time.Time{}
	if !d.Park {
		l.nextRetry = time.Now().Add(d.Delay)
		l.retry.Reset(d.Delay)
	}
	state := shannon.StateError
	if cause == "exit" || cause == "health" {
		state = shannon.StateReconnecting
	}
	l.enter(state, cause, err)
}

// close ends all peers and whatever is under way for the connection.
func (l *loop) close() (was bool) {
	l.generation++
	for era, cancel := range l.dialing {
		cancel()
		delete(l.dialing, era)
		if era == mainDial {
			l.attempts++
			l.err = errGivenUp
		}
	}
	was = len(l.peers) > 0
	for era, p := range l.peers {
		l.u.discard(l.ctx, p)
		delete(l.peers, era)
	}
	l.health.Stop()
	l.retry.Stop()
	l.pinging, l.listing, l.again = false, false, false
	l.nextRetry, l.connectedAt = time.Time{}, time.Time{}
	return was
}

var errGivenUp = shannon.Errorf(shannon.CodeCanceled, "", "the attempt to connect was given up")

// drop ends the connection, to be made anew or not.
func (l *loop) drop(cause string, problem *shannon.Problem) bool {
	busy := l.dialing[mainDial] != nil
	was := l.close()
	l.failures, l.errs = 0, 0
	l.problem = problem
	if was || busy || l.state != shannon.StateDisconnected {
		l.enter(shannon.StateDisconnected, cause, nil)
	} else {
		l.publish()
	}
	return was
}

// disconnect ends the connection; at the user's word it stays so.
func (l *loop) disconnect(cause string, stopped bool) bool {
	l.stopped = stopped
	l.rest()
	return l.drop(cause, l.problem)
}

// update puts a changed definition in force.
func (l *loop) update(s shannon.Server) {
	old := l.server
	l.server = s
	same := old.DefinitionHash() == s.DefinitionHash() && old.Enabled == s.Enabled
	if same {
		if old.HealthCheckInterval != s.HealthCheckInterval && l.peers[l.main] != nil {
			l.health.Reset(l.interval())
		}
		l.publish()
		return
	}
	if old.DefinitionHash() != s.DefinitionHash() {
		l.eras, l.tools, l.listed = nil, nil, false
	}
	l.err, l.stopped = nil, false
	l.rest()
	l.drop("changed", l.problem)
	l.begin("changed")
}

func (l *loop) interval() time.Duration {
	if d := l.server.HealthCheckInterval.Std(); d > 0 {
		return d
	}
	return 365 * 24 * time.Hour // zero switches health checks off
}
