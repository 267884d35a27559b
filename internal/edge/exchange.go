package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// exchange is one HTTP request and its answer. For a call it is the sink too:
// the answer is JSON, unless something has to be said before the reply is there.
type exchange struct {
	s         *Server
	w         http.ResponseWriter
	r         *http.Request
	endpoint  string
	b         Backend
	principal string
	accept    accept

	cancel context.CancelCauseFunc // cancels the call; guarded by s.mu

	modern   bool
	logs     bool // log messages may go to the client
	feed     feed
	timer    *time.Timer    // starts streaming; nil where the client takes no stream
	streamed sync.WaitGroup // the goroutine that streams, if there is one
	finished bool
}

// post takes one message, or a batch. (2026-07-28 and 2025-11-25, transports,
// sending messages)
func (x *exchange) post() {
	if !isJSON(x.r.Header) {
		x.fail(http.StatusUnsupportedMediaType, nil,
			wire.Errorf(wire.CodeInvalidRequest, "Content-Type must be application/json, without encoding"))
		return
	}
	x.accept = parseAccept(x.r.Header)
	if !x.accept.json && !x.accept.events {
		x.fail(http.StatusNotAcceptable, nil,
			wire.Errorf(wire.CodeInvalidRequest, "Accept must list application/json and text/event-stream"))
		return
	}
	body, err := x.body()
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, wire.ErrTooLarge) {
			status = http.StatusRequestEntityTooLarge
			err = wire.Errorf(wire.CodeInvalidRequest, "a message may have at most %d bytes", x.s.o.MaxMessage)
		} else {
			err = wire.Errorf(wire.CodeParse, "the message did not arrive whole")
		}
		x.fail(status, nil, err)
		return
	}
	if messages, ok, err := wire.Batch(body); ok {
		x.postBatch(messages, err)
		return
	}
	e, err := wire.Scan(body)
	if err != nil {
		x.fail(http.StatusBadRequest, e.Get(wire.FieldID), err)
		return
	}
	// The era is decided by what the request carries, never by its method alone
	// but for the one that only the modern era has.
	if x.modern = modernHeader(x.r.Header) || e.Has(wire.FieldMetaVersion) || e.Method == "server/discover"; x.modern {
		x.postModern(e)
		return
	}
	x.postLegacy(e)
}

// body reads the message into memory of exactly its size, where that is known.
func (x *exchange) body() (body []byte, err error) {
	size, limit := x.r.ContentLength, int64(x.s.o.MaxMessage)
	switch {
	case size > limit:
		return nil, wire.ErrTooLarge
	case size >= 0:
		body = make([]byte, size)
		_, err = io.ReadFull(x.r.Body, body)
	default:
		body, err = io.ReadAll(io.LimitReader(x.r.Body, limit+1))
		if int64(len(body)) > limit {
			return nil, wire.ErrTooLarge
		}
	}
	if err == nil {
		// From here on reading serves to notice that the client goes away.
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{})
	}
	return body, err
}

// get opens the stream of a session. Without a session there is nothing to get:
// that is answered by 405 at once, in both eras (2025-11-25, transports,
// listening; 2026-07-28, earlier revisions), because clients try it first.
func (x *exchange) get() {
	if _, present := x.r.Header[headerSession]; !present {
		x.notAllowed("POST")
		return
	}
	if x.accept = parseAccept(x.r.Header); !x.accept.events && !x.accept.anything {
		x.fail(http.StatusNotAcceptable, nil, wire.Errorf(wire.CodeInvalidRequest, "Accept must list text/event-stream"))
		return
	}
	if ss := x.session(nil); ss != nil {
		x.watch(ss)
	}
}

// delete ends a session.
func (x *exchange) delete() {
	if _, present := x.r.Header[headerSession]; !present && modernHeader(x.r.Header) {
		x.notAllowed("POST")
		return
	}
	if ss := x.session(nil); ss != nil {
		x.s.endSession(ss, errEnded)
		x.w.WriteHeader(http.StatusNoContent)
	}
}

func (x *exchange) notAllowed(allow string) {
	x.w.Header().Set("Allow", allow)
	x.fail(http.StatusMethodNotAllowed, nil, wire.Errorf(wire.CodeInvalidRequest, "method %s is not allowed here", x.r.Method))
}

// fail answers with an error.
func (x *exchange) fail(status int, id []byte, err error) {
	x.json(status, wire.AppendError(nil, id, err))
}

func (x *exchange) json(status int, body []byte) {
	h := x.w.Header()
	h["Content-Type"] = typeJSON
	if len(body) > 2<<10 { // below, net/http counts by itself
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	x.w.WriteHeader(status)
	if len(body) <= largeWrite {
		_, _ = x.w.Write(body) //nolint:gosec // it is declared as JSON; nobody is left to be told of an error
		return
	}
	rc := http.NewResponseController(x.w)
	_ = x.s.writeAll(x.w, rc, body)
	_ = rc.SetWriteDeadline(time.Time{})
}

func (x *exchange) accepted() { x.w.WriteHeader(http.StatusAccepted) }

// begin makes the context of the call. What is begun must be finished or
// abandoned.
func (x *exchange) begin(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	x.s.mu.Lock()
	x.cancel = cancel
	cutting := x.s.cutting
	x.s.mu.Unlock()
	if cutting {
		cancel(errStopping)
	}
	// The specification wants every client to take streams; legacy ones that do
	// not say so are not trusted to.
	if x.accept.events || (x.modern && x.accept.anything) {
		x.streamed.Add(1)
		x.timer = time.AfterFunc(x.s.o.Quiet, x.streamFeed)
	}
	return ctx
}

// Deliver implements [wire.Sink].
func (x *exchange) Deliver(n wire.Notification) {
	if x.timer == nil || (n.Method == "notifications/message" && !x.logs) {
		return
	}
	if x.feed.put(n) && x.timer.Stop() {
		go x.streamFeed() // finish and abandon wait for it
	}
}

// streamFeed turns the answer into a stream. The timer's Stop decides who calls
// it, and that only one does.
func (x *exchange) streamFeed() {
	defer x.streamed.Done()
	out := x.stream()
	defer out.close()
	if _, err := x.feed.drain(x.r.Context(), out, x.s.o.Heartbeat); err != nil {
		x.feed.end(nil)
		if x.modern {
			x.cancel(errGone) // a closed stream cancels; a legacy one does not
		}
	}
}

// finish gives the client its reply, behind everything that was delivered.
func (x *exchange) finish(status int, body []byte) {
	x.finished = true
	x.feed.end(body)
	switch {
	case x.timer != nil && !x.timer.Stop():
		x.streamed.Wait()
	case !x.accept.json && status == http.StatusOK:
		out := x.stream()
		_ = out.send(nil, body) // nobody is left to be told
		out.close()
	default:
		x.json(status, body)
	}
	x.cancel(nil)
}

// abandon ends what begin began when there was no reply to finish with.
func (x *exchange) abandon() {
	if x.finished {
		return
	}
	x.feed.end(nil)
	x.cancel(errGone)
	if x.timer != nil && !x.timer.Stop() {
		x.streamed.Wait()
	}
}
