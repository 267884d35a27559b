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

// relist lists the server's tools again, beside the loop.
func (l *loop) relist() {
	peer := l.peers[l.main]
	if peer == nil || l.listing {
		l.again = l.listing
		return
	}
	l.listing = true
	generation, server := l.generation, l.server
	l.u.wg.Go(func() {
		got := l.u.list(l.ctx, &server, peer)
		// Where the loop has ended, nobody wants to know.
		_ = l.u.post(l.ctx, func(l *loop) {
			if generation == l.generation {
				l.relisted(got)
			}
		})
	})
}

func (l *loop) relisted(got list) {
	l.listing = false
	l.keep(got)
	l.publish()
	l.offer(got)
	if l.again {
		l.again = false
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
		return
	}
	l.pinging = true
	generation := l.generation
	l.u.wg.Go(func() {
		err := l.u.ping(l.ctx, peer)
		// Where the loop has ended, nobody wants to know.
		_ = l.u.post(l.ctx, func(l *loop) {
			if generation == l.generation {
				l.pinged(err)
			}
		})
	})
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
func (l *loop) pinged(err error) {
	l.pinging = false
	errs, replace := check(health{
		Failed: err != nil, Busy: l.u.busy.Load() > 0, Errors: l.errs, RetryCount: l.server.RetryCount,
	})
	l.errs = errs
	l.health.Reset(l.interval())
	if err == nil {
		l.u.alive()
		l.lastPing = time.Now()
		l.failures = 0
		l.err = nil
		l.publish()
		return
	}
	l.err = shannon.Errorf(shannon.CodeUnhealthy, "shannon logs "+l.server.Name, "server %q does not answer health checks: %w", l.server.Name, err)
	if !replace {
		l.publish()
		return
	}
	err = l.err
	l.close()
	l.failed("health", err)
}
