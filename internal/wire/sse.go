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
	var e SSEEvent
	var tooLarge *TooLargeError
	for {
		line, err := s.line()
		if big, ok := err.(*TooLargeError); ok { //nolint:errorlint // line returns it bare
			tooLarge = big
			continue
		}
		if err != nil {
			return SSEEvent{}, err
		}
		if len(line) == 0 {
			if tooLarge != nil {
				return SSEEvent{}, tooLarge
			}
			if e.Data != nil || e.HasID || e.Retry > 0 {
				return e, nil
			}
			e = SSEEvent{}
			continue
		}
		if len(e.Data)+len(line) > s.limit {
			tooLarge = &TooLargeError{Limit: s.limit, ID: FindID(e.Data)}
			e.Data = nil
		}
		if tooLarge == nil {
			e.field(line)
		}
	}
}

func (e *SSEEvent) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte{':'})
	value = bytes.TrimPrefix(value, []byte{' '})
	switch string(name) {
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

// line returns the next line, valid until the next call.
func (s *SSEReader) line() ([]byte, error) {
	var long []byte
	for {
		if s.skipLF && s.i < s.n {
			s.skipLF = false
			if s.buf[s.i] == '\n' {
				s.i++
			}
		}
		chunk := s.buf[s.i:s.n]
		if end := bytes.IndexAny(chunk, "\r\n"); end >= 0 {
			s.skipLF = chunk[end] == '\r'
			s.i += end + 1
			if len(long)+end > s.limit+16 { // 16: room for the field's name
				return nil, &TooLargeError{Limit: s.limit, ID: sseID(append(long, chunk[:end]...))}
			}
			return s.first(append(long, chunk[:end]...)), nil
		}
		if len(long)+len(chunk) > s.limit+16 {
			return nil, s.discard(long)
		}
		long = append(long, chunk...)
		s.i, s.n = 0, 0
		if s.err != nil {
			return nil, s.err
		}
		s.n, s.err = s.r.Read(s.buf)
	}
}

// first removes a byte order mark from the first line.
func (s *SSEReader) first(line []byte) []byte {
	if !s.begun {
		s.begun = true
		return bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	}
	return line
}

func sseID(line []byte) []byte { return FindID(bytes.TrimPrefix(line, []byte("data:"))) }

// discard reads an endless line to its end, keeping nothing but the message's id.
func (s *SSEReader) discard(begin []byte) error {
	var f idFinder
	f.feed(bytes.TrimPrefix(begin, []byte("data:")))
	for {
		chunk := s.buf[s.i:s.n]
		if end := bytes.IndexAny(chunk, "\r\n"); end >= 0 {
			s.skipLF = chunk[end] == '\r'
			f.feed(chunk[:end])
			s.i += end + 1
			f.feed([]byte{'\n'})
			return &TooLargeError{Limit: s.limit, ID: f.id}
		}
		f.feed(chunk)
		s.i, s.n = 0, 0
		if s.err != nil {
			return s.err
		}
		s.n, s.err = s.r.Read(s.buf)
	}
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
