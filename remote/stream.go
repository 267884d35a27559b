package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

const (
	// maxItem is the limit of one item of a stream, in bytes.
	maxItem = 64 << 20
	// maxSilence is how long a stream may be silent; the API sends something
	// every 15 seconds.
	maxSilence = 45 * time.Second
	// maxAway is how long a followed stream is tried to be resumed.
	maxAway = 10 * time.Second
	// minDelay and maxDelay are the pauses between the attempts.
	minDelay = 100 * time.Millisecond
	maxDelay = 2 * time.Second
)

// Events implements [shannon.Records]. When the connection breaks while it
// follows, it resumes behind the last event; the events of a daemon that was
// started anew come from their beginning.
func (c *Client) Events(ctx context.Context, f shannon.EventFilter) iter.Seq2[shannon.Event, error] {
	return func(yield func(shannon.Event, error) bool) {
		q := url.Values{}
		set(q, "category", f.Category)
		set(q, "name", f.Name)
		set(q, "min_priority", string(f.MinPriority))
		if f.After > 0 {
			q.Set("after", strconv.FormatUint(f.After, 10))
		}
		if f.Follow {
			q.Set("follow", "true")
		}
		s := source{
			follow: f.Follow,
			path:   func() string { return prefix + "/events?" + q.Encode() },
			item: func(e wire.SSEEvent) (bool, error) {
				ev, err := decodeEvent(e.Data)
				if err != nil {
					return false, err
				}
				if e.HasID {
					q.Set("after", e.ID)
				}
				return (f.Match != nil && !f.Match(&ev)) || yield(ev, nil), nil
			},
		}
		if err := c.run(ctx, &s); err != nil {
			yield(shannon.Event{}, err)
		}
	}
}

func decodeEvent(text []byte) (shannon.Event, error) {
	var e shannon.Event
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // the data of a notification is a server's: no digit may change
	return e, dec.Decode(&e)
}

// Logs implements [shannon.Records]. When the connection breaks while it
// follows, it resumes with the lines that are younger than the last.
func (c *Client) Logs(ctx context.Context, server string, f shannon.LogFilter) iter.Seq2[shannon.LogLine, error] {
	return func(yield func(shannon.LogLine, error) bool) {
		if err := named(server); err != nil {
			yield(shannon.LogLine{}, err)
			return
		}
		q := url.Values{}
		if f.Lines != 0 {
			q.Set("lines", strconv.Itoa(f.Lines))
		}
		if f.Follow {
			q.Set("follow", "true")
		}
		var last, seen time.Time // of the last line, and of that before the connection broke
		s := source{
			follow: f.Follow,
			path: func() string {
				if seen = last; !seen.IsZero() {
					q.Set("lines", "1000")
				}
				return prefix + at(server, "/logs") + "?" + q.Encode()
			},
			item: func(e wire.SSEEvent) (bool, error) {
				var l shannon.LogLine
				if err := json.Unmarshal(e.Data, &l); err != nil {
					return false, err
				}
				if !seen.IsZero() && !l.Time.After(seen) {
					return true, nil
				}
				last = l.Time
				return yield(l, nil), nil
			},
		}
		if err := c.run(ctx, &s); err != nil {
			yield(shannon.LogLine{}, err)
		}
	}
}

// source is a stream of the API.
type source struct {
	follow bool
	// path is asked for before every connection.
	path func() string
	// item takes an item; false when no more are wanted.
	item func(wire.SSEEvent) (bool, error)

	opened bool // the last attempt connected
	moved  bool // and an item came
}

// errStopped ends a stream that nobody wants any more.
var errStopped = errors.New("stopped by the consumer")

// run reads s to its end, connecting again where it follows. That the context
// ends is the way to end following, and no error then.
func (c *Client) run(ctx context.Context, s *source) error {
	delay, alive := minDelay, time.Now()
	for first := true; ; first = false {
		err := c.once(ctx, s)
		switch {
		case errors.Is(err, errStopped):
			return nil
		case ctx.Err() != nil:
			if s.follow {
				return nil
			}
			return err
		case !s.follow:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case !broken(err), first && !s.opened:
			return err
		}
		if s.opened {
			alive = time.Now()
		}
		if s.moved {
			delay = minDelay
		}
		if time.Since(alive) > maxAway {
			return err
		}
		if !wait(ctx, delay) {
			return nil
		}
		delay = min(2*delay, maxDelay)
	}
}

// broken tells whether err is about the connection, not about what was asked.
func broken(err error) bool {
	switch shannon.CodeOf(err) {
	case shannon.CodeNoDaemon, shannon.CodeConnectionLost, shannon.CodeCanceled:
		return true
	}
	return errors.Is(err, io.EOF)
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// once connects and reads until the stream ends: with io.EOF where it is whole.
func (c *Client) once(ctx context.Context, s *source) error {
	s.opened, s.moved = false, false
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o := call{method: http.MethodGet, path: s.path(), header: http.Header{"Accept": {"text/event-stream"}}}
	watch := time.AfterFunc(maxSilence, cancel)
	defer watch.Stop()
	res, err := c.send(ctx, o)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	s.opened = true
	events := wire.NewSSEReader(&watched{res.Body, watch}, maxItem)
	for {
		e, err := events.Next()
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return lost(ctx, o, err)
		}
		if e.Type == "problem" {
			if p := parseProblem(e.Data); p != nil {
				return p
			}
		}
		if e.Data == nil {
			continue
		}
		more, err := s.item(e)
		if err != nil {
			return shannon.Errorf(shannon.CodeProtocolError, "Check that the daemon is of this version", "read stream: %w", err)
		}
		if s.moved = true; !more {
			return errStopped
		}
	}
}

// watched puts the end off whenever something is read. While the consumer is
// busy nothing is read, and silence is its own.
type watched struct {
	r     io.Reader
	watch *time.Timer
}

// Read implements [io.Reader].
func (w *watched) Read(p []byte) (int, error) {
	w.watch.Reset(maxSilence)
	n, err := w.r.Read(p)
	w.watch.Stop()
	return n, err
}
