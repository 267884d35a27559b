package transport

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

const (
	// maxResumes bounds the tries in a row, without any event, to resume a stream.
	maxResumes = 4
	// deleteLimit bounds the farewell to a session.
	deleteLimit = 2 * time.Second
)

// legacyHTTP is a server of 2025-03-26 to 2025-11-25 at an HTTP address: a session,
// if the server wants one, a stream of what the server says unasked, if it offers
// one, and streams that can be resumed. A lost session is opened anew, once for all
// who wait; then the calls that it kept from running are sent again.
type legacyHTTP struct {
	*httpLink
	dialer  *Dialer
	eras    []shannon.Era
	limit   time.Duration // of a handshake
	session atomic.Pointer[session]
	flight  *flight // the handshake under way; guarded by mu
}

// session is one handshake with the server. It is immutable.
type session struct {
	id   string
	info *wire.Info
	post http.Header // of every POST; never changed, so that calls share it
	end  context.CancelFunc
}

// flight is a handshake that several may wait for.
type flight struct {
	done chan struct{}
	err  error
}

func (d *Dialer) openLegacy(ctx context.Context, dl *dial, e *endpoint, eras []shannon.Era) (wire.Peer, error) {
	p := &legacyHTTP{httpLink: d.newLink(ctx, e, dl.hooks), dialer: d, eras: eras, limit: dl.Timeout}
	p.request = p.respond
	if err := p.initialize(ctx, dl.begun); err != nil {
		p.shut()
		return nil, err
	}
	return p, nil
}

// initialize shakes hands and makes the outcome the peer's session.
func (p *legacyHTTP) initialize(ctx context.Context, begun time.Time) error {
	r := p.dialer.initializeRequest()
	c := p.newCall(r, nil)
	reply, err := p.settled(p.exchange(ctx, http.MethodPost, p.header, r.AppendTo(nil, &wire.Outgoing{ID: c.id}), c))
	if err != nil {
		return err
	}
	s := &session{id: c.session, end: func() {}}
	if s.info, err = legacyInfo(reply, p.eras); err != nil {
		return err
	}
	if strings.ContainsFunc(s.id, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
		return p.violated("the server's session id is not visible ASCII")
	}
	s.post = p.with(headerVersion, s.info.Version)
	if s.id != "" {
		s.post[headerSession] = []string{s.id}
	}
	if err := p.notified(p.notify(ctx, s.post, "notifications/initialized", nil)); err != nil {
		p.forget(context.WithoutCancel(ctx), s) // nobody else will
		return err
	}
	s.info.Handshake = time.Since(begun)
	streaming, end := context.WithCancel(p.life)
	s.end = end
	if old := p.session.Swap(s); old != nil {
		old.end()
		announceAll(s.info.Capabilities, &p.hooks) // the new session knows nothing of the old one
	}
	if !p.spawn(func() { p.listen(streaming, s) }) {
		end()
	}
	return nil
}

// forget tells the server that the session is over, best it can.
func (p *legacyHTTP) forget(ctx context.Context, s *session) {
	if s.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, deleteLimit)
	defer cancel()
	if resp, err := p.send(ctx, http.MethodDelete, p.get(s, ""), nil); err == nil {
		_ = resp.Body.Close() // 405 and all the others make no difference
	}
}

// get returns the headers of a request without a body.
func (p *legacyHTTP) get(s *session, lastEvent string) http.Header {
	h := maps.Clone(s.post)
	h["Accept"] = []string{typeSSE}
	delete(h, "Content-Type")
	if lastEvent != "" {
		h[headerLastEvent] = []string{lastEvent}
	}
	return h
}

// listen keeps the stream open on which the server says what belongs to no call
// (2025-11-25, basic/transports, listening for messages), as long as the session lasts.
func (p *legacyHTTP) listen(ctx context.Context, s *session) {
	opened, missed := false, false
	c := &call{}
	c.opened = func() {
		if missed && c.lastEvent == "" {
			announceAll(s.info.Capabilities, &p.hooks)
		}
		opened, missed = true, false
	}
	wait := backoff{first: p.retry}
	for {
		begun := time.Now()
		_, err := p.exchange(ctx, http.MethodGet, p.get(s, c.lastEvent), nil, c)
		if ctx.Err() != nil || !p.again(ctx, s, err, opened) {
			return
		}
		missed = missed || opened
		if !wait.wait(ctx, time.Since(begun), c.retry) {
			return
		}
	}
}

// again tells whether a stream of notifications that ended so is to be opened again.
func (p *legacyHTTP) again(ctx context.Context, s *session, err error, opened bool) bool {
	status, answered := errors.AsType[*statusError](err)
	switch {
	case answered && status.status == http.StatusNotFound && opened && s.id != "":
		// The session is gone. The new one has a stream of its own.
		return p.renew(ctx, s) != nil
	case answered:
		// 405: the server has nothing to say unasked.
		return status.status >= 500 || status.status == http.StatusTooManyRequests
	case shannon.CodeOf(err) == shannon.CodeProtocolError:
		p.hooks.remark("no stream of notifications: " + err.Error())
		return false
	}
	return true
}

// Call implements [wire.Peer]. At the end of ctx the server is told by a
// notification, as a broken connection does not cancel.
func (p *legacyHTTP) Call(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	if ctx.Err() != nil {
		return wire.Reply{}, context.Cause(ctx)
	}
	s := p.session.Load()
	reply, err := p.ask(ctx, s, r, sink)
	if status, ok := err.(*statusError); ok && p.gone(ctx, s, status) { //nolint:errorlint // ask returns it bare
		if err := p.renew(ctx, s); err != nil {
			return wire.Reply{}, err
		}
		reply, err = p.ask(ctx, p.session.Load(), r, sink)
	}
	return p.settled(reply, err)
}

// ask sends one request; a status without success is a [*statusError].
func (p *legacyHTTP) ask(ctx context.Context, s *session, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	c := p.newCall(r, sink)
	if c.sink != nil && c.token != nil {
		p.mu.Lock()
		p.waiting[string(c.id)] = c
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			delete(p.waiting, string(c.id))
			p.mu.Unlock()
		}()
	}
	o := wire.Outgoing{ID: c.id, Info: p.own, Capabilities: noCapabilities}
	reply, err := p.exchange(ctx, http.MethodPost, s.post, r.AppendTo(make([]byte, 0, len(r.Raw)+metaRoom), &o), c)
	if err != nil && c.lastEvent != "" && resumable(err) {
		reply, err = p.resume(ctx, s, c, err)
	}
	if err != nil && ctx.Err() != nil {
		params := append(append([]byte(`{"requestId":`), c.id...), `,"reason":`...)
		params = append(wire.AppendString(params, context.Cause(ctx).Error()), '}')
		p.aside(s.post, wire.AppendNotification(nil, "notifications/cancelled", params))
		return wire.Reply{}, context.Cause(ctx)
	}
	return reply, err
}

// resumable tells whether an answer broke off rather than being wrong.
func resumable(err error) bool {
	code := shannon.CodeOf(err)
	return code == shannon.CodeConnectionLost || code == shannon.CodeUnreachable
}

// resume goes on with a stream that broke off (2025-11-25, basic/transports,
// resumability). A server may also close streams on purpose, to be polled.
func (p *legacyHTTP) resume(ctx context.Context, s *session, c *call, broken error) (wire.Reply, error) {
	for tries := 0; tries < maxResumes; tries++ {
		last := c.lastEvent
		if !pause(ctx, max(c.retry, min(p.retry<<tries, maxBackoff))) {
			return wire.Reply{}, context.Cause(ctx)
		}
		reply, err := p.exchange(ctx, http.MethodGet, p.get(s, last), nil, c)
		status, answered := errors.AsType[*statusError](err)
		switch {
		case answered && status.status < 500:
			return wire.Reply{}, broken // the server cannot, or does not know the session any more
		case !answered && (err == nil || !resumable(err)):
			return reply, err
		}
		if c.lastEvent != last {
			tries = -1
		}
	}
	return wire.Reply{}, broken
}

// gone tells whether the status says that the session is lost.
func (p *legacyHTTP) gone(ctx context.Context, s *session, status *statusError) bool {
	named := status.reply.Has(wire.FieldID) // the server has read the request and means it
	switch {
	case s.id == "":
		return false
	case status.status == http.StatusNotFound:
		return !named || errorCode(status.reply) != wire.CodeMethodNotFound
	case status.status != http.StatusBadRequest || named:
		return false
	}
	ping := author("ping", nil)
	c := p.newCall(ping, nil)
	_, err := p.exchange(ctx, http.MethodPost, s.post, ping.AppendTo(nil, &wire.Outgoing{ID: c.id}), c)
	again, ok := errors.AsType[*statusError](err)
	return ok && (again.status == http.StatusBadRequest || again.status == http.StatusNotFound)
}

// renew opens a new session in place of a lost one. All who find it lost wait for
// the same handshake, which does not end with any of them.
func (p *legacyHTTP) renew(ctx context.Context, lost *session) error {
	p.mu.Lock()
	if p.session.Load() != lost {
		p.mu.Unlock()
		return nil
	}
	f := p.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		p.flight = f
		if p.closed {
			f.err = context.Cause(p.life)
			close(f.done)
		} else {
			p.wg.Go(func() { p.fly(f) })
		}
	}
	p.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *legacyHTTP) fly(f *flight) {
	ctx, cancel := context.WithTimeoutCause(p.life, p.limit, errHandshake)
	defer cancel()
	p.hooks.remark("the server has lost the session; opening a new one")
	if err := p.initialize(ctx, time.Now()); err != nil {
		code := shannon.CodeOf(err)
		if errors.Is(err, errHandshake) {
			code = shannon.CodeHandshakeTimeout
		}
		// Not MayHaveRun: the calls that wait were refused before.
		f.err = shannon.Errorf(code, "Restart the server: shannon restart NAME", "the server lost the session, and a new one failed: %w", err)
	}
	p.mu.Lock()
	p.flight = nil
	p.mu.Unlock()
	close(f.done)
}

// respond answers a request of the server's own, by a POST of its own.
func (p *legacyHTTP) respond(e wire.Envelope) {
	h := p.header
	if s := p.session.Load(); s != nil {
		h = s.post
	}
	result, err := answer(e)
	if err != nil {
		p.aside(h, wire.AppendError(nil, e.Get(wire.FieldID), err))
		return
	}
	p.aside(h, wire.AppendResult(nil, e.Get(wire.FieldID), result))
}

// Notify implements [wire.Peer].
func (p *legacyHTTP) Notify(ctx context.Context, method string, params []byte) error {
	s := p.session.Load()
	err := p.notify(ctx, s.post, method, params)
	if status, ok := errors.AsType[*statusError](err); ok && p.gone(ctx, s, status) {
		if err := p.renew(ctx, s); err != nil {
			return err
		}
		err = p.notify(ctx, p.session.Load().post, method, params)
	}
	return p.notified(err)
}

// Info implements [wire.Peer]. A new session may change it.
func (p *legacyHTTP) Info() *wire.Info { return p.session.Load().info }

// Close implements [wire.Peer].
func (p *legacyHTTP) Close(ctx context.Context) error {
	p.closing.Do(func() {
		p.shut()
		p.forget(ctx, p.session.Load())
	})
	return nil
}
