package supervisor

import (
	"context"
	"slices"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// attempt is a dial, for those who wait for its outcome. A nil one has succeeded.
type attempt struct {
	done chan struct{}
	err  error // why it failed; set before done is closed
}

func (a *attempt) end(err error) {
	a.err = err
	close(a.done)
}

func (a *attempt) wait(ctx context.Context) error {
	if a == nil {
		return nil
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// mainDial is the key of the main peer's dial, whose era is not yet known.
const mainDial = shannon.Era("")

// beside runs work of the connection beside the loop and then, in the loop, the
// function that work returns; or drop, when the connection has ended meanwhile.
func (l *loop) beside(work func(ctx context.Context) (then func(*loop)), drop func(ctx context.Context)) {
	ctx := l.link
	l.under.Add(1)
	l.u.wg.Go(func() {
		then := work(ctx)
		taken := false
		// Where the loop has ended, so has the connection.
		_ = l.u.post(ctx, func(l *loop) {
			if taken = ctx.Err() == nil; taken {
				l.under.Done() // what comes of it may end the connection
				then(l)
			}
		})
		if !taken {
			if drop != nil {
				drop(ctx)
			}
			l.under.Done()
		}
	})
}

// dial reaches the server.
func (l *loop) dial(want shannon.Era) {
	l.attempts[want] = &attempt{done: make(chan struct{})}
	server, known := l.server, l.eras
	if len(known) == 0 && l.plain {
		known = []shannon.Era{shannon.EraLegacy}
	}
	var peer wire.Peer
	l.beside(func(ctx context.Context) func(*loop) {
		var listed list
		var err error
		if peer, err = l.u.o.Dialer.Dial(ctx, &server, want, known, l.u.hooks(server)); err == nil && want == mainDial {
			listed = l.u.list(ctx, &server, peer)
			if gone(peer) { // and never was connected
				err = l.u.lost(ctx, peer)
				peer = nil
			}
		}
		return func(l *loop) { l.dialed(want, peer, listed, err) }
	}, func(ctx context.Context) {
		if peer != nil {
			l.u.discard(ctx, peer)
		}
	})
}

func gone(p wire.Peer) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// dialed takes the result of a dial.
func (l *loop) dialed(want shannon.Era, peer wire.Peer, listed list, err error) {
	a := l.attempts[want]
	delete(l.attempts, want)
	switch {
	case want != mainDial:
		l.dialedSecond(want, peer, err)
		a.end(nil) // where there is no such peer, the main one serves
		return
	case err != nil:
		err = l.u.named(err)
		l.failed(l.cause, err)
		a.end(err)
		return
	}
	info := peer.Info()
	l.main, l.eras = info.Era, info.Eras
	l.peers[l.main] = peer
	l.err, l.errs = nil, 0
	l.connectedAt, l.lastPing = time.Now(), time.Time{}
	l.u.alive()
	l.health.Reset(l.interval())
	l.watch(peer)
	l.keep(listed)
	l.enter(shannon.StateConnected, l.cause, nil)
	l.offer(listed)
	a.end(nil)
}

// dialedSecond takes the peer of another era than the main one's. Where there is
// none after all, calls of that era are bridged by the main peer.
func (l *loop) dialedSecond(want shannon.Era, peer wire.Peer, err error) {
	if err == nil && peer.Info().Era != want {
		l.u.discard(l.ctx, peer)
		peer = nil
	}
	if err != nil {
		l.u.o.Log.Warn("the server speaks an era less than it said", "server", l.server.Name, "era", want, "err", err)
	}
	if err != nil || peer == nil {
		l.forget(want)
		return
	}
	l.peers[want] = peer
	l.watch(peer)
	l.publish()
}

// forget lets the main peer bridge the calls of an era.
func (l *loop) forget(era shannon.Era) {
	l.eras = slices.DeleteFunc(slices.Clone(l.eras), func(e shannon.Era) bool { return e == era })
	l.publish()
}
