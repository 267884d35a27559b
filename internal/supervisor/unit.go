// Package supervisor keeps servers alive: one [Unit] per server.
//
// One goroutine owns one server. It dials, waits, checks health, decides and
// retries, and is the only writer of the server's state; everybody else reads an
// immutable [Snapshot]. What to do next is a pure function of facts (decide,
// check). Dialling, listing and pinging run beside the loop, in goroutines that
// belong to the connection: its end cancels them and waits for them and for its
// peers, so nothing of an old connection can reach into a new one.
//
// The package knows peers, states and time. It does not know how a peer is
// reached ([Dialer]), where transitions are kept ([Observer]), nor who calls.
package supervisor

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// Hooks take what a peer sends outside of calls. They must not block.
type Hooks struct {
	Notification func(wire.Envelope)
	Log          func(source string, line []byte)
}

// Dialer reaches a server. want is the era to speak, "" for the best that the
// server has; known are the eras remembered of it, empty when it must be probed.
// On an error nothing is left running.
type Dialer interface {
	Dial(ctx context.Context, s *shannon.Server, want shannon.Era, known []shannon.Era, h Hooks) (wire.Peer, error)
}

// Observer learns what happens. Its methods are called by the unit's goroutine,
// in order; they must not block for long.
type Observer interface {
	// Transition tells that the connection came into a state.
	Transition(s *shannon.Server, t shannon.Transition)
	// Offers tells what the server offers, after it was listed, and which eras it speaks.
	Offers(s *shannon.Server, eras []shannon.Era, tools [][]byte)
	// Notification tells of a notification that belongs to no call.
	Notification(s *shannon.Server, e wire.Envelope)
	// Log takes a line for the server's log.
	Log(s *shannon.Server, source string, line []byte)
}

// Options are what a unit works with.
type Options struct {
	Dialer   Dialer
	Observer Observer
	Log      *slog.Logger
	Client   *wire.Client // who Shannon is when it calls for itself
	// RequestTimeout bounds relayed calls of servers that do not say; zero means no bound.
	RequestTimeout time.Duration
	Jitter         func() float64
	// Passive takes nothing up by itself; servers are connected for calls only.
	Passive bool
	// Known is what is remembered of the server, if its definition has not changed.
	Known *Known
}

// Known is what is remembered of a server.
type Known struct {
	Eras  []shannon.Era
	Tools [][]byte
}

// Snapshot is what is known of a server at one moment. It is immutable.
type Snapshot struct {
	Server shannon.Server
	Status shannon.Status // without Healthy and LastSeen, see [Unit.Status]
	Tools  [][]byte
	Listed bool // Tools are known, if only from an earlier run

	peers map[shannon.Era]wire.Peer
	main  shannon.Era
	eras  []shannon.Era
}

// choose returns the peer for a client of that era: one of its own era where the
// server speaks it, else the main one; nil when that is not connected.
func (s *Snapshot) choose(era shannon.Era) wire.Peer {
	if p := s.peers[era]; p != nil {
		return p
	}
	if slices.Contains(s.eras, era) && era != "" {
		return nil
	}
	return s.peers[s.main]
}

// Unit supervises one server. All methods may be called concurrently.
type Unit struct {
	o     Options
	state atomic.Pointer[Snapshot]
	seen  atomic.Int64 // last proof of life, Unix nanoseconds
	busy  atomic.Int64 // calls under way

	ctx    context.Context //nolint:containedctx // the unit's life, for the goroutines that it owns
	posts  chan func(*loop)
	relist chan struct{} // holds a token when the server's list has changed
	gone   chan struct{} // closed when the loop has ended
	stop   context.CancelFunc
	wg     sync.WaitGroup
}

// Start starts to supervise s, which is taken up at once when it is enabled and
// eager, or when nothing is known of what it offers. ctx is the unit's life;
// [Unit.Close] must be called all the same.
func Start(ctx context.Context, s shannon.Server, o Options) *Unit {
	ctx, stop := context.WithCancel(ctx)
	u := &Unit{
		o: o, ctx: ctx, posts: make(chan func(*loop)), relist: make(chan struct{}, 1),
		gone: make(chan struct{}), stop: stop,
	}
	l := newLoop(u, s)
	u.wg.Go(l.run)
	return u
}

// Close ends the connection and the supervision and waits for both. cause is
// what the ledger says about it.
func (u *Unit) Close(cause string) {
	// Where the loop has ended already, so has what cause would explain.
	_ = u.post(context.WithoutCancel(u.ctx), func(l *loop) { l.ending = cause })
	u.stop()
	u.wg.Wait()
}

// Snapshot returns what is known now.
func (u *Unit) Snapshot() *Snapshot { return u.state.Load() }

// Status returns the state of the connection now.
func (u *Unit) Status() shannon.Status {
	s := u.state.Load()
	st := s.Status
	if at := u.seen.Load(); at > 0 {
		t := time.Unix(0, at).UTC()
		st.LastSeen = &t
		limit := s.Server.HealthCheckInterval.Std() + healthSlack
		st.Healthy = st.State == shannon.StateConnected && st.ErrorCount == 0 &&
			(s.Server.HealthCheckInterval == 0 || time.Since(t) <= limit)
	}
	return st
}

// post runs f in the loop and waits for it. An error means that f was not run.
func (u *Unit) post(ctx context.Context, f func(*loop)) error {
	done := make(chan struct{})
	select {
	case u.posts <- func(l *loop) { defer close(done); f(l) }:
		<-done
		return nil
	case <-u.gone:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var errClosed = shannon.Errorf(shannon.CodeServerDown, "", "the server is being shut down or removed")

// Connect connects now, whatever the backoff says, and returns when the server
// answers or the attempt has failed.
func (u *Unit) Connect(ctx context.Context) (shannon.Status, error) {
	return u.connected(ctx, func(l *loop) (*attempt, error) { return l.connectNow("connect") })
}

// Restart ends the connection and connects.
func (u *Unit) Restart(ctx context.Context) (shannon.Status, error) {
	return u.connected(ctx, func(l *loop) (*attempt, error) {
		if !l.server.Enabled {
			return nil, l.disabled()
		}
		l.drop("restart", nil)
		return l.connectNow("restart")
	})
}

// connected begins to connect and waits for the outcome.
func (u *Unit) connected(ctx context.Context, begin func(*loop) (*attempt, error)) (shannon.Status, error) {
	var a *attempt
	var refused error
	err := u.post(ctx, func(l *loop) { a, refused = begin(l) })
	if err = cmp.Or(err, refused); err == nil && a != nil {
		err = a.wait(ctx)
	}
	return u.Status(), err
}

// Disconnect ends the connection and keeps it ended until Connect or Restart. It
// returns when nothing is left of it, and whether there was one.
func (u *Unit) Disconnect(ctx context.Context) (was bool, err error) {
	err = u.post(ctx, func(l *loop) { was = l.disconnect("disconnect", true) })
	return was, err
}

// Update puts a changed definition in force. The connection is made anew when
// the server is reached in another way now, and ended when it was disabled.
func (u *Unit) Update(ctx context.Context, s shannon.Server) error {
	return u.post(ctx, func(l *loop) { l.update(s) })
}
