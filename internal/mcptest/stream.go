package mcptest

import "sync"

// stream is the sequence of messages that one HTTP response carries. It
// outlives the response, so that a legacy stream can be resumed.
type stream struct {
	id string

	mu       sync.Mutex
	messages [][]byte
	ended    bool
	broken   bool          // the connection is to be cut
	changed  chan struct{} // closed and replaced at every change
}

func newStream(id string) *stream { return &stream{id: id, changed: make(chan struct{})} }

func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) add(m []byte) {
	s.change(func() {
		if !s.ended {
			s.messages = append(s.messages, m)
		}
	})
}

func (s *stream) end() { s.change(func() { s.ended = true }) }

func (s *stream) cut() { s.change(func() { s.ended, s.broken = true, true }) }

// next waits for message n; false when the stream ends before it, or one of
// stops is closed.
func (s *stream) next(n int, stops ...<-chan struct{}) ([]byte, bool) {
	var stop [2]<-chan struct{}
	copy(stop[:], stops)
	for {
		s.mu.Lock()
		changed := s.changed
		if n < len(s.messages) {
			defer s.mu.Unlock()
			return s.messages[n], true
		}
		ended := s.ended
		s.mu.Unlock()
		if ended {
			return nil, false
		}
		select {
		case <-changed:
		case <-stop[0]:
			return nil, false
		case <-stop[1]:
			return nil, false
		}
	}
}

func (s *stream) isBroken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}
