package api

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
)

// watched is a response whose writes need a deadline.
type watched struct {
	*httptest.ResponseRecorder
	t     *testing.T
	until time.Time
	reset bool
}

func (w *watched) SetWriteDeadline(at time.Time) error {
	w.until, w.reset = at, at.IsZero()
	return nil
}

func (w *watched) Write(b []byte) (int, error) {
	if left := time.Until(w.until); left < patience/2 || left > patience {
		w.t.Errorf("a write may take %s", left)
	}
	return w.ResponseRecorder.Write(b)
}

// A client that reads nothing does not hold a stream for ever, and the connection
// of one that does serves again.
func TestStreamsAreNotHeld(t *testing.T) {
	w := &watched{ResponseRecorder: httptest.NewRecorder(), t: t}
	f := &fake{events: events(shannon.Event{Seq: 1}, shannon.Event{Seq: 2})}
	New(f, Options{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api/v1/events", nil))
	if !w.reset {
		t.Error("the last deadline stays")
	}
}
