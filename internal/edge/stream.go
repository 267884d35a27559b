package edge

import (
	"errors"
	"net/http"
	"time"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// Values of headers, shared by all responses: they are never changed.
var (
	typeJSON   = []string{"application/json"}
	typeEvents = []string{"text/event-stream"}
	noCache    = []string{"no-cache"}
	noBuffer   = []string{"no"}
)

// largeWrite is how many bytes may go to a client at once: what is more may wait
// for it to read, and is watched over.
const largeWrite = 64 << 10

// stream is an HTTP response that is a text/event-stream. It is written by one
// goroutine at a time.
type stream struct {
	s   *Server
	w   http.ResponseWriter
	rc  *http.ResponseController
	buf []byte
}

// stream begins an event stream as the response.
func (x *exchange) stream() *stream {
	h := x.w.Header()
	h["Content-Type"] = typeEvents
	h["Cache-Control"] = noCache
	h["X-Accel-Buffering"] = noBuffer // a proxy must not wait for more
	x.w.WriteHeader(http.StatusOK)
	st := &stream{s: x.s, w: x.w, rc: http.NewResponseController(x.w)}
	_ = st.flush() // that the client is gone shows with the first event
	return st
}

// close ends the use of the response.
func (st *stream) close() { _ = st.rc.SetWriteDeadline(time.Time{}) }

// send writes the notifications and then the last message, if there is one.
func (st *stream) send(batch []wire.Notification, last []byte) error {
	st.buf = st.buf[:0]
	for _, n := range batch {
		st.buf = appendEvent(st.buf, n.Raw)
	}
	if last != nil {
		st.buf = appendEvent(st.buf, last)
	}
	err := st.write(st.buf)
	if cap(st.buf) > largeWrite {
		st.buf = nil
	}
	return err
}

// comment writes what keeps a connection open and says nothing.
func (st *stream) comment() error { return st.write([]byte(":\n\n")) }

func (st *stream) write(b []byte) error {
	if err := st.s.writeAll(st.w, st.rc, b); err != nil {
		return err
	}
	return st.flush()
}

func (st *stream) flush() error {
	_ = st.rc.SetWriteDeadline(st.s.deadline()) // not every writer has deadlines
	if err := st.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// writeAll writes piece by piece, with a new deadline for each: a client may be
// slow, but one that takes nothing is gone.
func (s *Server) writeAll(w http.ResponseWriter, rc *http.ResponseController, b []byte) error {
	for len(b) > 0 {
		piece := b[:min(len(b), largeWrite)]
		_ = rc.SetWriteDeadline(s.deadline())     // not every writer has deadlines
		if _, err := w.Write(piece); err != nil { //nolint:gosec // it is declared as JSON or events
			return err
		}
		b = b[len(piece):]
	}
	return nil
}

// appendEvent appends a message as an event. The message itself, which others
// may share, is left as it is.
func appendEvent(dst, message []byte) []byte {
	dst = wire.AppendSSE(dst, "message", "", message)
	end := len(dst) - len("\n\n")
	wire.Flatten(dst[end-len(message) : end])
	return dst
}
