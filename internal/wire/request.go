package wire

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
)

// Client is who a request comes from, as far as the middle must know. It is
// immutable; requests of one legacy session share one.
type Client struct {
	Era          shannon.Era
	Version      string // protocol version it speaks
	Info         []byte // its Implementation object as it sent it, nil when unknown
	Capabilities []byte // its ClientCapabilities object as it sent it, nil when unknown
	Principal    string // who was admitted
	// Affinity names what may share state: a legacy session, else what the
	// client chose, else the principal.
	Affinity string
}

// Request is one self-contained request on its way to a server: the message as
// it came, who sent it, and what it is to be called there.
type Request struct {
	Envelope
	Client *Client
	// Name is the value that routes (see [RoutingField]), decoded.
	Name string
	// Rename is the server's own name for Name, where that differs.
	Rename string
}

// NewRequest makes a Request of a scanned message. A routing member that is no
// string is an error of code invalid params.
func NewRequest(e Envelope, c *Client) (*Request, error) {
	r := &Request{Envelope: e, Client: c}
	f := RoutingField(e.Method)
	if f == 0 || !e.Has(f) || f == FieldRequestID || f == FieldProgressToken {
		return r, nil
	}
	name, ok := e.Text(f)
	if !ok || strings.IndexByte(name, 0) >= 0 { // NUL: some readers stop there
		return r, Errorf(CodeInvalidParams, "the parameter that names the subject of %s must be a string", e.Method)
	}
	r.Name = name
	return r, nil
}

// Author makes a request of Shannon's own; params is an object or nil.
func Author(c *Client, method string, params []byte) (*Request, error) {
	raw := AppendString([]byte(`{"jsonrpc":"2.0","id":0,"method":`), method)
	if len(params) > 0 {
		raw = append(append(raw, `,"params":`...), params...)
	}
	e, err := Scan(append(raw, '}'))
	if err != nil {
		return nil, err
	}
	return NewRequest(e, c)
}

// AppendNotification appends a notification; params is an object or nil.
func AppendNotification(dst []byte, method string, params []byte) []byte {
	dst = AppendString(append(dst, `{"jsonrpc":"2.0","method":`...), method)
	if len(params) > 0 {
		dst = append(append(dst, `,"params":`...), params...)
	}
	return append(dst, '}')
}

// Outgoing says how a request is written for one peer.
type Outgoing struct {
	ID []byte // the peer's own id for it
	// Version is the modern version that the peer speaks, "" for a legacy peer.
	Version string
	// Info and Capabilities stand in for those of a client that did not state
	// them per request.
	Info, Capabilities []byte
}

// AppendTo appends the request as it goes to a peer: with the peer's id, which is
// its progress token too where the client wants progress, the server's name for
// its subject, and the _meta of the peer's era.
func (r *Request) AppendTo(dst []byte, o *Outgoing) []byte {
	var buf [4]Edit
	edits := append(buf[:0], Edit{r.At(FieldID), o.ID})
	if f := RoutingField(r.Method); f != 0 && r.Has(f) && r.Rename != "" && r.Rename != r.Name {
		edits = append(edits, Edit{r.At(f), AppendString(nil, r.Rename)})
	}
	edits = r.metaEdits(edits, o)
	slices.SortFunc(edits, func(a, b Edit) int { return cmp.Compare(a.At.Start, b.At.Start) })
	return Splice(dst, r.Raw, edits...)
}

// metaEdits translates _meta between the eras. In the same era only the progress
// token changes.
func (r *Request) metaEdits(edits []Edit, o *Outgoing) []Edit {
	stated := r.Has(FieldMetaVersion) // the client speaks per-request metadata
	switch {
	case stated == (o.Version != ""):
		if r.token() != nil {
			edits = append(edits, Edit{r.At(FieldMetaToken), o.ID})
		}
		if v, _ := r.Text(FieldMetaVersion); stated && v != o.Version {
			edits = append(edits, Edit{r.At(FieldMetaVersion), AppendString(nil, o.Version)})
		}
		return edits
	case r.Has(FieldMeta):
		return append(edits, Edit{r.At(FieldMeta), r.newMeta(o)})
	case r.Has(FieldParams):
		p := r.At(FieldParams)
		with := append([]byte(`"_meta":`), r.newMeta(o)...)
		if len(bytes.TrimSpace(r.Raw[p.Start+1:p.End-1])) > 0 {
			with = append(with, ',')
		}
		return append(edits, Edit{Span{p.Start + 1, p.Start + 1}, with})
	default:
		m := r.At(FieldMethod)
		with := append([]byte(`,"params":{"_meta":`), r.newMeta(o)...)
		return append(edits, Edit{Span{m.End, m.End}, append(with, '}')})
	}
}

// token returns the client's progress token. One of another type than the
// protocol has is none, and goes through as it is.
func (r *Request) token() []byte {
	if t := r.Get(FieldMetaToken); stringOrNumber(t) {
		return t
	}
	return nil
}

// newMeta writes _meta for the other era: with the per-request fields, or
// without them. What the client put there besides stays byte for byte.
func (r *Request) newMeta(o *Outgoing) []byte {
	out := []byte{'{'}
	add := func(quotedKey, value string) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quotedKey...), ':'), value...)
	}
	if o.Version != "" {
		add(`"`+MetaVersion+`"`, string(AppendString(nil, o.Version)))
		if info := cmp.Or(string(r.clientInfo()), string(o.Info)); info != "" {
			add(`"`+MetaClientInfo+`"`, info)
		}
		add(`"`+MetaClientCaps+`"`, cmp.Or(string(o.Capabilities), "{}"))
	}
	for key, value := range members(r.Get(FieldMeta)) {
		// A reserved key that is written in another way was refused by Scan.
		switch string(key) {
		case `"` + MetaVersion + `"`, `"` + MetaClientInfo + `"`, `"` + MetaClientCaps + `"`, `"` + MetaLogLevel + `"`:
		case `"` + MetaToken + `"`:
			if r.token() != nil {
				value = o.ID
			}
			add(string(key), string(value))
		default:
			add(string(key), string(value))
		}
	}
	return append(out, '}')
}

func (r *Request) clientInfo() []byte {
	if r.Client == nil {
		return nil
	}
	return r.Client.Info
}

// Reply is what a server answered: a result, or an error object of its own.
type Reply struct {
	Envelope
}

// InputRequired tells whether the result asks the client for input first
// (2026-07-28, basic/patterns/mrtr).
func (r *Reply) InputRequired() bool {
	t, _ := r.Text(FieldResultType)
	return t == "input_required"
}

// AppendTo appends the reply with the client's id, byte for byte, and members
// that are put in front of those of the result, such as `"ttlMs":0`; the result
// must not have them.
func (r *Reply) AppendTo(dst, id, members []byte) []byte {
	if !r.Has(FieldID) { // an error whose sender could not read ours
		dst = append(append(append(dst, `{"jsonrpc":"2.0","id":`...), id...), `,"error":`...)
		return append(append(dst, r.Get(FieldError)...), '}')
	}
	var buf [2]Edit
	edits := append(buf[:0], Edit{r.At(FieldID), id})
	if len(members) > 0 && r.Kind == KindResult && r.Raw[r.At(FieldResult).Start] == '{' {
		p := r.At(FieldResult)
		if len(bytes.TrimSpace(r.Raw[p.Start+1:p.End-1])) > 0 {
			members = append(slices.Clip(members), ',')
		}
		edits = append(edits, Edit{Span{p.Start + 1, p.Start + 1}, members})
		slices.SortFunc(edits, func(a, b Edit) int { return cmp.Compare(a.At.Start, b.At.Start) })
	}
	return Splice(dst, r.Raw, edits...)
}

// ResultReply makes a Reply of Shannon's own out of a result object.
func ResultReply(result []byte) (Reply, error) {
	e, err := Scan(AppendResult(make([]byte, 0, len(result)+40), []byte("0"), result))
	return Reply{e}, err
}

// Notification is a notification of a server, ready to be framed for a client.
type Notification struct {
	Method string
	Raw    []byte // the whole message
}

// Sink takes, in order, what a server sends for one call before it replies.
// Deliver is called by the goroutine that reads from the server: it must not
// block. It may still be called shortly after the call was given up; what comes
// then is to be dropped.
type Sink interface {
	Deliver(n Notification)
}

// Info is what is known of a peer since its handshake. It is immutable.
type Info struct {
	Era          shannon.Era
	Eras         []shannon.Era // all that the server speaks, as far as the probe saw
	Version      string        // negotiated
	ServerInfo   []byte        // Implementation object, as sent
	Capabilities []byte        // ServerCapabilities object, as sent
	Instructions string
	PID          int
	Command      string // what the command resolved to
	Handshake    time.Duration
}

// Peer is a live link to a server. All methods may be called concurrently.
type Peer interface {
	// Call sends the request and waits for its reply. An error means that there
	// is none: ctx ended, and the server was told so; or a [*shannon.Error] says
	// what broke and whether the request may have run. An error object of the
	// server is a Reply. sink may be nil.
	Call(ctx context.Context, r *Request, sink Sink) (Reply, error)
	// Notify sends a notification.
	Notify(ctx context.Context, method string, params []byte) error
	// Info tells what the handshake found.
	Info() *Info
	// Done is closed once the link is gone.
	Done() <-chan struct{}
	// Close ends the link, waits until nothing of it is left, and returns why it
	// ended: nil if Close was the reason, else an error, an [*Exit] in its chain
	// where a process ended. ctx bounds the patience, not the killing.
	Close(ctx context.Context) error
}

// Exit is how a server's process ended.
type Exit struct {
	PID    int
	Code   int    // -1 when a signal ended it
	Signal string // "killed", "terminated", …
	Stderr string // its last lines
}

// Error implements error.
func (e *Exit) Error() string {
	if e.Signal != "" {
		return "the process was ended by signal " + e.Signal
	}
	return "the process exited with code " + strconv.Itoa(e.Code)
}
