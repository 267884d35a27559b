package edge

import (
	"net/http"
	"slices"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// changes are what a client can listen for: the key of its filter, the
// capability that promises it, the notification.
var changes = []struct{ key, capability, method string }{
	{"toolsListChanged", "tools", "notifications/tools/list_changed"},
	{"promptsListChanged", "prompts", "notifications/prompts/list_changed"},
	{"resourcesListChanged", "resources", "notifications/resources/list_changed"},
}

// listen is one subscriptions/listen under way (2026-07-28, subscriptions).
type listen struct {
	endpoint string
	id       []byte // of the request, as it stands in it
	methods  []string
	accepted []byte // the part of the filter that is honoured
	feed     feed
}

// newListen reads the filter of a request. What the endpoint does not promise is
// not honoured.
func newListen(r *wire.Request, capabilities []byte) (*listen, error) {
	filter := wire.Member(r.Get(wire.FieldParams), "notifications")
	if len(filter) == 0 || filter[0] != '{' {
		return nil, wire.Errorf(wire.CodeInvalidParams, "invalid params: notifications must be an object")
	}
	l := &listen{id: r.Get(wire.FieldID), accepted: []byte{'{'}}
	for _, c := range changes {
		if string(wire.Member(filter, c.key)) != "true" ||
			string(wire.Member(wire.Member(capabilities, c.capability), "listChanged")) != "true" {
			continue
		}
		if len(l.methods) > 0 {
			l.accepted = append(l.accepted, ',')
		}
		l.accepted = append(wire.AppendString(l.accepted, c.key), ":true"...)
		l.methods = append(l.methods, c.method)
	}
	l.accepted = append(l.accepted, '}')
	return l, nil
}

// notify passes on what the client asked for.
func (l *listen) notify(n wire.Notification) {
	if slices.Contains(l.methods, n.Method) {
		l.feed.put(wire.Notification{Method: n.Method, Raw: tagged(n.Raw, l.id)})
	}
}

// end ends the stream with the result that says that it was meant.
func (l *listen) end() {
	result := append(l.meta([]byte(`{"resultType":"complete",`)), '}')
	l.feed.end(wire.AppendResult(nil, l.id, result))
}

// meta appends the _meta that every message of the stream carries.
func (l *listen) meta(dst []byte) []byte {
	return append(append(wire.AppendString(append(dst, `"_meta":{`...), wire.MetaSubscription), ':'), append(l.id, '}')...)
}

// acknowledgement is the first message of the stream.
func (l *listen) acknowledgement() []byte {
	params := append(l.meta([]byte{'{'}), `,"notifications":`...)
	params = append(append(params, l.accepted...), '}')
	return wire.AppendNotification(nil, "notifications/subscriptions/acknowledged", params)
}

// tagged returns a notification with the subscription's id in its _meta.
func tagged(raw, id []byte) []byte {
	e, err := wire.Scan(raw)
	if err != nil {
		return raw // whoever made it has scanned it
	}
	if e.Has(wire.FieldMetaSubscription) {
		return wire.Splice(nil, raw, wire.Edit{At: e.At(wire.FieldMetaSubscription), With: id})
	}
	member := append(append(wire.AppendString(nil, wire.MetaSubscription), ':'), id...)
	meta := e.Get(wire.FieldMeta)
	if len(meta) > 0 && meta[0] == '{' {
		return wire.Splice(nil, raw, inside(e, wire.FieldMeta, member))
	}
	member = append(append([]byte(`{`), member...), '}')
	if meta != nil { // null, or nonsense
		return wire.Splice(nil, raw, wire.Edit{At: e.At(wire.FieldMeta), With: member})
	}
	member = append([]byte(`"_meta":`), member...)
	if e.Has(wire.FieldParams) {
		return wire.Splice(nil, raw, inside(e, wire.FieldParams, member))
	}
	end := e.At(wire.FieldMethod).End
	return wire.Splice(nil, raw, wire.Edit{
		At:   wire.Span{Start: end, End: end},
		With: append(append([]byte(`,"params":{`), member...), '}'),
	})
}

// inside is the edit that puts a member in front of those of an object.
func inside(e wire.Envelope, f wire.Field, member []byte) wire.Edit {
	for range wire.Members(e.Get(f)) {
		member = append(member, ',')
		break
	}
	at := e.At(f).Start + 1
	return wire.Edit{At: wire.Span{Start: at, End: at}, With: member}
}

// listen answers subscriptions/listen: with a stream that lasts until the client
// goes away or the endpoint ends.
func (x *exchange) listen(r *wire.Request) {
	id := r.Get(wire.FieldID)
	if !x.accept.events && !x.accept.anything {
		x.fail(http.StatusNotAcceptable, id, wire.Errorf(wire.CodeInvalidRequest, "Accept must list text/event-stream"))
		return
	}
	info, err := x.b.Describe(x.r.Context(), r.Client)
	if err != nil {
		status, response := x.modernError(id, giveUp(x.r.Context(), err))
		x.json(status, response)
		return
	}
	l, err := newListen(r, info.Capabilities)
	if err != nil {
		x.fail(http.StatusBadRequest, id, err)
		return
	}
	l.endpoint = x.endpoint
	// What changes from here on is told, though only after the acknowledgement.
	defer x.b.Watch(l.notify)()
	if !x.s.addListen(l) {
		l.end()
	}
	defer x.s.removeListen(l)
	out := x.stream()
	defer out.close()
	err = out.send([]wire.Notification{{Raw: l.acknowledgement()}}, nil)
	if err == nil {
		_, err = l.feed.drain(x.r.Context(), out, x.s.o.Heartbeat)
	}
	if err != nil {
		x.s.o.Log.DebugContext(x.r.Context(), "listen stream broke off", "error", err)
	}
}

// addListen notes a stream, so that it can be ended; false when it is too late.
func (s *Server) addListen(l *listen) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listens[l] = struct{}{}
	return true
}

func (s *Server) removeListen(l *listen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listens, l)
}
