package mcptest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
)

// Pipe returns the two ends of a connection in memory: what is written to one
// can be read from the other, and closing one ends the reading of the other.
// Nothing is buffered.
func Pipe() (client, server io.ReadWriteCloser) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	return &duplex{r1, w2}, &duplex{r2, w1}
}

type duplex struct {
	*io.PipeReader
	*io.PipeWriter
}

// Close closes both directions.
func (d *duplex) Close() error {
	return errors.Join(d.PipeReader.Close(), d.PipeWriter.Close())
}

// ServePipe starts a Server on a pipe in memory, and returns it with the other
// end. Both end with the test, or when the pipe is closed.
func ServePipe(t testing.TB, script Script) (*Server, io.ReadWriteCloser) {
	t.Helper()
	s := newServer(script)
	client, server := Pipe()
	done := make(chan error, 1)
	go func() {
		done <- s.ServeStdio(server, server)
		closeAny(server)
	}()
	t.Cleanup(func() {
		closeAny(client)
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return s, client
}

// ServeStdio serves newline-delimited messages until in ends and every call has
// ended. What stands for a death of the process closes in and out, where they
// can be closed.
func (s *Server) ServeStdio(in io.Reader, out io.Writer) error {
	w := &lineWriter{w: out, turn: make(chan struct{}, 1)}
	sess := &session{
		asks: map[string]chan Message{},
		send: func(m []byte) { w.write(append(oneLine(m), '\n')) },
		raw:  w.write,
		hangUp: func() {
			closeAny(out)
			closeAny(in)
		},
	}
	s.mu.Lock()
	s.sessions[sess] = true
	s.mu.Unlock()

	r := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := r.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			s.line(sess, line)
		}
		if err != nil {
			s.endSession(sess)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
				return nil
			}
			return fmt.Errorf("read messages: %w", err)
		}
	}
}

// line takes one message of a byte stream.
func (s *Server) line(sess *session, line []byte) {
	m, err := ParseMessage(line)
	s.note(m, nil)
	switch {
	case err != nil:
		sess.send(failure([]byte("null"), (&problem{code: -32700, message: err.Error()}).object()))
		return
	case !m.IsRequest():
		s.incoming(sess, &m)
		return
	}
	c := &call{
		Message: m, srv: s, sess: sess, modern: isModernRequest(&m),
		send: sess.send, stop: make(chan struct{}),
	}
	s.begin(c)
	answer := func() {
		defer s.finish(c)
		s.run(c)
	}
	if s.script.Serial || m.Method == "initialize" {
		answer()
		return
	}
	s.calls.Go(answer)
}

// endSession ends what the session left open and waits for it.
func (s *Server) endSession(sess *session) {
	s.mu.Lock()
	delete(s.sessions, sess)
	var open []*call
	for c := range s.running {
		if c.sess == sess {
			open = append(open, c)
		}
	}
	s.mu.Unlock()
	for _, c := range open {
		c.end()
	}
	s.calls.Wait()
}

func closeAny(v any) {
	if c, ok := v.(io.Closer); ok {
		_ = c.Close()
	}
}

// lineWriter writes one message at a time. It waits on a channel, not a mutex,
// so that synctest sees who waits.
type lineWriter struct {
	w    io.Writer
	turn chan struct{}
}

func (l *lineWriter) write(b []byte) {
	l.turn <- struct{}{}
	_, _ = l.w.Write(b) // a reader that went away is the reader's business
	<-l.turn
}
