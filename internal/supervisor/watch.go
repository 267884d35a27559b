package supervisor

import (
	"context"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// list is what listing a server's tools gave.
type list struct {
	tools [][]byte
	err   error
}

// relist lists the server's tools again, beside the loop and not too often: a
// server may announce a change with every list that it gives.
func (l *loop) relist() {
	peer, r := l.peers[l.main], &l.relisting
	switch {
	case peer == nil:
		return
	case r.now:
		r.again = true
		return
	}
	if since := time.Since(r.began); since < relistEvery {
		r.timer.Reset(relistEvery - since)
		return
	}
	r.now, r.began = true, time.Now()
	server := l.server
	l.beside(func(ctx context.Context) func(*loop) {
		got := l.u.list(ctx, &server, peer)
		return func(l *loop) { l.relisted(got) }
	}, nil)
}

// relisting is what is known of listing again.
type relisting struct {
	now   bool      // it is under way
	again bool      // once more when it has come back
	began time.Time // the last one
	timer *time.Timer
}

func (l *loop) relisted(got list) {
	again := l.relisting.again
	l.relisting.now, l.relisting.again = false, false
	l.keep(got)
	l.publish()
	l.offer(got)
	if again {
		l.relist()
	}
}

// keep takes a list. One that failed changes nothing but the problem: what was
// known is the best that is known.
func (l *loop) keep(got list) {
	l.problem = shannon.ProblemOf(got.err)
	if got.err == nil {
		l.tools, l.listed = got.tools, true
	}
}

// offer tells the observer of a list.
func (l *loop) offer(got list) {
	if got.err == nil {
		l.u.o.Observer.Offers(&l.server, l.eras, got.tools)
	}
}

// ping checks the main peer's health, unless traffic has proven it.
func (l *loop) ping() {
	peer := l.peers[l.main]
	if peer == nil || l.pinging {
		return
	}
	if since := time.Since(time.Unix(0, l.u.seen.Load())); since < l.interval() {
		l.health.Reset(l.interval() - since)
		l.well()
		return
	}
	l.probe(peer)
}

// suspect checks a peer's health now, because a call found nobody there.
func (l *loop) suspect(peer wire.Peer) {
	if peer == l.peers[l.main] && !l.pinging {
		l.probe(peer)
	}
}

// probe pings a peer beside the loop.
func (l *loop) probe(peer wire.Peer) {
	l.pinging = true
	began := time.Now()
	l.beside(func(ctx context.Context) func(*loop) {
		err := l.u.ping(ctx, peer)
		return func(l *loop) { l.pinged(began, err) }
	}, nil)
}

// well takes it that the peer lives.
func (l *loop) well() {
	if time.Since(l.connectedAt) >= stable {
		l.failures = 0
	}
	l.errs, l.err = 0, nil
	l.publish()
	if l.problem != nil { // its tools could not be listed
		l.relist()
	}
}

// ping asks a peer for a sign of life. Any answer is one, an error too: errors of
// the application say nothing about the connection.
func (u *Unit) ping(ctx context.Context, peer wire.Peer) error {
	method := "ping"
	if peer.Info().Era == shannon.EraModern {
		method = "server/discover"
	}
	r, err := wire.Author(u.o.Client, method, nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	_, err = peer.Call(ctx, r, nil)
	return err
}

// pinged takes the result of a health check.
func (l *loop) pinged(began time.Time, err error) {
	l.pinging = false
	l.health.Reset(l.interval())
	if err == nil {
		l.u.alive()
		l.lastPing = time.Now()
	}
	if err == nil || l.u.seen.Load() > began.UnixNano() { // it has shown life in another way meanwhile
		l.well()
		return
	}
	errs, replace := check(health{Gone: shannon.CodeOf(err) == shannon.CodeUnreachable, Busy: l.u.busy.Load() > 0, Errors: l.errs, RetryCount: l.server.RetryCount})
	if errs == l.errs { // it does not count
		return
	}
	l.errs = errs
	l.err = shannon.Errorf(shannon.CodeUnhealthy, "shannon logs "+l.server.Name, "server %q does not answer health checks: %w", l.server.Name, err)
	if !replace {
		l.publish()
		return
	}
	err = l.err
	_ = l.close(shannon.StateReconnecting) // it ends because we say so
	l.failed("health", err)
}
