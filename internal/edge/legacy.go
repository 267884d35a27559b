package edge

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// legacyVersions are those with a handshake, newest first.
var legacyVersions = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

// batchVersion is the only one that has batches.
const batchVersion = "2025-03-26"

// maxBatch is how many messages a batch may have: all of them run at once.
const maxBatch = 100

// postLegacy takes one message of the legacy era.
func (x *exchange) postLegacy(e wire.Envelope) {
	if e.Kind == wire.KindRequest && e.Method == "initialize" {
		x.initialize(e)
		return
	}
	ss := x.session(e.Get(wire.FieldID))
	if ss == nil {
		return
	}
	switch e.Kind {
	case wire.KindRequest:
		x.callLegacy(ss, e)
	case wire.KindNotification:
		x.notified(ss, e)
		x.accepted()
	default:
		x.accepted() // nobody waits for it
	}
}

// session finds the session that the request names. Where there is none it
// answers by itself: 400 without a session, 404 with one that is unknown, has
// ended, or is another's (2025-11-25, transports, session management).
func (x *exchange) session(id []byte) *session {
	key, ok := header(x.r.Header, headerSession)
	if !ok || key == "" {
		x.fail(http.StatusBadRequest, id, wire.Errorf(wire.CodeInvalidRequest,
			"the request needs one Mcp-Session-Id header: begin with initialize"))
		return nil
	}
	ss := x.s.findSession(key, x.endpoint, x.principal)
	if ss == nil {
		x.fail(http.StatusNotFound, id, wire.Errorf(wire.CodeInvalidRequest, "the session is unknown or has ended: begin again with initialize"))
		return nil
	}
	if v, ok := header(x.r.Header, headerVersion); !ok || (v != "" && v != ss.client.Version) {
		x.fail(http.StatusBadRequest, id, wire.Errorf(wire.CodeInvalidRequest,
			"MCP-Protocol-Version is %q, the session speaks %s", v, ss.client.Version))
		return nil
	}
	return ss
}

// handshake reads what a client says with initialize.
func handshake(e *wire.Envelope, principal string) (*wire.Client, error) {
	params := e.Get(wire.FieldParams)
	version, ok := wire.Unquote(wire.Member(params, "protocolVersion"))
	if !ok {
		return nil, wire.Errorf(wire.CodeInvalidParams, "initialize: protocolVersion must be a string")
	}
	if !slices.Contains(legacyVersions, version) {
		version = legacyVersions[0]
	}
	c := &wire.Client{Era: shannon.EraLegacy, Version: version, Principal: principal}
	for _, m := range []struct {
		key string
		to  *[]byte
	}{{"capabilities", &c.Capabilities}, {"clientInfo", &c.Info}} {
		v := wire.Member(params, m.key)
		if v != nil && v[0] != '{' {
			return nil, wire.Errorf(wire.CodeInvalidParams, "initialize: %s must be an object", m.key)
		}
		*m.to = bytes.Clone(v) // the message itself need not live as long
	}
	return c, nil
}

// initializeResult is the answer to initialize.
func initializeResult(version string, info *wire.Info) []byte {
	out := wire.AppendString([]byte(`{"protocolVersion":`), version)
	out = append(append(out, `,"capabilities":`...), orObject(info.Capabilities)...)
	out = append(append(out, `,"serverInfo":`...), orObject(info.ServerInfo)...)
	return append(appendInstructions(out, info), '}')
}

func appendInstructions(out []byte, info *wire.Info) []byte {
	if info.Instructions == "" {
		return out
	}
	return wire.AppendString(append(out, `,"instructions":`...), info.Instructions)
}

func orObject(raw []byte) []byte {
	if len(raw) == 0 {
		return []byte("{}")
	}
	return raw
}

// initialize begins a session (2025-11-25, lifecycle, initialization).
func (x *exchange) initialize(e wire.Envelope) {
	id := e.Get(wire.FieldID)
	if v, ok := header(x.r.Header, headerVersion); !ok || (v != "" && !slices.Contains(legacyVersions, v)) {
		x.fail(http.StatusBadRequest, id, wire.Errorf(wire.CodeInvalidRequest, "MCP-Protocol-Version %q is not supported", v))
		return
	}
	client, err := handshake(&e, x.principal)
	if err != nil {
		x.fail(http.StatusBadRequest, id, err)
		return
	}
	ss := newSession(x.endpoint, client)
	x.w.Header().Set(headerSession, ss.id)
	// A client that leaves before it knows its session has none.
	ctx := x.begin(x.r.Context())
	defer x.abandon()
	info, err := x.b.Describe(ctx, client)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		x.finish(http.StatusOK, wire.AppendError(nil, id, err))
		return
	}
	ss.unwatch = x.b.Watch(ss.notify)
	if err := x.s.addSession(ss); err != nil {
		ss.end(err)
		x.finish(http.StatusServiceUnavailable, wire.AppendError(nil, id, err))
		return
	}
	x.finish(http.StatusOK, wire.AppendResult(nil, id, initializeResult(client.Version, &info)))
}

// callLegacy answers a request. A broken connection does not cancel it: its
// context is the session's, not the connection's (2025-11-25, transports,
// sending messages, 6).
func (x *exchange) callLegacy(ss *session, e wire.Envelope) {
	id := e.Get(wire.FieldID)
	x.logs = true
	ctx := x.begin(context.WithoutCancel(x.r.Context()))
	defer x.abandon()
	if err := ss.begin(id, x.cancel); err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, errEnded) {
			status = http.StatusNotFound
		}
		x.finish(status, wire.AppendError(nil, id, err))
		return
	}
	x.finish(http.StatusOK, func() []byte {
		defer ss.finish(id) // before the client has its reply, and may use the id again
		return x.answerLegacy(ctx, ss, e)
	}())
}

// answerLegacy gives the response to a request.
func (x *exchange) answerLegacy(ctx context.Context, ss *session, e wire.Envelope) []byte {
	id := e.Get(wire.FieldID)
	switch e.Method {
	case "ping":
		return wire.AppendResult(nil, id, []byte("{}"))
	case "initialize", "server/discover", "subscriptions/listen":
		return wire.AppendError(nil, id, wire.Errorf(wire.CodeMethodNotFound, "method %q is not part of a session", e.Method))
	}
	r, err := wire.NewRequest(e, ss.client)
	if err != nil {
		return wire.AppendError(nil, id, err)
	}
	reply, err := x.b.Handle(ctx, r, x)
	if err == nil && reply.InputRequired() {
		err = wire.Errorf(wire.CodeInternal, "the server asks its client for input in a way that version %s does not have", ss.client.Version)
	}
	if err != nil {
		return wire.AppendError(nil, id, giveUp(ctx, err))
	}
	return reply.AppendTo(make([]byte, 0, len(reply.Raw)+len(id)), id, nil)
}

// giveUp returns who gave up the call, where that is why it has no reply.
func giveUp(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// notified takes a notification of a session's client.
func (x *exchange) notified(ss *session, e wire.Envelope) {
	switch e.Method {
	case "notifications/initialized":
	case "notifications/cancelled":
		if id := e.Get(wire.FieldRequestID); id != nil {
			ss.cancel(id)
		}
	default:
		x.pass(ss.client, e)
	}
}

// pass hands a notification on. The client is not told how that went: a
// notification has no answer.
func (x *exchange) pass(c *wire.Client, e wire.Envelope) {
	if err := x.b.Notify(x.r.Context(), c, e); err != nil {
		x.s.o.Log.DebugContext(x.r.Context(), "notification was not passed on", "method", e.Method, "error", err)
	}
}

// watch is the stream on which a session's client is told what belongs to no
// call (2025-11-25, transports, listening for messages).
func (x *exchange) watch(ss *session) {
	f, ok := ss.attach()
	if !ok {
		x.fail(http.StatusNotFound, nil, errEnded)
		return
	}
	var unsent []wire.Notification
	defer func() { ss.detach(f, unsent) }()
	out := x.stream()
	defer out.close()
	var err error
	if unsent, err = f.drain(x.r.Context(), out, x.s.o.Heartbeat); err != nil {
		x.s.o.Log.DebugContext(x.r.Context(), "stream of a session broke off", "error", err)
	}
}

// postBatch takes an array of messages (2025-03-26, batching).
func (x *exchange) postBatch(messages [][]byte, err error) {
	if err != nil {
		x.fail(http.StatusBadRequest, nil, err)
		return
	}
	if modernHeader(x.r.Header) {
		x.fail(http.StatusBadRequest, nil, wire.Errorf(wire.CodeInvalidRequest, "invalid request: batches are not supported"))
		return
	}
	ss := x.session(nil)
	if ss == nil {
		return
	}
	if ss.client.Version != batchVersion || len(messages) > maxBatch {
		x.fail(http.StatusBadRequest, nil, wire.Errorf(wire.CodeInvalidRequest,
			"invalid request: batches are supported in version %s only, with at most %d messages", batchVersion, maxBatch))
		return
	}
	batch, answers := scanBatch(messages)
	if !answers {
		for _, m := range batch {
			if m.Kind == wire.KindNotification {
				x.notified(ss, m.Envelope)
			}
		}
		x.accepted()
		return
	}
	x.logs = true
	x.accept.events = !x.accept.json // one array is the answer, with nothing before it
	ctx := x.begin(context.WithoutCancel(x.r.Context()))
	defer x.abandon()
	x.finish(http.StatusOK, x.answerBatch(ctx, ss, batch))
}

// scanned is a message of a batch: an envelope, or what is wrong with it.
type scanned struct {
	wire.Envelope
	err error
}

// scanBatch scans the messages, and tells whether any of them has an answer.
func scanBatch(messages [][]byte) (batch []scanned, answers bool) {
	for _, m := range messages {
		e, err := wire.Scan(m)
		batch = append(batch, scanned{e, err})
		answers = answers || err != nil || e.Kind == wire.KindRequest
	}
	return batch, answers
}

// answerBatch runs the requests of a batch at once, and gives the responses in
// their order.
func (x *exchange) answerBatch(ctx context.Context, ss *session, batch []scanned) []byte {
	replies := make([][]byte, len(batch))
	var wg sync.WaitGroup
	for i, m := range batch {
		id := m.Get(wire.FieldID)
		switch {
		case m.err != nil:
			replies[i] = wire.AppendError(nil, id, m.err)
		case m.Kind == wire.KindNotification:
			x.notified(ss, m.Envelope)
		case m.Kind == wire.KindRequest:
			ctx, cancel := context.WithCancelCause(ctx)
			if err := ss.begin(id, cancel); err != nil {
				cancel(err)
				replies[i] = wire.AppendError(nil, id, err)
				continue
			}
			wg.Go(func() {
				defer cancel(nil)
				defer ss.finish(id)
				replies[i] = x.answerLegacy(ctx, ss, m.Envelope)
			})
		}
	}
	wg.Wait()
	replies = slices.DeleteFunc(replies, func(r []byte) bool { return r == nil })
	return append(append([]byte{'['}, bytes.Join(replies, []byte{','})...), ']')
}
