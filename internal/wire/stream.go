package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"sync"

	"github.com/shannon-mcp/shannon"
)

const (
	// maxUnsent is how many bytes wait for a peer that does not read before
	// callers have to wait as well.
	maxUnsent = 1 << 20
	// maxSpare is how large a buffer may be that is kept for the next write.
	maxSpare = 64 << 10
)

// StreamOptions says what a [Stream] does with what belongs to no call. The
// functions are called by the goroutine that reads: they must not block.
type StreamOptions struct {
	MaxMessage int
	// Notification takes a notification that belongs to no call.
	Notification func(e Envelope)
	// Request answers a request of the server's own: a result object, or an error.
	// Neither of them means no answer: no modern client answers a server.
	Request func(e Envelope) (result []byte, err error)
	// Noise takes what is no message: text on stdout, replies to nobody. A line
	// that was too large is nil.
	Noise func(line []byte, why error)
	// Ended is asked, once, for the error that the stream's end means, unless
	// End was called before; it may wait a moment for a process to exit.
	Ended func(readErr error) error
}

// Stream is the multiplexer of a peer that is one stream of newline-delimited
// messages in each direction: it gives each call an id of its own, so that calls
// of many clients share the stream and nobody's ids can collide, and hands each
// reply to the one that waits for it. One goroutine reads and one writes, however
// many calls are under way; what several callers send meanwhile leaves in one
// write. All methods may be called concurrently.
type Stream struct {
	o  StreamOptions
	w  io.WriteCloser
	wg sync.WaitGroup

	mu      sync.Mutex
	pending map[uint64]*pendingCall
	lastID  uint64
	unsent  []byte
	answers int           // how many bytes of unsent answer requests of the server
	writes  uint64        // how often unsent has been taken
	room    chan struct{} // closed when unsent has been taken, if somebody waits
	ending  bool          // reading or writing has ended
	err     error         // why the stream ended

	wake chan struct{} // holds a token when there is something to write
	done chan struct{}
}

type pendingCall struct {
	reply chan Reply // of capacity one
	fail  error      // set before reply is closed
	sink  Sink
	token []byte // the client's own progress token
	write uint64 // the write that the request is in
}

// NewStream starts to read from r and write to w. It closes w when it ends; the
// owner must see to it that r ends too.
func NewStream(r io.Reader, w io.WriteCloser, o StreamOptions) *Stream {
	s := &Stream{
		o: o, w: w,
		pending: map[uint64]*pendingCall{},
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	s.wg.Go(func() { s.read(r) })
	s.wg.Go(s.write)
	return s
}

// Done is closed once the stream has ended.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Err returns why the stream ended, nil while it has not.
func (s *Stream) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// End ends the stream for that reason, unless it has ended. All calls under way
// fail. It does not wait; see [Stream.Wait].
func (s *Stream) End(reason error) {
	if reason == nil {
		reason = io.EOF
	}
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = reason
	calls, writes := s.pending, s.writes
	s.pending = nil
	close(s.done)
	s.mu.Unlock()
	for _, c := range calls {
		c.fail = lost(reason)
		if c.write == writes {
			c.fail = down(reason) // it was not sent
		}
		close(c.reply)
	}
	_ = s.w.Close() // the stream's end is known; how its pipe closes tells nothing more
}

// Wait waits until both goroutines are gone.
func (s *Stream) Wait() { s.wg.Wait() }

func lost(reason error) error {
	e := shannon.Errorf(shannon.CodeConnectionLost, "Look at the server's log: shannon logs NAME",
		"the connection to the server was lost during the call, which may have run: %w", reason)
	e.MayHaveRun = true
	return e
}

func down(reason error) error {
	return shannon.Errorf(shannon.CodeServerDown, "", "the server is not connected: %w", reason)
}

// Call sends a request and waits for its reply. Of o, the ID is set by Call.
// See [Peer].
func (s *Stream) Call(ctx context.Context, r *Request, o Outgoing, sink Sink) (Reply, error) {
	c := &pendingCall{reply: make(chan Reply, 1), sink: sink, token: r.token()}
	id, err := s.enqueue(ctx, r, &o, c)
	if err != nil {
		return Reply{}, err
	}
	select {
	case reply, ok := <-c.reply:
		return c.outcome(reply, ok)
	case <-ctx.Done():
	}
	s.mu.Lock()
	_, waiting := s.pending[id]
	delete(s.pending, id)
	s.mu.Unlock()
	if !waiting { // somebody has taken the call to end it
		reply, ok := <-c.reply
		return c.outcome(reply, ok)
	}
	if r.Method != "initialize" { // which must not be cancelled
		s.cancel(ctx, id)
	}
	return Reply{}, context.Cause(ctx)
}

func (c *pendingCall) outcome(reply Reply, ok bool) (Reply, error) {
	if !ok {
		return Reply{}, c.fail
	}
	return reply, nil
}

// cancel tells the server that nobody waits any more. It does not wait for room:
// a call is cancelled once at most, and calls do wait.
func (s *Stream) cancel(ctx context.Context, id uint64) {
	params := strconv.AppendUint([]byte(`{"requestId":`), id, 10)
	params = append(AppendString(append(params, `,"reason":`...), context.Cause(ctx).Error()), '}')
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.unsent = append(AppendNotification(s.unsent, "notifications/cancelled", params), '\n')
		s.wakeWriter()
	}
}

// enqueue registers the call and puts the request behind what is to be written.
func (s *Stream) enqueue(ctx context.Context, r *Request, o *Outgoing, c *pendingCall) (uint64, error) {
	if err := s.lockWithRoom(ctx); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	s.lastID++
	id := s.lastID
	var digits [20]byte
	o.ID = strconv.AppendUint(digits[:0], id, 10)
	c.write = s.writes
	s.pending[id] = c
	from := len(s.unsent)
	s.unsent = r.AppendTo(s.unsent, o)
	Flatten(s.unsent[from:])
	s.unsent = append(s.unsent, '\n')
	s.wakeWriter()
	return id, nil
}

// Send sends a notification or a reply.
func (s *Stream) Send(ctx context.Context, message []byte) error {
	if err := s.lockWithRoom(ctx); err != nil {
		return err
	}
	defer s.mu.Unlock()
	s.queueLocked(message)
	return nil
}

func (s *Stream) queueLocked(message []byte) {
	from := len(s.unsent)
	s.unsent = append(s.unsent, message...)
	Flatten(s.unsent[from:])
	s.unsent = append(s.unsent, '\n')
	s.wakeWriter()
}

// lockWithRoom locks s.mu once less than maxUnsent waits to be written.
func (s *Stream) lockWithRoom(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.mu.Lock()
	for {
		if s.err != nil {
			defer s.mu.Unlock()
			return down(s.err)
		}
		if len(s.unsent) < maxUnsent {
			return nil
		}
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		select {
		case <-room:
		case <-s.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		s.mu.Lock()
	}
}

func (s *Stream) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// write writes what is unsent, all of it at once, until the stream ends.
func (s *Stream) write() {
	var spare []byte
	for {
		select {
		case <-s.wake:
		case <-s.done:
			return
		}
		s.mu.Lock()
		out := s.unsent
		if len(out) == 0 { // the write before has taken it
			s.mu.Unlock()
			continue
		}
		s.unsent, s.answers = spare[:0], 0
		s.writes++
		if s.room != nil {
			close(s.room)
			s.room = nil
		}
		s.mu.Unlock()
		if _, err := s.w.Write(out); err != nil {
			// The reader sees the end as well and knows more about it, unless the
			// server has closed its input only.
			s.finish(err)
			return
		}
		spare = out
		if cap(spare) > maxSpare {
			spare = nil
		}
	}
}

// finish ends the stream because reading or writing has ended, whichever is first.
func (s *Stream) finish(err error) {
	s.mu.Lock()
	known := s.ending || s.err != nil
	s.ending = true
	s.mu.Unlock()
	if known {
		return
	}
	if s.o.Ended != nil {
		err = s.o.Ended(err)
	}
	s.End(err)
}

// read hands out what the server sends until the stream ends.
func (s *Stream) read(r io.Reader) {
	lines := NewLineReader(r, s.o.MaxMessage)
	for {
		line, err := lines.Next()
		if big, ok := errors.AsType[*TooLargeError](err); ok {
			s.unusable(big.ID, big.Kind, nil, shannon.Errorf(shannon.CodeTooLarge, "Raise max_message_size, or ask the server for less",
				"the server sent %w", big))
			continue
		}
		if err != nil {
			s.finish(err)
			return
		}
		s.message(line)
	}
}

func (s *Stream) message(line []byte) {
	text := bytes.TrimPrefix(line, []byte("\xef\xbb\xbf")) // some runtimes begin their output with it
	if t := bytes.TrimLeft(text, " \t\r"); len(t) == 0 || t[0] != '{' {
		s.noise(line, errNotJSON)
		return
	}
	e, err := Scan(text)
	if err != nil {
		id, kind := findID(text)
		s.unusable(id, kind, line, shannon.Errorf(shannon.CodeProtocolError, "The server sends messages that are not JSON-RPC 2.0; report it to its author",
			"the server's message cannot be used: %w", err))
		return
	}
	switch e.Kind {
	case KindResult, KindError:
		s.deliver(e)
	case KindRequest:
		s.answer(e)
	case KindNotification:
		s.notification(e)
	}
}

var (
	errNotJSON = errors.New("not a JSON-RPC message")
	// ErrNobody is why a reply is noise that carries an id of no request.
	ErrNobody = errors.New("a message that nobody waits for")
)

func (s *Stream) noise(line []byte, why error) {
	if s.o.Noise != nil {
		s.o.Noise(line, why)
	}
}

// callID reads an id of ours as a server sends it back. Some make a string or a
// floating-point number of it, which the official SDKs let pass.
func callID(raw []byte) (uint64, bool) {
	if len(raw) > 2 && raw[0] == '"' {
		raw = raw[1 : len(raw)-1]
	}
	n, err := strconv.ParseUint(string(bytes.TrimSuffix(raw, []byte(".0"))), 10, 64)
	return n, err == nil
}

// take removes the call of that id from those under way.
func (s *Stream) take(id []byte) *pendingCall {
	n, ok := callID(id)
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.pending[n]
	delete(s.pending, n)
	return c
}

// unusable fails the call that a useless message answers; where there is none,
// the message was noise. A server's own request may have the id of one of our calls.
func (s *Stream) unusable(id []byte, kind Kind, line []byte, why *shannon.Error) {
	if kind == KindResult {
		if c := s.take(id); c != nil {
			why.MayHaveRun = true // it was, and its reply is lost
			c.fail = why
			close(c.reply)
			return
		}
	}
	s.noise(line, why)
}

func (s *Stream) deliver(e Envelope) {
	if c := s.take(e.Get(FieldID)); c != nil {
		c.reply <- Reply{e}
		return
	}
	s.noise(e.Raw, ErrNobody)
}

func (s *Stream) answer(e Envelope) {
	if s.o.Request == nil {
		s.noise(e.Raw, ErrNobody)
		return
	}
	switch result, err := s.o.Request(e); {
	case err != nil:
		s.queueAnswer(AppendError(nil, e.Get(FieldID), err))
	case result != nil:
		s.queueAnswer(AppendResult(nil, e.Get(FieldID), result))
	}
}

// queueAnswer puts an answer behind what is to be written. A server that floods
// us with requests and reads no answers gets no more of them.
func (s *Stream) queueAnswer(answer []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.answers < maxUnsent {
		s.answers += len(answer)
		s.queueLocked(answer)
	}
}

// notification gives progress to the call that it belongs to, with the client's
// own token, and everything else to the owner.
func (s *Stream) notification(e Envelope) {
	if e.Method != "notifications/progress" {
		if s.o.Notification != nil {
			s.o.Notification(e)
		}
		return
	}
	id, ok := callID(e.Get(FieldProgressToken))
	if !ok {
		return
	}
	s.mu.Lock()
	var sink Sink
	var token []byte
	if c := s.pending[id]; c != nil {
		sink, token = c.sink, c.token
	}
	s.mu.Unlock()
	if sink == nil || token == nil {
		return // late, or not asked for
	}
	sink.Deliver(Notification{Method: e.Method, Raw: Splice(nil, e.Raw, Edit{e.At(FieldProgressToken), token})})
}
