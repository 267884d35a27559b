package supervisor

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// loop is the state of a unit. Only the goroutine of run touches it.
type loop struct {
	u      *Unit
	ctx    context.Context //nolint:containedctx // the unit's life, which the loop leads
	server shannon.Server
	cause  string // of the state
	ending string // why the unit is closed

	state   shannon.State
	since   time.Time
	problem *shannon.Problem
	stopped bool // the user said disconnect

	link   context.Context //nolint:containedctx // the connection's life, from the first dial to close
	unlink context.CancelFunc
	under  sync.WaitGroup // dials, lists and pings of the connection

	peers    map[shannon.Era]wire.Peer
	main     shannon.Era
	eras     []shannon.Era
	plain    bool // begin without a probe, which may be what the server cannot take
	tools    [][]byte
	listed   bool
	attempts map[shannon.Era]*attempt // dials under way
	second   time.Time                // when the last peer of another era was dialled

	failures int
	err      error
	parked   bool // no call can help either
	retry    *time.Timer
	credit   credit
	nextTry  time.Time // when retry fires
	notUntil time.Time // when the vendor wants to be asked again
	lastCall time.Time // when a call was last let through to connect

	health      *time.Timer
	pinging     bool
	errs        int
	lastPing    time.Time
	connectedAt time.Time
	relisting   relisting
}

func newLoop(u *Unit, s shannon.Server) *loop {
	l := &loop{
		u: u, ctx: u.ctx, server: s, ending: "stop", since: time.Now(), state: shannon.StateDisconnected,
		peers: map[shannon.Era]wire.Peer{}, attempts: map[shannon.Era]*attempt{},
		retry: stoppedTimer(), health: stoppedTimer(), relisting: relisting{timer: stoppedTimer()},
	}
	l.link, l.unlink = context.WithCancel(l.ctx)
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
			l.credit.take(time.Now())
			l.connect("retry")
		case <-l.health.C:
			l.ping()
		case <-l.u.relist:
			l.relist()
		case <-l.relisting.timer.C:
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
	}
	s.Status = shannon.Status{
		Server: l.server.Name, ServerID: l.server.ID, Transport: l.server.Transport, Enabled: l.server.Enabled,
		State: l.state, Since: l.since.UTC(), Problem: l.problem, Eras: l.eras, Tools: len(l.tools),
		ErrorCount: l.errs, ReconnectAttempts: l.failures,
		LastPing: moment(l.lastPing), NextRetry: moment(l.nextTry), ConnectedAt: moment(l.connectedAt),
	}
	if l.err != nil {
		s.Status.LastError = l.err.Error()
	}
	if p := l.peers[l.main]; p != nil {
		i := p.Info()
		s.Status.Era, s.Status.Version, s.Status.ServerInfo = i.Era, i.Version, describe(i.ServerInfo)
		s.Status.PID, s.Status.Command, s.Status.HandshakeMS = i.PID, i.Command, i.Handshake.Milliseconds()
	}
	l.u.state.Store(s)
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

// turn moves into a state and makes it visible. It is no transition yet: why and
// how is told by enter, once it is known.
func (l *loop) turn(state shannon.State) {
	l.state, l.since = state, time.Now()
	l.publish()
}

// enter moves into a state, makes it visible and tells the observer.
func (l *loop) enter(state shannon.State, cause string, err error) {
	l.cause = cause
	l.turn(state)
	s := &l.u.state.Load().Status
	t := shannon.Transition{
		ServerID: l.server.ID, Server: l.server.Name, State: state, Cause: cause,
		Attempt: l.failures, ConnectedAt: &s.Since, NextRetry: s.NextRetry,
		Era: s.Era, Version: s.Version, PID: s.PID, Command: s.Command, HandshakeMS: s.HandshakeMS,
	}
	if err == nil && (state == shannon.StateConnecting || state == shannon.StateReconnecting) {
		t.Attempt++ // the one that begins
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
	l.u.o.Observer.Transition(&l.server, t)
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
	if !l.u.o.Passive && !l.stopped && (l.server.Start == shannon.StartEager || !l.listed) {
		l.connect(cause)
	}
}

// connect dials the main peer unless that is done or under way.
func (l *loop) connect(cause string) {
	if !l.server.Enabled || l.peers[l.main] != nil || l.attempts[mainDial] != nil {
		return
	}
	l.stopped, l.parked, l.problem = false, false, nil
	l.nextTry, l.notUntil = time.Time{}, time.Time{}
	l.retry.Stop()
	state := shannon.StateConnecting
	if l.failures > 0 {
		state = shannon.StateReconnecting
	}
	l.enter(state, cause, nil)
	l.dial(mainDial)
}

// connectNow is connect at a user's word.
func (l *loop) connectNow(cause string) (*attempt, error) {
	if !l.server.Enabled {
		return nil, l.disabled()
	}
	l.connect(cause)
	return l.attempts[mainDial], nil
}

func (l *loop) disabled() error {
	return shannon.Errorf(shannon.CodeDisabled, "shannon enable "+l.server.Name, "server %q is disabled", l.server.Name)
}

// need sees to a peer for a call of that era: one that is there already, or the
// attempt that may bring it. Who has waited for an attempt in vain is told so.
func (l *loop) need(era shannon.Era, waited bool) (*attempt, error) {
	now := time.Now()
	switch {
	case l.u.state.Load().choose(era) != nil:
		return nil, nil
	case !l.server.Enabled:
		return nil, l.disabled()
	case l.stopped:
		return nil, shannon.Errorf(shannon.CodeServerDown, "shannon connect "+l.server.Name, "server %q was disconnected on request", l.server.Name)
	case l.peers[l.main] != nil:
		if l.attempts[era] == nil {
			l.second = now
			l.dial(era)
		}
		return l.attempts[era], nil
	case l.attempts[mainDial] != nil:
		return l.attempts[mainDial], nil
	case l.err != nil && (waited || l.parked || now.Before(l.notUntil) || now.Sub(l.lastCall) < callEvery):
		return nil, l.down()
	}
	l.lastCall = now
	l.connect("call")
	return l.attempts[mainDial], nil
}

// down is what a call gets while the server cannot be reached.
func (l *loop) down() error {
	hint := "shannon history " + l.server.Name
	if !l.nextTry.IsZero() {
		hint = "Next try at " + l.nextTry.UTC().Format(time.RFC3339) + "; shannon connect " + l.server.Name + " tries now"
	}
	return shannon.Errorf(shannon.CodeServerDown, hint, "server %q is not connected: %w", l.server.Name, l.err)
}

// watch tells the loop when the peer has ended.
func (l *loop) watch(peer wire.Peer) {
	l.u.wg.Go(func() {
		select {
		case <-peer.Done():
			// Where the loop has ended, it has closed the peer itself.
			_ = l.u.post(l.ctx, func(l *loop) { l.bury(peer) })
		case <-l.ctx.Done():
		}
	})
}

// bury takes the end of a peer that nobody asked for, if it has ended.
func (l *loop) bury(peer wire.Peer) {
	era := peer.Info().Era
	if l.peers[era] != peer || !gone(peer) {
		return
	}
	if era == l.main {
		l.failed("exit", l.close(shannon.StateReconnecting))
		return
	}
	delete(l.peers, era)
	if time.Since(l.second) < callEvery {
		l.forget(era) // else every call might start it
	} else {
		l.publish()
	}
	l.u.discard(l.ctx, peer)
}

// failed decides what to do about a failed attempt or a lost connection.
func (l *loop) failed(cause string, err error) {
	now := time.Now()
	err = l.u.named(err)
	l.err = err
	l.failures++
	l.plain = shannon.CodeOf(err) == shannon.CodeHandshakeTimeout && !l.plain
	d := decide(failure{
		Attempt: l.failures, Code: shannon.CodeOf(err), RetryDelay: l.server.RetryDelay.Std(),
		RetryAfter: retryAfter(err), Credit: l.credit.wait(now), Jitter: l.u.o.Jitter(),
	})
	p := *shannon.ProblemOf(err)
	p.Code = d.Code
	l.problem, l.parked = &p, d.Park
	if !d.Park {
		l.nextTry, l.notUntil = now.Add(d.Delay), now.Add(retryAfter(err))
		l.retry.Reset(d.Delay)
	}
	state := shannon.StateError
	if cause == "exit" || cause == "health" {
		state = shannon.StateReconnecting
	}
	l.enter(state, cause, err)
}

// close ends the connection, with all that is under way for it, and returns why
// the main peer ended. Nobody is given a peer of it any more while it ends.
func (l *loop) close(next shannon.State) (why error) {
	if !l.connectedAt.IsZero() && time.Since(l.connectedAt) >= stable {
		l.failures = 0
	}
	peers, attempts := l.peers, l.attempts
	l.peers, l.attempts = map[shannon.Era]wire.Peer{}, map[shannon.Era]*attempt{}
	l.unlink()
	for _, t := range []*time.Timer{l.health, l.retry, l.relisting.timer} {
		t.Stop()
	}
	l.pinging, l.relisting.now, l.relisting.again, l.parked = false, false, false, false
	l.nextTry, l.notUntil, l.connectedAt = time.Time{}, time.Time{}, time.Time{}
	l.turn(next)
	for era, p := range peers {
		l.under.Go(func() {
			if era == l.main {
				why = l.u.lost(l.ctx, p)
			} else {
				l.u.discard(l.ctx, p)
			}
		})
	}
	l.under.Wait()
	for _, a := range attempts {
		a.end(errGivenUp)
	}
	l.link, l.unlink = context.WithCancel(l.ctx)
	return why
}

var errGivenUp = shannon.Errorf(shannon.CodeCanceled, "", "the attempt to connect was given up")

// drop ends the connection at somebody's word, to be made anew or not, and tells
// whether there was one.
func (l *loop) drop(cause string, problem *shannon.Problem) (was bool) {
	was = len(l.peers) > 0
	news := was || l.state != shannon.StateDisconnected
	l.problem = problem
	l.close(shannon.StateDisconnected)
	l.failures, l.errs = 0, 0
	if news {
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
	changed := old.DefinitionHash() != s.DefinitionHash()
	if changed {
		l.eras, l.tools, l.listed = nil, nil, false
	}
	if changed || old.Enabled != s.Enabled {
		l.err, l.stopped = nil, l.stopped && old.Enabled
		l.rest()
		l.drop("changed", l.problem)
		l.begin("changed")
		return
	}
	if old.HealthCheckInterval != s.HealthCheckInterval && l.peers[l.main] != nil {
		l.health.Reset(l.interval())
	}
	if l.state == shannon.StateDisconnected {
		l.rest()
	}
	l.publish()
	if l.state == shannon.StateDisconnected && old.Start != s.Start {
		l.begin("changed")
	}
}

func (l *loop) interval() time.Duration {
	if d := l.server.HealthCheckInterval.Std(); d > 0 {
		return d
	}
	return 365 * 24 * time.Hour // zero switches health checks off
}
