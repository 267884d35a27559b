package transport

import (
	"context"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// backoff is the delay before a lost stream is opened again: it doubles up to a
// minute, and begins anew after a stream that lasted that long.
type backoff struct{ first, next time.Duration }

const maxBackoff = time.Minute

// wait waits, at least as long as the server asked for, and tells whether ctx goes on.
func (b *backoff) wait(ctx context.Context, lasted, atLeast time.Duration) bool {
	if b.next == 0 || lasted >= maxBackoff {
		b.next = b.first
	}
	d := max(b.next, atLeast)
	b.next = min(2*b.next, maxBackoff)
	return pause(ctx, d)
}

// pause waits and tells whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

const methodAcknowledged = "notifications/subscriptions/acknowledged"

// listener holds one subscriptions/listen open towards a modern server (2026-07-28,
// basic/patterns/subscriptions). After a drop it listens again and announces
// changes of all lists, as it cannot know what it missed.
type listener struct {
	request      *wire.Request
	capabilities []byte
	hooks        *Hooks
	// call sends the request and returns when the subscription has ended.
	call  func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error)
	retry time.Duration

	mu    sync.Mutex
	id    string // of the subscription, once acknowledged
	drop  context.CancelFunc
	again bool // an earlier subscription was lost
}

// newListener returns nil for a server that announces nothing.
func newListener(capabilities []byte, h *Hooks) *listener {
	params := []byte(`{"notifications":{`)
	before := len(params)
	for _, l := range lists {
		if announces(capabilities, l.capability) {
			if len(params) > before {
				params = append(params, ',')
			}
			params = append(append(append(params, '"'), l.filter...), `":true`...)
		}
	}
	if len(params) == before {
		return nil
	}
	return &listener{request: author("subscriptions/listen", append(params, "}}"...)), capabilities: capabilities, hooks: h}
}

// run listens until ctx ends, or the server says that it knows no subscriptions.
func (l *listener) run(ctx context.Context) {
	wait := backoff{first: l.retry}
	for {
		begun := time.Now()
		reply, err := l.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && reply.Kind == wire.KindError {
			switch errorCode(reply) {
			case wire.CodeMethodNotFound, wire.CodeInvalidParams, wire.CodeInvalidRequest:
				l.hooks.remark("the server announces list changes but refuses subscriptions/listen: " + string(reply.Get(wire.FieldError)))
				return
			}
		}
		l.mu.Lock()
		l.again = true
		l.mu.Unlock()
		if !wait.wait(ctx, time.Since(begun), 0) {
			return
		}
	}
}

func (l *listener) listen(ctx context.Context) (wire.Reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.mu.Lock()
	l.id, l.drop = "", cancel
	l.mu.Unlock()
	return l.call(ctx, l.request, l)
}

// Deliver implements [wire.Sink] for the peers that tell calls apart by stream.
func (l *listener) Deliver(n wire.Notification) {
	if e, err := wire.Scan(n.Raw); err == nil && !l.take(e) {
		l.hooks.notify(e)
	}
}

// take consumes the notifications that are about a subscription itself.
func (l *listener) take(e wire.Envelope) bool {
	switch e.Method {
	case methodAcknowledged:
		l.mu.Lock()
		l.id = string(e.Get(wire.FieldMetaSubscription))
		again := l.again
		l.again = false
		l.mu.Unlock()
		if again {
			announceAll(l.capabilities, l.hooks)
		}
		return true
	case "notifications/cancelled":
		// A server tears a subscription down so (2026-07-28, basic/patterns/cancellation).
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.id == "" || string(e.Get(wire.FieldRequestID)) != l.id {
			return false
		}
		l.drop()
		return true
	}
	return false
}
