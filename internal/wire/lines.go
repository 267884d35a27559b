package wire

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

// ErrTooLarge is in the chain of a [*TooLargeError].
var ErrTooLarge = errors.New("message too large")

// TooLargeError reports a message over the limit, which was read to its end and
// thrown away. The stream goes on behind it.
type TooLargeError struct {
	Limit int
	// ID is the id of the message, as it stood in it; nil when it had none.
	ID []byte
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return "a message of more than " + itoa(e.Limit) + " bytes"
}

// Unwrap returns [ErrTooLarge].
func (e *TooLargeError) Unwrap() error { return ErrTooLarge }

// LineReader reads newline-delimited messages, however the stream is cut. It is
// not safe for concurrent use.
type LineReader struct {
	r     io.Reader
	limit int
	buf   []byte
	i, n  int // unread bytes are buf[i:n]
	err   error
}

// NewLineReader returns a reader of lines of at most limit bytes.
func NewLineReader(r io.Reader, limit int) *LineReader {
	return &LineReader{r: r, limit: limit, buf: make([]byte, 64<<10)}
}

// Next returns the next line without its end, in memory of its own. Empty lines
// are skipped; the last line needs no end. After a [*TooLargeError] it may be
// called again, after any other error not.
func (l *LineReader) Next() ([]byte, error) {
	var long []byte // the line's beginning, when it did not fit into buf
	for {
		chunk := l.buf[l.i:l.n]
		if end := bytes.IndexByte(chunk, '\n'); end >= 0 {
			l.i += end + 1
			if len(long)+end > l.limit {
				return nil, l.tooLarge(long, chunk[:end+1])
			}
			if line := bytes.TrimSuffix(append(long, chunk[:end]...), []byte{'\r'}); len(line) > 0 {
				return line, nil
			}
			long = nil
			continue
		}
		if len(long)+len(chunk) > l.limit {
			l.i, l.n = 0, 0
			return nil, l.tooLarge(long, chunk)
		}
		if err := l.fill(&long); err != nil {
			if len(long) > 0 {
				return long, nil
			}
			return nil, err
		}
	}
}

// fill moves what is buffered to long when the buffer is full, and reads on.
func (l *LineReader) fill(long *[]byte) error {
	if l.err != nil {
		*long = append(*long, l.buf[l.i:l.n]...)
		l.i, l.n = 0, 0
		return l.err
	}
	switch {
	case l.i == l.n:
		l.i, l.n = 0, 0
	case l.i > 0:
		l.n = copy(l.buf, l.buf[l.i:l.n])
		l.i = 0
	case l.n == len(l.buf):
		*long = append(*long, l.buf...)
		l.n = 0
	}
	n, err := l.r.Read(l.buf[l.n:])
	l.n += n
	l.err = err
	return nil
}

// tooLarge reads the line to its end, keeping nothing but its id.
func (l *LineReader) tooLarge(parts ...[]byte) error {
	var f idFinder
	ended := false
	for _, p := range parts {
		ended = f.feed(p)
	}
	for !ended && l.err == nil {
		var n int
		n, l.err = l.r.Read(l.buf)
		chunk := l.buf[:n]
		if end := bytes.IndexByte(chunk, '\n'); end >= 0 {
			f.feed(chunk[:end+1])
			l.i, l.n = end+1, n
			break
		}
		f.feed(chunk)
	}
	return &TooLargeError{Limit: l.limit, ID: f.id}
}

// FindID returns the top-level id of a message that need not be valid, nil when
// it has none or several.
func FindID(raw []byte) []byte {
	var f idFinder
	f.feed(raw)
	f.feed([]byte{'\n'})
	return f.id
}

// idFinder finds the value of the top-level member "id" in a message that is
// too large, or too broken, to be scanned. It keeps a few bytes only.
type idFinder struct {
	depth   int
	inText  bool
	escape  bool
	afterID bool   // the value that follows is the id's
	word    []byte // the top-level string or scalar being read, cut at 80 bytes
	id      []byte
	twice   bool
}

// feed reads on and tells whether the line has ended.
func (f *idFinder) feed(b []byte) bool {
	for _, c := range b {
		switch {
		case c == '\n' && !f.inText:
			f.endWord()
			return true
		case f.inText:
			f.text(c)
		case c == '"':
			f.inText = true
			f.keep(c)
		case c == '{' || c == '[':
			f.depth++
			f.word, f.afterID = nil, false
		case c == '}' || c == ']':
			f.endWord()
			f.depth--
		case c == ':':
			f.afterID = f.depth == 1 && string(f.word) == `"id"`
			f.word = nil
		case c == ',':
			f.endWord()
		case c > ' ':
			f.keep(c)
		}
	}
	// A line break inside of a string cannot be valid; the line ends there.
	return len(b) > 0 && b[len(b)-1] == '\n'
}

func (f *idFinder) text(c byte) {
	f.keep(c)
	switch {
	case f.escape:
		f.escape = false
	case c == '\\':
		f.escape = true
	case c == '"':
		f.inText = false
	}
}

func (f *idFinder) keep(c byte) {
	if f.depth == 1 && len(f.word) < 80 {
		f.word = append(f.word, c)
	}
}

func (f *idFinder) endWord() {
	if f.afterID && f.depth == 1 && len(f.word) > 0 && !f.twice {
		if f.id != nil {
			f.id, f.twice = nil, true
		} else {
			f.id = bytes.Clone(f.word)
		}
	}
	f.word, f.afterID = nil, false
}
