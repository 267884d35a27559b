package manager

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
)

const (
	keptEvents   = 1000
	subscription = 256 // events that may wait for one subscriber
)

// hub numbers events, keeps the last ones and hands them to whoever listens. It
// never waits for a subscriber: one that is too slow is told how much it missed.
type hub struct {
	mu     sync.Mutex
	seq    uint64
	kept   []shannon.Event // the newest last
	subs   map[*subscriber]struct{}
	closed bool
}

type subscriber struct {
	filter shannon.EventFilter
	queue  chan shannon.Event
	missed int
}

func newHub() *hub { return &hub{subs: map[*subscriber]struct{}{}} }

// emit publishes an event. Seq, Timestamp, Category and Source are set here.
func (h *hub) emit(e shannon.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.seq++
	e.Seq, e.Timestamp = h.seq, time.Now().UTC()
	if e.Category == "" {
		e.Category = shannon.CategoryMCP
	}
	if e.Priority == "" {
		e.Priority = shannon.PriorityNormal
	}
	e.Source = "manager"
	if len(h.kept) == keptEvents {
		h.kept = append(h.kept[:0], h.kept[1:]...)
	}
	h.kept = append(h.kept, e)
	for s := range h.subs {
		if s.filter.Pass(&e) {
			s.offer(e)
		}
	}
}

// offer queues e, or counts it as missed. The hub's lock is held.
func (s *subscriber) offer(e shannon.Event) {
	if s.missed > 0 {
		// One place in the queue is enough to say that some were missed.
		lag := shannon.Event{
			Seq: e.Seq - 1, Name: shannon.EventLagged, Category: e.Category, Priority: shannon.PriorityHigh,
			Timestamp: e.Timestamp, Source: e.Source, Data: map[string]any{"missed": s.missed},
		}
		if len(s.queue) > subscription-2 {
			s.missed++
			return
		}
		s.queue <- lag
		s.missed = 0
	}
	select {
	case s.queue <- e:
	default:
		s.missed++
	}
}

// subscribe returns what is kept behind filter.After and, when following, a
// subscriber for what comes next.
func (h *hub) subscribe(filter shannon.EventFilter) (kept []shannon.Event, s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.kept {
		if e := h.kept[i]; e.Seq > filter.After && filter.Pass(&e) {
			kept = append(kept, e)
		}
	}
	if filter.Follow && !h.closed {
		s = &subscriber{filter: filter, queue: make(chan shannon.Event, subscription)}
		h.subs[s] = struct{}{}
	}
	return kept, s
}

func (h *hub) unsubscribe(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}

// close ends all subscriptions.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for s := range h.subs {
		close(s.queue)
	}
	clear(h.subs)
}

// Events yields what happened; see [shannon.Records].
func (m *Manager) Events(ctx context.Context, filter shannon.EventFilter) iter.Seq2[shannon.Event, error] {
	return func(yield func(shannon.Event, error) bool) {
		kept, s := m.events.subscribe(filter)
		if s != nil {
			defer m.events.unsubscribe(s)
		}
		for _, e := range kept {
			if !yield(e, nil) {
				return
			}
		}
		for s != nil {
			select {
			case e, ok := <-s.queue:
				if !ok || !yield(e, nil) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}
