package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

const (
	// openAfter is how long a stream waits for its first item or error before
	// its head is sent: an error that comes sooner gets a status of its own.
	openAfter = 100 * time.Millisecond
	// heartbeat is how often a silent stream says that it is alive.
	heartbeat = 15 * time.Second
	// patience is how long a client may take nothing before it counts as gone.
	patience = time.Minute
	// eventProblem is the type of the event that ends a stream with an error.
	eventProblem = "problem"
)

// stream answers with the items of seq as server-sent events. An error that is
// yielded before any item is returned; later ones are sent as the last event.
func stream[T any](w http.ResponseWriter, seq iter.Seq2[T, error], id func(*T) string) error {
	s := &sender{w: w, out: http.NewResponseController(w)}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.beat(done) })
	defer func() { _ = s.out.SetWriteDeadline(time.Time{}) }() // the connection may serve again
	defer wg.Wait()
	defer close(done)
	for item, err := range seq {
		if err != nil {
			return s.end(err)
		}
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(item); err != nil {
			return s.end(fmt.Errorf("encode event: %w", err))
		}
		if !s.send(wire.AppendSSE(nil, "", id(&item), bytes.TrimSpace(text.Bytes()))) {
			return nil
		}
	}
	s.send(nil)
	return nil
}

// sender writes a stream. Its methods may be called concurrently.
type sender struct {
	mu   sync.Mutex
	w    http.ResponseWriter
	out  *http.ResponseController
	open bool // the head was sent
}

// send writes text; false when the client is gone.
func (s *sender) send(text []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendLocked(text)
}

func (s *sender) sendLocked(text []byte) bool {
	if !s.open {
		s.open = true
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.Header().Set("Cache-Control", "no-store")
		s.w.WriteHeader(http.StatusOK)
	}
	_ = s.out.SetWriteDeadline(time.Now().Add(patience)) // not every writer has deadlines
	if _, err := s.w.Write(text); err != nil {
		return false
	}
	return s.out.Flush() == nil
}

// end ends the stream with err, or returns it when nothing was sent yet.
func (s *sender) end(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return err
	}
	text := appendProblem(nil, statusOf(shannon.CodeOf(err)), err)
	s.sendLocked(wire.AppendSSE(nil, eventProblem, "", wire.Flatten(text)))
	return nil
}

// beat opens the stream if nothing else does, and keeps it alive.
func (s *sender) beat(done <-chan struct{}) {
	timer := time.NewTimer(openAfter)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-timer.C:
		}
		if !s.send([]byte(":\n\n")) {
			return
		}
		timer.Reset(heartbeat)
	}
}
