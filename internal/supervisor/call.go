package supervisor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// Bounds of one list of a server, so that an endless one ends.
const (
	maxPages    = 1000
	maxTools    = 100_000
	maxListSize = 64 << 20 // bytes of its definitions
)

// Call sends a request to the server within ctx, connecting first where that
// helps. A request that was certainly not sent is tried once more.
func (u *Unit) Call(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	u.busy.Add(1)
	defer u.busy.Add(-1)
	for first := true; ; first = false {
		peer, err := u.peer(ctx, r.Client.Era)
		if errors.Is(err, errNoAnswer) {
			err = errNotSent
		}
		if err != nil {
			return wire.Reply{}, err
		}
		reply, err := peer.Call(ctx, r, sink)
		if err == nil {
			u.alive()
			return reply, nil
		}
		if shannon.CodeOf(err) == shannon.CodeUnreachable {
			// A state that says connected is to be true for the next who asks. Where the
			// loop cannot be told in time, the health check finds out.
			_ = u.post(ctx, func(l *loop) { l.suspect(peer) })
		}
		if !first || shannon.CodeOf(err) != shannon.CodeServerDown {
			return wire.Reply{}, u.named(err)
		}
		if u.post(ctx, func(l *loop) { l.bury(peer) }) != nil {
			return wire.Reply{}, u.named(err)
		}
	}
}

// named puts the server's name into the hint of an error that comes from where it
// is not known; such a hint says NAME.
func (u *Unit) named(err error) error {
	e, ok := err.(*shannon.Error) //nolint:errorlint // what wraps it must not be lost
	if !ok || !strings.Contains(e.Hint, "NAME") {
		return err
	}
	c := *e
	c.Hint = strings.ReplaceAll(e.Hint, "NAME", u.state.Load().Server.Name)
	return &c
}

// errNoAnswer is the cause with which a call's context ends at its time limit,
// errNotSent what becomes of it while the call still waits for a peer.
var (
	errNoAnswer = errors.New("the time limit has passed")
	errNotSent  = errors.New("it was not connected in time")
)

// Relay is Call for a client's request: within the server's request timeout,
// which progress restarts.
func (u *Unit) Relay(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	limit := u.o.RequestTimeout
	if s := u.state.Load(); s.Server.RequestTimeout != nil {
		limit = s.Server.RequestTimeout.Std()
	}
	return u.within(ctx, "request_timeout", limit, r, sink)
}

// Request is Call within the server's Timeout.
func (u *Unit) Request(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	return u.within(ctx, "timeout", u.state.Load().Server.Timeout.Std(), r, sink)
}

// within is Call within a limit, which setting of the server sets.
func (u *Unit) within(ctx context.Context, setting string, limit time.Duration, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	if limit <= 0 {
		return u.Call(ctx, r, sink)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(limit, func() { cancel(errNoAnswer) })
	defer func() { timer.Stop(); cancel(nil) }()
	if sink != nil && r.Has(wire.FieldMetaToken) {
		sink = &restarting{Sink: sink, timer: timer, limit: limit}
	}
	reply, err := u.Call(ctx, r, sink)
	if err != nil && errors.Is(context.Cause(ctx), errNoAnswer) {
		name := u.state.Load().Server.Name
		e := shannon.Errorf(shannon.CodeTimeout, "Raise the limit: shannon set "+name+" "+setting+"=600",
			"server %q did not answer %s within %s: %w", name, r.Method, limit, err)
		e.MayHaveRun = !errors.Is(err, errNotSent)
		return wire.Reply{}, e
	}
	return reply, err
}

// restarting restarts a call's time limit when progress comes.
type restarting struct {
	wire.Sink
	timer *time.Timer
	limit time.Duration
}

func (r *restarting) Deliver(n wire.Notification) {
	// A timer that has fired or was stopped stays so: its call is over.
	if r.timer.Stop() {
		r.timer.Reset(r.limit)
	}
	r.Sink.Deliver(n)
}

// Notify sends a notification to the main peer.
func (u *Unit) Notify(ctx context.Context, era shannon.Era, method string, params []byte) error {
	peer, err := u.peer(ctx, era)
	if err != nil {
		return err
	}
	return peer.Notify(ctx, method, params)
}

// Info tells what the handshake with a peer of that era found, connecting first
// where needed.
func (u *Unit) Info(ctx context.Context, era shannon.Era) (*wire.Info, error) {
	peer, err := u.peer(ctx, era)
	if err != nil {
		return nil, err
	}
	return peer.Info(), nil
}

// peer returns the peer for a client of that era. It waits only when the server
// has to be connected first.
func (u *Unit) peer(ctx context.Context, era shannon.Era) (wire.Peer, error) {
	for waited := false; ; waited = true {
		if p := u.state.Load().choose(era); p != nil {
			return p, nil
		}
		var a *attempt
		var refused error
		if err := u.post(ctx, func(l *loop) { a, refused = l.need(era, waited) }); err != nil {
			return nil, err
		}
		if refused != nil {
			return nil, refused
		}
		if err := a.wait(ctx); err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
}

func (u *Unit) alive() { u.seen.Store(time.Now().UnixNano()) }

// hooks give the observer what a peer sends outside of calls. s is what the peer
// was started as; of what it is now, only its name matters to a peer that lives on.
func (u *Unit) hooks(s shannon.Server) Hooks {
	now := func() *shannon.Server {
		s := s
		s.Name = u.state.Load().Server.Name
		return &s
	}
	return Hooks{
		Log: func(source string, line []byte) { u.o.Observer.Log(now(), source, line) },
		Notification: func(e wire.Envelope) {
			u.alive()
			if e.Method == "notifications/tools/list_changed" {
				select {
				case u.relist <- struct{}{}:
				default: // one is waiting already
				}
			}
			u.o.Observer.Notification(now(), e)
		},
	}
}

// closePeer ends a peer, also when the unit's own life is over: its process must
// be gone before the unit is.
func (u *Unit) closePeer(ctx context.Context, p wire.Peer) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return p.Close(ctx)
}

// lost ends a peer that has ended by itself, or is taken for dead, and returns why.
func (u *Unit) lost(ctx context.Context, p wire.Peer) error {
	if err := u.closePeer(ctx, p); err != nil {
		return err
	}
	return shannon.Errorf(shannon.CodeConnectionLost, "", "the server ended the connection")
}

// discard ends a peer whose end is not news.
func (u *Unit) discard(ctx context.Context, p wire.Peer) {
	if err := u.closePeer(ctx, p); err != nil {
		u.o.Log.Debug("peer closed", "err", err)
	}
}

// list reads all pages of a server's tools.
func (u *Unit) list(ctx context.Context, s *shannon.Server, peer wire.Peer) (got list) {
	if wire.Member(peer.Info().Capabilities, "tools") == nil {
		return list{}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout.Std(), errNoAnswer)
	defer cancel()
	var params []byte
	size := 0
	for range maxPages {
		items, cursor, err := u.page(ctx, s, peer, params)
		if err != nil {
			return list{err: err}
		}
		for _, item := range items {
			size += len(item)
		}
		got.tools = append(got.tools, items...)
		switch {
		case len(got.tools) > maxTools || size > maxListSize:
			return list{err: endless(s)}
		case cursor == "":
			return got
		}
		params = append(wire.AppendString([]byte(`{"cursor":`), cursor), '}')
	}
	return list{err: endless(s)}
}

func endless(s *shannon.Server) error {
	return shannon.Errorf(shannon.CodeProtocolError, "", "server %q lists its tools without end", s.Name)
}

// page reads one page of a server's tools.
func (u *Unit) page(ctx context.Context, s *shannon.Server, peer wire.Peer, params []byte) (items [][]byte, cursor string, err error) {
	r, err := wire.Author(u.o.Client, "tools/list", params)
	if err != nil {
		return nil, "", err
	}
	reply, err := peer.Call(ctx, r, nil)
	if err != nil && errors.Is(context.Cause(ctx), errNoAnswer) {
		return nil, "", shannon.Errorf(shannon.CodeTimeout, "shannon set "+s.Name+" timeout=60",
			"server %q did not list its tools within %s: %w", s.Name, s.Timeout, err)
	}
	if err != nil {
		return nil, "", shannon.Errorf(shannon.CodeOf(err), "", "server %q did not list its tools: %w", s.Name, err)
	}
	if reply.Kind == wire.KindError {
		return nil, "", discreet(peer, shannon.Errorf(shannon.CodeCallFailed, "", "server %q answered tools/list with an error: %s",
			s.Name, reply.Get(wire.FieldError)))
	}
	items, cursor, ok := wire.ParseList(reply.Get(wire.FieldResult), "tools")
	if !ok {
		return nil, "", shannon.Errorf(shannon.CodeProtocolError, "", "server %q answered tools/list without a list", s.Name)
	}
	return items, cursor, nil
}

// discreet makes an error that quotes a server fit to be shown and kept. What is
// secret about a server its peer knows, if it does.
func discreet(peer wire.Peer, err error) error {
	if d, ok := peer.(interface{ Discreet(error) error }); ok {
		return d.Discreet(err)
	}
	return err
}
