package manager

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
)

// keptEvents is how many events are kept, for those who come late or read slowly.
const keptEvents = 1000

// hub numbers events and keeps the last ones. A subscriber is nothing but a place
// in that sequence, so none can delay anybody: who falls behind what is kept is
// told how much it missed.
type hub struct {
	mu     sync.Mutex
	seq    uint64
	kept   []shannon.Event // the newest last
	news   chan struct{}   // closed when there is more
	closed bool
}

func newHub() *hub { return &hub{news: make(chan struct{})} }

// emit publishes an event. Seq, Timestamp and Source are set here, and Category
// and Priority where they are not.
func (h *hub) emit(e shannon.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.seq++
	e.Seq, e.Timestamp, e.Source = h.seq, time.Now().UTC(), "manager"
	if e.Category == "" {
		e.Category = shannon.CategoryMCP
	}
	if e.Priority == "" {
		e.Priority = shannon.PriorityNormal
	}
	if len(h.kept) == keptEvents {
		h.kept = append(h.kept[:0], h.kept[1:]...)
	}
	h.kept = append(h.kept, e)
	close(h.news)
	h.news = make(chan struct{})
}

// close ends all subscriptions, once they have read what is kept.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.news)
	}
}

// behind returns the events behind that number, with one in front that tells what
// is missing, and a channel that is closed when there is more; nil at the end. Who
// is fresh and names no number has missed nothing.
func (h *hub) behind(seq uint64, fresh bool) (events []shannon.Event, news <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		news = h.news
	}
	if len(h.kept) == 0 || h.seq <= seq {
		return nil, news
	}
	oldest := h.kept[0].Seq
	if fresh && seq == 0 {
		seq = oldest - 1
	}
	if seq+1 < oldest {
		events = append(events, shannon.Event{
			Seq: oldest - 1, Name: shannon.EventLagged, Category: shannon.CategoryMCP, Priority: shannon.PriorityHigh,
			Timestamp: time.Now().UTC(), Source: "manager", Data: map[string]any{"missed": oldest - seq - 1},
		})
		seq = oldest - 1
	}
	return append(events, h.kept[seq+1-oldest:]...), news
}

// Events yields what happened; see [shannon.Records].
func (m *Manager) Events(ctx context.Context, filter shannon.EventFilter) iter.Seq2[shannon.Event, error] {
	return func(yield func(shannon.Event, error) bool) {
		at := filter.After
		for fresh := true; ; fresh = false {
			events, news := m.events.behind(at, fresh)
			for i := range events {
				at = events[i].Seq
				if (filter.Pass(&events[i]) || events[i].Name == shannon.EventLagged) && !yield(events[i], nil) {
					return
				}
			}
			if !filter.Follow || news == nil {
				return
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			case <-m.ending:
				return
			}
		}
	}
}
