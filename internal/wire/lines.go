package wire

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// ErrTooLarge is in the chain of a [*TooLargeError].
var ErrTooLarge = errors.New("message too large")

// TooLargeError reports a message over the limit, which was read to its end and
// thrown away. The stream goes on behind it.
type TooLargeError struct {
	Limit int
	// ID is the id of the message, as it stood in it; nil when it had none.
	ID []byte
	// Kind is KindRequest or KindResult, where that could be told, else KindInvalid.
	Kind Kind
}

// Error implements error.
func (e *TooLargeError) Error() string {
	return "a message of more than " + strconv.Itoa(e.Limit) + " bytes"
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
			if line := bytes.TrimSuffix(long, []byte{'\r'}); len(line) > 0 {
				return line, nil
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
	return f.tooLarge(l.limit)
}

// FindID returns the top-level id of a message that need not be valid, nil when
// it has none or several.
func FindID(raw []byte) []byte {
	id, _ := findID(raw)
	return id
}

// findID is [FindID] that tells, too, what has the id; see [TooLargeError].
func findID(raw []byte) ([]byte, Kind) {
	var f idFinder
	f.feed(raw)
	return f.found()
}

// maxID is how long an id may be that is found in a message that was not kept.
const maxID = 128

// idFinder finds the value of the top-level member "id" in a message that is
// too large, or too broken, to be scanned. It keeps a few bytes only.
type idFinder struct {
	depth   int
	inText  bool
	escape  bool
	gap     bool   // there was space behind the word
	word    []byte // the top-level string or scalar being read, cut behind maxID
	afterID bool   // the value that follows is the id's
	id      []byte
	twice   bool
	method  bool // it has a method
	jsonrpc bool // it has a version or a result: text that has neither may be a log record
}

// found returns the id and what has it, nil and KindInvalid when there is none.
func (f *idFinder) found() ([]byte, Kind) {
	switch {
	case f.id == nil || f.twice:
		return nil, KindInvalid
	case f.method:
		return f.id, KindRequest
	case f.jsonrpc:
		return f.id, KindResult
	}
	return f.id, KindInvalid
}

func (f *idFinder) tooLarge(limit int) *TooLargeError {
	id, kind := f.found()
	return &TooLargeError{Limit: limit, ID: id, Kind: kind}
}

// feed reads on and tells whether the line has ended.
func (f *idFinder) feed(b []byte) bool {
	for i := 0; i < len(b); i++ {
		if f.inText && !f.escape && (f.depth != 1 || len(f.word) > maxID) {
			if i += plain(b[i:]); i == len(b) {
				break // what text is made of is not kept
			}
		}
		if f.inText {
			f.text(b[i])
		} else {
			f.between(b[i])
		}
	}
	// A line break inside of a string cannot be valid; the line ends there.
	return len(b) > 0 && b[len(b)-1] == '\n'
}

// between takes what is outside of strings, and the quote that begins one.
func (f *idFinder) between(c byte) {
	switch c {
	case '"':
		f.inText = true
		f.keep(c)
	case '{', '[':
		f.depth++
		f.word, f.afterID = nil, false
	case '}', ']':
		f.endWord()
		f.depth--
	case ':':
		f.endKey()
	case ',':
		f.endWord()
	case ' ', '\t', '\r', '\n':
		f.gap = len(f.word) > 0
	default:
		f.keep(c)
	}
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
	if f.gap { // two words are none
		f.word, f.gap = append(f.word, ' '), false
	}
	if f.depth == 1 && len(f.word) <= maxID {
		f.word = append(f.word, c)
	}
}

func (f *idFinder) endKey() {
	f.afterID = false
	switch string(f.word) {
	case `"id"`:
		f.afterID = true
	case `"method"`:
		f.method = true
	case `"jsonrpc"`, `"result"`:
		f.jsonrpc = true
	}
	f.word, f.gap = nil, false
}

// endWord ends a value. One that no comma or bracket ends is cut off.
func (f *idFinder) endWord() {
	if f.afterID && f.depth == 1 && len(f.word) > 0 {
		s := scanner{b: f.word}
		if len(f.word) <= maxID && stringOrNumber(f.word) && utf8.Valid(f.word) && s.value() == nil && s.i == len(f.word) {
			f.twice = f.id != nil
			f.id = bytes.Clone(f.word)
		}
	}
	f.word, f.gap, f.afterID = nil, false, false
}
