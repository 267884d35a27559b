package edge

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// What waits at most for one client that reads slowly.
const (
	maxQueued      = 64
	maxQueuedBytes = 1 << 20
)

// feed is the bounded queue between those who have something for a client and
// the goroutine that writes it. put never blocks; the oldest notification gives
// way when there are too many.
type feed struct {
	mu    sync.Mutex
	queue []wire.Notification
	size  int           // bytes in queue
	wake  chan struct{} // holds a token when there is something new; nil while nobody drains
	ended bool
	last  []byte // a message to be written after all others
}

// state tells whether a notification says only that something has changed, so
// that the second one of two that wait tells no more than the first.
func state(n wire.Notification) (isList, isState bool) {
	isList = strings.HasSuffix(n.Method, "/list_changed")
	return isList, isList || n.Method == "notifications/resources/updated"
}

// put appends n, and tells whether the feed still takes anything.
func (f *feed) put(n wire.Notification) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	isList, isState := state(n)
	if isState && slices.ContainsFunc(f.queue, func(q wire.Notification) bool {
		return q.Method == n.Method && (isList || bytes.Equal(q.Raw, n.Raw))
	}) {
		return true
	}
	f.queue = append(f.queue, n)
	f.size += len(n.Raw)
	for len(f.queue) > 1 && (len(f.queue) > maxQueued || f.size > maxQueuedBytes) {
		// A change of a list is never lost: there are few kinds of it.
		i := max(0, slices.IndexFunc(f.queue, func(q wire.Notification) bool { isList, _ := state(q); return !isList }))
		f.size -= len(f.queue[i].Raw)
		f.queue = slices.Delete(f.queue, i, i+1)
	}
	f.signal()
	return true
}

// end ends the feed: what waits and then last, if there is one, are still
// written, and nothing is taken any more.
func (f *feed) end(last []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.ended, f.last = true, last
		f.signal()
	}
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}: // never chosen while wake is nil
	default:
	}
}

// take empties the feed.
func (f *feed) take() (batch []wire.Notification, last []byte, ended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	batch, f.queue, f.size = f.queue, nil, 0
	last, f.last = f.last, nil
	return batch, last, f.ended
}

// open makes the feed ready to be drained, by one goroutine.
func (f *feed) open() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake = make(chan struct{}, 1)
	return f.wake
}

// drain writes what comes to out, until the feed has ended or the client has
// gone, and a comment where nothing comes for beat. It returns what could not be
// written.
func (f *feed) drain(ctx context.Context, out *stream, beat time.Duration) (unsent []wire.Notification, err error) {
	wake := f.open()
	silence := time.NewTicker(beat)
	defer silence.Stop()
	for {
		batch, last, ended := f.take()
		if len(batch) > 0 || last != nil {
			if err := out.send(batch, last); err != nil {
				return batch, err
			}
			silence.Reset(beat)
		}
		if ended {
			return nil, nil
		}
		select {
		case <-wake:
		case <-silence.C:
			if err := out.comment(); err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
