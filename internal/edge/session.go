package edge

import (
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// maxStreams is how many streams a session may have open at once; above, the
// oldest ends, which is likely to be one that the client has forgotten.
const maxStreams = 8

// session is what a legacy client's handshake began: its identity, its calls
// under way, and what waits to be told to it outside of calls.
type session struct {
	id       string
	endpoint string
	client   *wire.Client
	unwatch  func()

	mu    sync.Mutex
	ended bool
	used  time.Time
	calls map[string]context.CancelCauseFunc // by the client's id, as it stands in the message
	// feeds are where notifications go: the last one takes them, so that each
	// goes to one stream, the newest. The first has no stream and keeps what
	// comes while none is open.
	feeds []*feed
}

// newSession makes a session of a client that wants to speak that version. It
// takes no part in anything until [Server.addSession].
func newSession(endpoint string, c *wire.Client) *session {
	ss := &session{
		id: rand.Text(), endpoint: endpoint, client: c,
		used: time.Now(), calls: map[string]context.CancelCauseFunc{}, feeds: []*feed{{}},
	}
	c.Affinity = ss.id
	return ss
}

// notify tells the client something outside of its calls.
func (ss *session) notify(n wire.Notification) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.feeds[len(ss.feeds)-1].put(n)
}

// attach opens a stream, false when the session has ended. Whatever waits moves
// to it.
func (ss *session) attach() (*feed, bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.ended {
		return nil, false
	}
	f := &feed{}
	ss.moveLocked(ss.feeds[0], f)
	ss.feeds = append(ss.feeds, f)
	if len(ss.feeds) > 1+maxStreams {
		ss.feeds[1].end(nil)
		ss.feeds = slices.Delete(ss.feeds, 1, 2)
	}
	return f, true
}

// detach closes a stream. What was not sent goes to the next one.
func (ss *session) detach(f *feed, unsent []wire.Notification) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.used = time.Now()
	if i := slices.Index(ss.feeds, f); i >= 0 {
		ss.feeds = slices.Delete(ss.feeds, i, i+1)
	}
	if ss.ended {
		return
	}
	next := ss.feeds[len(ss.feeds)-1]
	for _, n := range unsent {
		next.put(n)
	}
	ss.moveLocked(f, next)
}

func (ss *session) moveLocked(from, to *feed) {
	batch, _, _ := from.take()
	for _, n := range batch {
		to.put(n)
	}
}

// begin notes a call, so that the client can cancel it.
func (ss *session) begin(id []byte, cancel context.CancelCauseFunc) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.ended {
		return errEnded
	}
	if _, busy := ss.calls[string(id)]; busy {
		return wire.Errorf(wire.CodeInvalidRequest, "invalid request: another request with the id %s is under way", id)
	}
	ss.calls[string(id)] = cancel
	return nil
}

func (ss *session) finish(id []byte) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.calls, string(id))
	ss.used = time.Now()
}

// cancel cancels the call of that id, if there is one.
func (ss *session) cancel(id []byte) {
	ss.mu.Lock()
	cancel := ss.calls[string(id)]
	ss.mu.Unlock()
	if cancel != nil {
		cancel(errCancelled)
	}
}

// idleSince returns when the session was last used, now while it is.
func (ss *session) idleSince(now time.Time) time.Time {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if len(ss.calls) > 0 || len(ss.feeds) > 1 {
		return now
	}
	return ss.used
}

func (ss *session) touch(now time.Time) {
	ss.mu.Lock()
	ss.used = now
	ss.mu.Unlock()
}

// end ends the session's streams, and cancels its calls where there is a cause.
func (ss *session) end(cause error) {
	ss.mu.Lock()
	first := !ss.ended
	ss.ended = true
	feeds := slices.Clone(ss.feeds)
	var cancels []context.CancelCauseFunc
	if cause != nil {
		for _, c := range ss.calls {
			cancels = append(cancels, c)
		}
	}
	ss.mu.Unlock()
	if first && ss.unwatch != nil {
		ss.unwatch()
	}
	for _, f := range feeds {
		f.end(nil)
	}
	for _, cancel := range cancels {
		cancel(cause)
	}
}

// addSession makes a session known. Where there are too many, the one that was
// not used for longest ends; one in use never does.
func (s *Server) addSession(ss *session) error {
	now := time.Now()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return errStopping
	}
	gone := s.sweepLocked(now)
	full := false
	if len(s.sessions) >= s.o.MaxSessions {
		oldest := s.oldestLocked(now)
		if full = oldest == nil; !full {
			gone = append(gone, oldest)
			delete(s.sessions, oldest.id)
		}
	}
	if !full {
		s.sessions[ss.id] = ss
	}
	s.mu.Unlock()
	for _, old := range gone {
		old.end(errEnded)
	}
	if full {
		return wire.Errorf(wire.CodeInternal, "all %d sessions are in use: end one of them, or come back later", s.o.MaxSessions)
	}
	return nil
}

// sweepLocked takes out what has been idle for too long. It looks rarely: an
// idle session costs little, and is never handed out (see findSession).
func (s *Server) sweepLocked(now time.Time) (gone []*session) {
	if now.Sub(s.swept) < min(time.Minute, s.o.SessionIdle) {
		return nil
	}
	s.swept = now
	for id, ss := range s.sessions {
		if now.Sub(ss.idleSince(now)) >= s.o.SessionIdle {
			gone = append(gone, ss)
			delete(s.sessions, id)
		}
	}
	return gone
}

func (s *Server) oldestLocked(now time.Time) *session {
	var oldest *session
	since := now
	for _, ss := range s.sessions {
		if t := ss.idleSince(now); t.Before(since) {
			oldest, since = ss, t
		}
	}
	return oldest
}

// findSession returns a session that lives, belongs to that endpoint and
// principal, and marks it as used; nil when there is none.
func (s *Server) findSession(id, endpoint, principal string) *session {
	s.mu.Lock()
	ss := s.sessions[id]
	s.mu.Unlock()
	if ss == nil || ss.endpoint != endpoint || ss.client.Principal != principal {
		return nil
	}
	now := time.Now()
	if now.Sub(ss.idleSince(now)) >= s.o.SessionIdle {
		s.endSession(ss, errEnded)
		return nil
	}
	ss.touch(now)
	return ss
}

func (s *Server) endSession(ss *session, cause error) {
	s.mu.Lock()
	delete(s.sessions, ss.id)
	s.mu.Unlock()
	ss.end(cause)
}
