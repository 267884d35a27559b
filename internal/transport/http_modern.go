package transport

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// The headers of the protocol, in the form that http.Header keys have.
const (
	headerVersion   = "Mcp-Protocol-Version"
	headerMethod    = "Mcp-Method"
	headerName      = "Mcp-Name"
	headerSession   = "Mcp-Session-Id"
	headerLastEvent = "Last-Event-Id"
)

// modernHTTP is a server of 2026-07-28 at an HTTP address: every request stands
// for itself, and closing its stream cancels it.
type modernHTTP struct {
	*httpLink
	template http.Header // of every request, with room for method and name
	info     *wire.Info
	params   paramHeaders
}

func (d *Dialer) newModern(ctx context.Context, e *endpoint, h Hooks) *modernHTTP {
	p := &modernHTTP{
		httpLink: d.newLink(ctx, e, h),
		template: e.with(headerVersion, modernVersion, headerMethod, "", headerName, ""),
	}
	p.request = p.violation
	return p
}

// probe asks the server which versions it speaks (2026-07-28,
// basic/transports/streamable-http, backward compatibility). Silence counts as
// legacy only after a while, as a server may have to wake up.
func (p *modernHTTP) probe(ctx context.Context, timeout time.Duration) (finding, error) {
	limited, cancel := context.WithTimeoutCause(ctx, timeout/2, errSilent)
	defer cancel()
	reply, err := p.ask(limited, discoverRequest(), nil, nil)
	status, answered := errors.AsType[*statusError](err)
	switch {
	case err == nil:
		return judge(reply)
	case answered && recognised(status.reply):
		return judge(status.reply)
	case answered && status.foreign():
		return legacyFinding, nil
	case answered:
		reply, err = status.settle(p.endpoint)
		if err == nil {
			err = refused("server/discover", reply)
		}
		return finding{}, err
	case ctx.Err() != nil:
		return finding{}, context.Cause(ctx)
	case errors.Is(err, errSilent), shannon.CodeOf(err) == shannon.CodeProtocolError:
		return legacyFinding, nil // if it is not even that, initialize will say so
	}
	return finding{}, err
}

// open makes the peer ready for calls.
func (p *modernHTTP) open(f finding, handshake time.Duration) {
	p.info = modernInfo(f)
	p.info.Handshake = handshake
	if l := newListener(p.info.Capabilities, &p.hooks); l != nil {
		l.retry, l.call = p.retry, p.Call
		p.spawn(func() { l.run(p.life) })
	}
}

// ask sends one request, with headers that mirror its arguments; a status without
// success is a [*statusError].
func (p *modernHTTP) ask(ctx context.Context, r *wire.Request, mirrored http.Header, sink wire.Sink) (wire.Reply, error) {
	h, err := p.headers(r)
	if err != nil {
		return wire.Reply{}, err
	}
	maps.Copy(h, mirrored)
	c := p.newCall(r, sink)
	o := wire.Outgoing{ID: c.id, Version: modernVersion, Info: p.own, Capabilities: noCapabilities}
	body := r.AppendTo(make([]byte, 0, len(r.Raw)+metaRoom), &o)
	reply, err := p.exchange(ctx, http.MethodPost, h, body, c)
	return reply, err
}

// metaRoom is what the translation of _meta may add to a request, roughly.
const metaRoom = 256

// headers mirrors in headers what the body says.
func (p *modernHTTP) headers(r *wire.Request) (http.Header, error) {
	if headerValue(r.Method) != r.Method {
		return nil, shannon.Errorf(shannon.CodeInvalidRequest, "", "the method %q does not fit into an HTTP header", r.Method)
	}
	h := maps.Clone(p.template)
	values := []string{r.Method, ""}
	h[headerMethod] = values[:1:1]
	delete(h, headerName)
	if f := wire.RoutingField(r.Method); f != 0 && r.Has(f) &&
		(f == wire.FieldName || f == wire.FieldTaskID || r.Method == "resources/read") {
		values[1] = headerValue(cmp.Or(r.Rename, r.Name))
		h[headerName] = values[1:]
	}
	return h, nil
}

// Call implements [wire.Peer]. The end of ctx closes the stream, which cancels. A
// call of a tool that is refused for its headers, and so did not run, is sent again
// when the server's list of tools asks for others by now.
func (p *modernHTTP) Call(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	mirrored := p.params.of(r)
	reply, err := p.settled(p.ask(ctx, r, mirrored, sink))
	switch {
	case err != nil:
	case r.Method == "tools/list" && reply.Kind == wire.KindResult:
		p.params.learn(reply.Get(wire.FieldResult), p.hooks.remark)
	case r.Method == "tools/call" && reply.Kind == wire.KindError && errorCode(reply) == wire.CodeHeaderMismatch:
		if others, changed := p.relearn(ctx, r, mirrored); changed {
			return p.settled(p.ask(ctx, r, others, sink))
		}
	}
	return reply, err
}

// Notify implements [wire.Peer].
func (p *modernHTTP) Notify(ctx context.Context, method string, params []byte) error {
	h := p.with(headerVersion, modernVersion, headerMethod, headerValue(method))
	return p.notified(p.notify(ctx, h, method, params))
}

// Info implements [wire.Peer].
func (p *modernHTTP) Info() *wire.Info { return p.info }

// Close implements [wire.Peer].
func (p *modernHTTP) Close(context.Context) error {
	p.closing.Do(p.shut)
	return nil
}

// violation takes a request of the server's own, which must not be (2026-07-28,
// basic/transports/streamable-http, receiving messages).
func (p *modernHTTP) violation(e wire.Envelope) {
	p.hooks.remark("the server sent a request, which its protocol version forbids: " + e.Method)
}
