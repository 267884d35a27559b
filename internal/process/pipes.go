package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	lineLimit = 64 << 10 // of a line of stderr
	tailLines = 20       // of stderr that Exit holds
	tailBytes = 8 << 10
)

// pipe has the end that we use and the one that the child gets.
type pipe struct{ ours, theirs *os.File }

type pipes struct{ stdin, stdout, stderr pipe }

func openPipes() (*pipes, error) {
	var p pipes
	var errs [3]error
	p.stdin.theirs, p.stdin.ours, errs[0] = os.Pipe()
	p.stdout.ours, p.stdout.theirs, errs[1] = os.Pipe()
	p.stderr.ours, p.stderr.theirs, errs[2] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		p.closeTheirs()
		p.closeOurs()
		return nil, fmt.Errorf("open pipes: %w", err)
	}
	return &p, nil
}

func (p *pipes) theirs() []*os.File {
	return []*os.File{p.stdin.theirs, p.stdout.theirs, p.stderr.theirs}
}

// Closing a nil *os.File only gives an error, so half-open pipes may be closed.

func (p *pipes) closeTheirs() {
	for _, f := range p.theirs() {
		_ = f.Close()
	}
}

func (p *pipes) closeOurs() {
	for _, f := range []*os.File{p.stdin.ours, p.stdout.ours, p.stderr.ours} {
		_ = f.Close()
	}
}

// output is the reading end of stdout. It knows whether it was read to its end, so
// that Stop can leave a reader the time to take what a child wrote last.
type output struct {
	f       *os.File
	endOnce sync.Once
	ended   chan struct{}

	mu   sync.Mutex
	read bool // somebody reads
}

func newOutput(f *os.File) *output { return &output{f: f, ended: make(chan struct{})} }

// Read gives io.EOF also when the pipe was closed by us.
func (o *output) Read(b []byte) (int, error) {
	o.mu.Lock()
	o.read = true
	o.mu.Unlock()
	n, err := o.f.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		o.end()
		if errors.Is(err, os.ErrClosed) {
			err = io.EOF
		}
	}
	return n, err
}

// SetReadDeadline bounds Read, but on Windows.
func (o *output) SetReadDeadline(t time.Time) error { return o.f.SetReadDeadline(t) }

// Close says that nothing more will be read.
func (o *output) Close() error {
	o.end()
	return o.f.Close()
}

func (o *output) end() { o.endOnce.Do(func() { close(o.ended) }) }

// finish closes the pipe once the reader, if there is one, has come to its end.
func (o *output) finish(haste <-chan struct{}) {
	o.mu.Lock()
	read := o.read
	o.mu.Unlock()
	if read {
		select {
		case <-o.ended:
		case <-haste:
		case <-time.After(holdLimit):
		}
	}
	_ = o.f.Close()
}

// lines cuts what is written to it into lines, keeps the last ones and hands out all.
// It holds at most one line of lineLimit and the tail, whatever is written.
type lines struct {
	emit func([]byte)

	mu      sync.Mutex
	partial []byte
	skip    bool // the rest of a line that was cut
	tail    []string
	size    int // bytes in tail
}

// Write never fails.
func (l *lines) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		part, rest, ended := bytes.Cut(b, []byte{'\n'})
		l.add(part, ended)
		b = rest
	}
	return n, nil
}

// add takes a piece of a line.
func (l *lines) add(part []byte, ended bool) {
	l.mu.Lock()
	if !l.skip {
		l.partial = append(l.partial, part[:min(len(part), lineLimit-len(l.partial))]...)
	}
	full := len(l.partial) == lineLimit
	emit := !l.skip && (ended || full)
	l.skip = !ended && (l.skip || full)
	l.mu.Unlock()
	if emit {
		l.flush()
	}
}

// end hands out a last line that has no newline.
func (l *lines) end() {
	if len(l.partial) > 0 {
		l.flush()
	}
}

// flush hands out the line. Only the writing goroutine changes partial, so it is read
// here without the lock, which must not be held during emit.
func (l *lines) flush() {
	line := bytes.TrimSuffix(l.partial, []byte{'\r'})
	if l.emit != nil {
		l.emit(line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(line)
	l.partial = l.partial[:0]
}

// keep puts a line at the end of the tail; l.mu is held.
func (l *lines) keep(line []byte) {
	text := strings.ToValidUTF8(string(line[:min(len(line), tailBytes)]), "?")
	l.tail = append(l.tail, text)
	l.size += len(text)
	for len(l.tail) > tailLines || l.size > tailBytes {
		l.size -= len(l.tail[0])
		l.tail = append(l.tail[:0], l.tail[1:]...)
	}
}

// last returns the tail, with a line that has not ended yet.
func (l *lines) last() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) == 0 {
		return append([]string(nil), l.tail...)
	}
	copied := lines{tail: append([]string(nil), l.tail...), size: l.size}
	copied.keep(l.partial)
	return copied.tail
}
