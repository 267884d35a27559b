package wire

import (
	"bytes"
	"io"
	"strconv"
	"time"
)

// SSEEvent is one event of a text/event-stream.
type SSEEvent struct {
	Type  string // "" means message
	ID    string
	HasID bool
	Data  []byte        // lines joined by newlines; nil when the event had none
	Retry time.Duration // zero when not given
}

// SSEReader reads server-sent events as the HTML standard's event-stream format
// has them, under any chunking, with LF, CR or CRLF. It is not safe for
// concurrent use.
type SSEReader struct {
	r      io.Reader
	limit  int
	buf    []byte
	i, n   int
	err    error
	begun  bool // the byte order mark is looked for once
	skipLF bool // the line before ended with CR
}

// NewSSEReader returns a reader of events whose data is at most limit bytes.
func NewSSEReader(r io.Reader, limit int) *SSEReader {
	return &SSEReader{r: r, limit: limit, buf: make([]byte, 16<<10)}
}

// Reset makes the reader read from r, as a new one would, so that its buffer can
// serve again.
func (s *SSEReader) Reset(r io.Reader) { *s = SSEReader{r: r, limit: s.limit, buf: s.buf} }

// Next returns the next event that has data, an id or a retry time; comments are
// skipped. An event that the stream's end cuts off is dropped, as the standard
// says, and the error of the reader returned. After a [*TooLargeError] it may be
// called again.
func (s *SSEReader) Next() (SSEEvent, error) {
	var d sseDraft
	for {
		line, whole, err := s.line()
		switch {
		case err != nil:
			return SSEEvent{}, err
		case len(line) > 0 || !whole || d.inside:
			d.add(line, whole, s.limit)
		case d.big != nil:
			return SSEEvent{}, d.big.tooLarge(s.limit)
		case d.e.Data != nil || d.e.HasID || d.e.Retry > 0:
			return d.e, nil
		default:
			d = sseDraft{}
		}
	}
}

// sseDraft is an event whose lines are still coming.
type sseDraft struct {
	e      SSEEvent
	big    *idFinder // set once the event is too large; then e is of no use
	inside bool      // the last line goes on
	isData bool      // the last line is one of data
}

func (d *sseDraft) add(line []byte, whole bool, limit int) {
	name, value, _ := bytes.Cut(line, []byte{':'})
	value = bytes.TrimPrefix(value, []byte{' '})
	if d.inside {
		value = line
	} else {
		d.isData = string(name) == "data"
	}
	d.inside = !whole
	size := len(value)
	if d.isData {
		size += len(d.e.Data)
	}
	if d.big == nil && (!whole || size > limit) {
		d.big = &idFinder{}
		d.big.feed(d.e.Data)
		d.e = SSEEvent{}
	}
	switch {
	case d.big == nil:
		d.e.set(string(name), value)
	case d.isData:
		d.big.feed(value)
	}
}

func (e *SSEEvent) set(name string, value []byte) {
	switch name {
	case "data":
		if e.Data != nil {
			e.Data = append(e.Data, '\n')
		}
		e.Data = append(e.Data, value...)
		if e.Data == nil {
			e.Data = []byte{}
		}
	case "event":
		e.Type = string(value)
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			e.ID, e.HasID = string(value), true
		}
	case "retry":
		if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
			e.Retry = time.Duration(ms) * time.Millisecond
		}
	}
}

// line returns the next line, or a part of one that is too long; whole tells
// whether that was its end. It is valid until the next call.
func (s *SSEReader) line() (line []byte, whole bool, err error) {
	for {
		if s.skipLF && s.i < s.n {
			s.skipLF = false
			if s.buf[s.i] == '\n' {
				s.i++
			}
		}
		chunk := s.buf[s.i:s.n]
		if end := lineEnd(chunk); end >= 0 {
			s.skipLF = chunk[end] == '\r'
			s.i += end + 1
			if len(line) > 0 {
				chunk, end = append(line, chunk[:end]...), len(line)+end
			}
			return s.first(chunk[:end]), true, nil
		}
		line = append(line, chunk...)
		s.i, s.n = 0, 0
		if s.err != nil {
			return nil, false, s.err
		}
		if len(line) > s.limit+16 { // 16: room for the field's name
			return s.first(line), false, nil
		}
		s.n, s.err = s.r.Read(s.buf)
	}
}

func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// first removes a byte order mark from the first line.
func (s *SSEReader) first(line []byte) []byte {
	if !s.begun {
		s.begun = true
		return bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line
}

// AppendSSE appends an event whose data is one line; see [Flatten]. An empty
// type or id is left out.
func AppendSSE(dst []byte, event, id string, data []byte) []byte {
	if event != "" {
		dst = append(append(append(dst, "event: "...), event...), '\n')
	}
	if id != "" {
		dst = append(append(append(dst, "id: "...), id...), '\n')
	}
	dst = append(append(dst, "data: "...), data...)
	return append(dst, '\n', '\n')
}
