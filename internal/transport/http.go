package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

const (
	// drainLimit is how long a stream that gave its reply may take to end, so that
	// its connection serves again; maxDrains bounds how many do.
	drainLimit = 100 * time.Millisecond
	maxDrains  = 64
	// asideLimit bounds requests that nobody waits for: cancellations, replies.
	asideLimit = 2 * time.Second
	maxAside   = 64
)

var errStreamEnd = errors.New("the stream ended without a reply")

// httpLink is what HTTP peers of both eras have in common: an endpoint, ids, and
// the reading of answers. What differs lies in the two peers that embed it.
type httpLink struct {
	*endpoint
	hooks Hooks
	own   []byte // our Implementation object
	retry time.Duration
	// request takes a request of the server's own.
	request func(e wire.Envelope)

	lastID atomic.Uint64
	drains atomic.Int64
	asides atomic.Int64

	life context.Context //nolint:containedctx // the link's own lifetime, ended by Close
	end  context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	wg      sync.WaitGroup
	waiting map[string]*call // by id: those that want progress which may come by another stream
	closing sync.Once
}

// newLink returns a link that outlives ctx.
func (d *Dialer) newLink(ctx context.Context, e *endpoint, h Hooks) *httpLink {
	l := &httpLink{endpoint: e, hooks: h, own: d.info, retry: d.retry, waiting: map[string]*call{}}
	l.life, l.end = context.WithCancelCause(context.WithoutCancel(ctx)) // a peer's life is not that of its dialling
	return l
}

// Done implements [wire.Peer]. An HTTP server is no connection that could be lost:
// each request finds out anew.
func (l *httpLink) Done() <-chan struct{} { return l.life.Done() }

// spawn runs f in a goroutine that Close waits for; false when the link is closed.
func (l *httpLink) spawn(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.wg.Go(f)
	}
	return !l.closed
}

// aside sends something that nobody waits for, if not too much is under way.
func (l *httpLink) aside(h http.Header, body []byte) {
	if l.asides.Add(1) > maxAside {
		l.asides.Add(-1)
		return
	}
	ok := l.spawn(func() {
		defer l.asides.Add(-1)
		// The call that it belongs to may be over, and the link about to close.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), asideLimit)
		defer cancel()
		if resp, err := l.send(ctx, http.MethodPost, h, body); err == nil {
			_ = resp.Body.Close()
		}
	})
	if !ok {
		l.asides.Add(-1)
	}
}

// shut ends everything under way and waits until it is gone.
func (l *httpLink) shut() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end(shannon.Errorf(shannon.CodeServerDown, "", "the server is not connected: %w", errClosed))
	l.wg.Wait()
}

// call is one request under way, or a stream that belongs to none (without id).
type call struct {
	id    []byte
	sink  wire.Sink
	token []byte // the client's own progress token

	session   string // what the server calls the session, in its last answer
	lastEvent string // where a stream that breaks off can be resumed
	retry     time.Duration
	opened    func() // told when a stream begins; may be nil
}

func (l *httpLink) newCall(r *wire.Request, sink wire.Sink) *call {
	return &call{id: strconv.AppendUint(nil, l.lastID.Add(1), 10), sink: sink, token: r.Get(wire.FieldMetaToken)}
}

// exchange sends one request and reads its answer. An answer without success is a
// [*statusError]; of other errors those that are not ctx's own are [*shannon.Error].
//
// The request lives in a context of its own, because HTTP would tear a connection
// down that the caller's context ends a moment after its reply came.
func (l *httpLink) exchange(ctx context.Context, method string, h http.Header, body []byte, c *call) (wire.Reply, error) {
	x, cancel := context.WithCancelCause(l.life)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stop()
	resp, err := l.send(x, method, h, body)
	if err != nil {
		cancel(nil)
		return wire.Reply{}, err
	}
	reply, err := l.answer(x, resp, c)
	if err == nil && mediaType(resp.Header) == typeSSE && l.drain(resp.Body, cancel) {
		return reply, nil
	}
	_ = resp.Body.Close() // what is left of it is of no use
	cancel(nil)
	return reply, err
}

// drain waits for the end of a stream that gave its reply. Servers end it at once,
// but in a packet of its own.
func (l *httpLink) drain(body io.ReadCloser, cancel context.CancelCauseFunc) bool {
	if l.drains.Add(1) > maxDrains {
		l.drains.Add(-1)
		return false
	}
	ok := l.spawn(func() {
		defer l.drains.Add(-1)
		timer := time.AfterFunc(drainLimit, func() { cancel(nil) })
		_, _ = io.CopyN(io.Discard, body, 4<<10) // its end is all we want
		timer.Stop()
		_ = body.Close()
		cancel(nil)
	})
	if !ok {
		l.drains.Add(-1)
	}
	return ok
}

// answer reads the reply out of an HTTP response.
func (l *httpLink) answer(ctx context.Context, resp *http.Response, c *call) (wire.Reply, error) {
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return wire.Reply{}, readStatus(resp, c.id)
	}
	c.session = resp.Header.Get(headerSession)
	switch t := mediaType(resp.Header); {
	case resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusNoContent:
		return wire.Reply{}, l.violated("the server accepted the request (status %d) but sent no answer", resp.StatusCode)
	case t == typeJSON:
		return l.body(ctx, resp, c)
	case t == typeSSE:
		if c.opened != nil {
			c.opened()
		}
		return l.stream(ctx, resp.Body, c)
	default:
		return wire.Reply{}, l.violated("the server answered with %q instead of JSON", t)
	}
}

func (l *httpLink) violated(format string, args ...any) error {
	return shannon.Errorf(shannon.CodeProtocolError, "Check that "+l.name+" is an MCP endpoint; if it is, report this to the server's author", format, args...)
}

func (l *httpLink) tooLarge(err error) error {
	return shannon.Errorf(shannon.CodeTooLarge, "Raise max_message_size, or ask the server for less",
		"the server's reply is larger than %d bytes: %w", l.limit, err)
}

// body reads a reply that is one JSON text.
func (l *httpLink) body(ctx context.Context, resp *http.Response, c *call) (wire.Reply, error) {
	raw, err := l.readAll(resp)
	if err != nil {
		return wire.Reply{}, l.cut(ctx, err)
	}
	reply, err := l.messages(raw, c)
	switch {
	case err != nil:
		return wire.Reply{}, err
	case reply.Kind == wire.KindInvalid:
		return wire.Reply{}, l.violated("the server's answer holds no reply to the request")
	}
	return reply, nil
}

// cut names the failure to read an answer to its end.
func (l *httpLink) cut(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, wire.ErrTooLarge):
		return l.tooLarge(err)
	}
	return l.lost(err)
}

// readAll reads a body in one go where its length is known.
func (l *httpLink) readAll(resp *http.Response) ([]byte, error) {
	limit := int64(l.limit)
	switch n := resp.ContentLength; {
	case n > limit:
		return nil, &wire.TooLargeError{Limit: l.limit}
	case n >= 0:
		raw := make([]byte, n)
		_, err := io.ReadFull(resp.Body, raw)
		return raw, err
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = &wire.TooLargeError{Limit: l.limit}
	}
	return raw, err
}

// stream reads events until the reply comes.
func (l *httpLink) stream(ctx context.Context, body io.Reader, c *call) (wire.Reply, error) {
	events, _ := l.readers.Get().(*wire.SSEReader)
	events.Reset(body)
	defer func() {
		events.Reset(nil)
		l.readers.Put(events)
	}()
	for {
		event, err := events.Next()
		if big, ok := errors.AsType[*wire.TooLargeError](err); ok {
			if len(c.id) > 0 && bytes.Equal(big.ID, c.id) {
				return wire.Reply{}, l.tooLarge(big)
			}
			l.hooks.remark("skipped " + big.Error())
			continue
		}
		if errors.Is(err, io.EOF) {
			err = errStreamEnd
		}
		if err != nil {
			return wire.Reply{}, l.cut(ctx, err)
		}
		if event.HasID {
			c.lastEvent = event.ID
		}
		if event.Retry > 0 {
			c.retry = event.Retry
		}
		if len(event.Data) == 0 || (event.Type != "" && event.Type != "message") {
			continue
		}
		if reply, err := l.messages(event.Data, c); err != nil || reply.Kind != wire.KindInvalid {
			return reply, err
		}
	}
}

// messages takes a message or, as 2025-03-26 has it, a batch. It returns the reply
// to the call, if that is among them.
func (l *httpLink) messages(raw []byte, c *call) (wire.Reply, error) {
	batch, ok, err := wire.Batch(raw)
	if !ok {
		return l.message(raw, c)
	}
	if err != nil {
		return wire.Reply{}, l.violated("the server's answer cannot be used: %w", err)
	}
	var found wire.Reply
	for _, m := range batch {
		reply, err := l.message(m, c)
		if err != nil {
			return reply, err
		}
		if reply.Kind != wire.KindInvalid {
			found = reply
		}
	}
	return found, nil
}

func (l *httpLink) message(raw []byte, c *call) (wire.Reply, error) {
	e, err := wire.Scan(raw)
	if err != nil {
		if len(c.id) > 0 && bytes.Equal(wire.FindID(raw), c.id) {
			return wire.Reply{}, l.violated("the server's answer cannot be used: %w", err)
		}
		l.hooks.remark("skipped a message that is none: " + err.Error())
		return wire.Reply{}, nil
	}
	switch e.Kind {
	case wire.KindResult, wire.KindError:
		if len(c.id) == 0 {
			l.hooks.remark("skipped a reply that nobody waits for")
			return wire.Reply{}, nil
		}
		if e.Kind == wire.KindError && !e.Has(wire.FieldID) || bytes.Equal(e.Get(wire.FieldID), c.id) {
			return wire.Reply{Envelope: e}, nil
		}
		return wire.Reply{}, l.violated("the server answered request %s with the id %s", c.id, e.Get(wire.FieldID))
	case wire.KindNotification:
		l.notification(e, c)
	case wire.KindRequest:
		l.request(e)
	}
	return wire.Reply{}, nil
}

// notification gives progress to the call that it belongs to, with the client's
// own token; of the rest, what comes by a call's stream is about that call, but
// for changes.
func (l *httpLink) notification(e wire.Envelope, c *call) {
	if e.Method == "notifications/progress" {
		l.progress(e, c)
		return
	}
	if c.sink == nil || isChange(e.Method) {
		l.hooks.notify(e)
		return
	}
	c.sink.Deliver(wire.Notification{Method: e.Method, Raw: e.Raw})
}

func (l *httpLink) progress(e wire.Envelope, c *call) {
	token := e.Get(wire.FieldProgressToken)
	if len(c.id) == 0 {
		l.mu.Lock()
		if w := l.waiting[string(token)]; w != nil {
			c = w
		}
		l.mu.Unlock()
	}
	if c.sink == nil || c.token == nil || !bytes.Equal(token, c.id) {
		return // late, or not asked for
	}
	c.sink.Deliver(wire.Notification{Method: e.Method, Raw: wire.Splice(nil, e.Raw, wire.Edit{At: e.At(wire.FieldProgressToken), With: c.token})})
}

// notify sends a notification and waits until it is accepted.
func (l *httpLink) notify(ctx context.Context, h http.Header, method string, params []byte) error {
	x, cancel := context.WithCancelCause(l.life)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
	resp, err := l.send(x, http.MethodPost, h, wire.AppendNotification(nil, method, params))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return readStatus(resp, nil)
	}
	return nil
}

// settled turns the status that a request got into what the caller gets.
func (l *httpLink) settled(reply wire.Reply, err error) (wire.Reply, error) {
	if status, ok := err.(*statusError); ok { //nolint:errorlint // exchange returns it bare
		return status.settle(l.endpoint)
	}
	return reply, err
}

// notified turns the status that a notification got into an error.
func (l *httpLink) notified(err error) error {
	if status, ok := errors.AsType[*statusError](err); ok {
		if _, err := status.settle(l.endpoint); err != nil {
			return err
		}
		return refused("a notification", status.reply)
	}
	return err
}

// dialHTTP asks which eras the server speaks, unless that is known, and opens a
// peer of the one that is wanted.
func (d *Dialer) dialHTTP(ctx context.Context, dl *dial) (wire.Peer, error) {
	e, err := d.newEndpoint(&dl.Target)
	if err != nil {
		return nil, err
	}
	if dl.want.skip() == shannon.EraLegacy {
		p, err := d.openLegacy(ctx, dl, e, dl.want.Known)
		if err == nil || !provesWrong(err) {
			return p, e.unwell(err)
		}
	}
	p := d.newModern(ctx, e, dl.hooks)
	f, err := p.probe(ctx, dl.Timeout)
	if err == nil && choose(dl.want.Era, f.eras) == shannon.EraModern {
		p.open(f, time.Since(dl.begun))
		return p, nil
	}
	p.shut()
	if err != nil {
		return nil, e.unwell(err)
	}
	legacy, err := d.openLegacy(ctx, dl, e, f.eras)
	return legacy, e.unwell(err)
}
