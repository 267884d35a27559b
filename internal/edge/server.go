package edge

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// Backend is what an endpoint offers: all servers, or one. It knows no era. All
// methods may be called concurrently.
type Backend interface {
	// Handle answers a request. It returns soon after ctx has ended. An error
	// object of a server is a Reply; an error means that there is no answer.
	Handle(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error)
	// Notify takes a client's notification, other than those that the edge acts
	// on itself: initialized and cancelled.
	Notify(ctx context.Context, c *wire.Client, e wire.Envelope) error
	// Describe gives the ServerInfo, Capabilities and Instructions that the
	// endpoint shows to this client.
	Describe(ctx context.Context, c *wire.Client) (wire.Info, error)
	// Watch calls f with every notification that is for all clients of the
	// endpoint, until stop is called. f does not block, and does not keep n from
	// being shared: its bytes are immutable.
	Watch(f func(n wire.Notification)) (stop func())
}

// Options says how a [Server] behaves; a zero field means its default.
type Options struct {
	Log         *slog.Logger
	MaxMessage  int           // bytes of a message, 10 MiB
	SessionIdle time.Duration // a legacy session that is not used for so long ends, 24 h
	// MaxSessions bounds the legacy sessions, 10,000; above, the one that was not
	// used for longest gives way.
	MaxSessions int
	Heartbeat   time.Duration // the most that a stream stays silent, 15 s
	Quiet       time.Duration // after so long a JSON reply becomes a stream with comments, 10 s
	Patience    time.Duration // a client that sends or takes nothing for so long is gone, 60 s
	// Principal tells who was admitted; nil means that all are one.
	Principal func(*http.Request) string
}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Principal == nil {
		o.Principal = func(*http.Request) string { return "" }
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&o.MaxMessage, 10 << 20}, {&o.MaxSessions, 10_000}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.SessionIdle, 24 * time.Hour},
		{&o.Heartbeat, 15 * time.Second},
		{&o.Quiet, 10 * time.Second},
		{&o.Patience, time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
}

// Server serves clients over HTTP and keeps the sessions of the legacy ones.
type Server struct {
	o      Options
	active sync.WaitGroup // calls of Serve; all goroutines live within one

	mu        sync.Mutex
	closed    bool // nothing new is taken
	cutting   bool // what is under way must end now
	exchanges map[*exchange]struct{}
	listens   map[*listen]struct{}
	sessions  map[string]*session
	swept     time.Time // when idle sessions were last looked for
}

// New returns a Server.
func New(o Options) *Server {
	o.setDefaults()
	return &Server{
		o:         o,
		exchanges: map[*exchange]struct{}{},
		listens:   map[*listen]struct{}{},
		sessions:  map[string]*session{},
	}
}

var (
	errStopping  = shannon.Errorf(shannon.CodeServerDown, "", "shannon is stopping")
	errGone      = shannon.Errorf(shannon.CodeCanceled, "", "the client has gone away")
	errCancelled = shannon.Errorf(shannon.CodeCanceled, "", "the client has cancelled the request")
	errEnded     = shannon.Errorf(shannon.CodeCanceled, "", "the session has ended")
)

// Serve answers one HTTP request to an endpoint. Sessions are bound to the
// endpoint's key and to the principal. Who may call, and from which host and
// origin, must have been checked before.
func (s *Server) Serve(w http.ResponseWriter, r *http.Request, endpoint string, b Backend) {
	x := &exchange{s: s, w: w, r: r, endpoint: endpoint, b: b}
	if !s.enter(x) {
		x.fail(http.StatusServiceUnavailable, nil, errStopping)
		return
	}
	defer s.leave(x)
	x.principal = s.o.Principal(r)
	if r.ContentLength != 0 {
		// Whether or not it is read here: net/http waits for the rest of it.
		_ = http.NewResponseController(w).SetReadDeadline(s.deadline())
	}
	switch {
	case r.Method == http.MethodPost:
		x.post()
	case r.Method != http.MethodGet && r.Method != http.MethodDelete:
		x.notAllowed("GET, POST, DELETE")
	case r.ContentLength != 0:
		x.fail(http.StatusBadRequest, nil, wire.Errorf(wire.CodeInvalidRequest, "method %s takes no body", r.Method))
	case r.Method == http.MethodGet:
		x.get()
	default:
		x.delete()
	}
}

func (s *Server) enter(x *exchange) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.active.Add(1)
	s.exchanges[x] = struct{}{}
	return true
}

func (s *Server) leave(x *exchange) {
	s.mu.Lock()
	delete(s.exchanges, x)
	s.mu.Unlock()
	s.active.Done()
}

// Close ends all streams, a modern one with the result that says so, and waits
// for the calls under way. When ctx ends before they do, they are cancelled, and
// clients that send or read nothing are cut off; Close then returns the cause.
// Either way nothing is left when it returns.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.endStreams(func(string) bool { return true }, nil)
	done := make(chan struct{})
	go func() { // ends before Close does
		s.active.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.cut()
	<-done
	return context.Cause(ctx)
}

// cut cancels every call and unblocks whoever waits for a client.
func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutting = true
	for x := range s.exchanges {
		if x.cancel != nil {
			x.cancel(errStopping)
		}
		// Where there are no deadlines, the connection's own end has to do.
		rc := http.NewResponseController(x.w)
		_ = rc.SetReadDeadline(longAgo)
		_ = rc.SetWriteDeadline(longAgo)
	}
}

var longAgo = time.Unix(1, 0)

// deadline says until when a client must have sent or taken something.
func (s *Server) deadline() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cutting {
		return longAgo
	}
	return time.Now().Add(s.o.Patience)
}

// Drop ends what belongs to an endpoint that is gone: its sessions with their
// calls, and its streams.
func (s *Server) Drop(endpoint string) {
	s.endStreams(func(e string) bool { return e == endpoint }, errEnded)
}

// endStreams ends the sessions and listens of the chosen endpoints. The calls of
// the sessions are cancelled where a cause is given.
func (s *Server) endStreams(chosen func(endpoint string) bool, cause error) {
	var sessions []*session
	var listens []*listen
	s.mu.Lock()
	for id, ss := range s.sessions {
		if chosen(ss.endpoint) {
			sessions = append(sessions, ss)
			delete(s.sessions, id)
		}
	}
	for l := range s.listens {
		if chosen(l.endpoint) {
			listens = append(listens, l)
		}
	}
	s.mu.Unlock()
	for _, ss := range sessions {
		ss.end(cause)
	}
	for _, l := range listens {
		l.end()
	}
}
