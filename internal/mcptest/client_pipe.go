package mcptest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sync"
	"testing"
)

// Connect makes a client of a byte stream: it reads from r and writes to w,
// which it closes in the end; r must end then.
func Connect(t testing.TB, r io.Reader, w io.WriteCloser, o Options) *Client {
	t.Helper()
	c := newClient(t, o)
	p := &pipeCarrier{
		c: c, w: w, out: &lineWriter{w: w, turn: make(chan struct{}, 1)},
		pending: map[string]*Stream{}, rest: newStreamFor(c, &Message{}),
	}
	c.carrier = p
	p.wg.Go(func() { p.read(r) })
	t.Cleanup(c.Close)
	return c
}

// Unrelated returns the stream of the messages that belong to no request of
// this client as far as a byte stream lets one know: all but replies, and
// progress with the token of a request.
func (c *Client) Unrelated() *Stream {
	if p, ok := c.carrier.(*pipeCarrier); ok {
		return p.rest
	}
	c.t.Fatal("over HTTP each message belongs to a stream: use Get or Listen")
	return nil
}

// pipeCarrier carries messages over a byte stream.
type pipeCarrier struct {
	c   *Client
	w   io.Closer
	out *lineWriter
	wg  sync.WaitGroup

	mu      sync.Mutex
	err     error
	pending map[string]*Stream
	rest    *Stream
}

func (p *pipeCarrier) send(message []byte, m *Message, st *Stream) error {
	if !m.IsRequest() {
		st.close(nil)
	} else {
		p.mu.Lock()
		err := p.err
		if err == nil {
			p.pending[string(m.ID)] = st
		}
		p.mu.Unlock()
		if err != nil {
			return err
		}
	}
	p.out.write(append(oneLine(message), '\n'))
	return nil
}

// read hands out what comes until the stream ends. Answers to requests of the
// server are written from here, which needs a server that reads meanwhile.
func (p *pipeCarrier) read(r io.Reader) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			m, parseErr := ParseMessage(line)
			if parseErr != nil {
				p.c.Transcript.add(Entry{Noise: line})
			} else {
				p.c.take(m, p.stream(&m))
				p.settle(&m)
			}
		}
		if err != nil {
			p.end(fmt.Errorf("read from the server: %w", err))
			return
		}
	}
}

// stream finds what a message belongs to.
func (p *pipeCarrier) stream(m *Message) *Stream {
	id := m.ID
	if !m.IsReply() {
		id = m.Get("params", "_meta", "io.modelcontextprotocol/subscriptionId")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if st := p.pending[string(id)]; st != nil {
		return st
	}
	if token := m.Get("params", "progressToken"); token != nil {
		for _, st := range p.pending {
			if string(st.token) == string(token) {
				return st
			}
		}
	}
	return p.rest
}

// settle ends the stream whose reply has come.
func (p *pipeCarrier) settle(m *Message) {
	if !m.IsReply() {
		return
	}
	p.mu.Lock()
	st := p.pending[string(m.ID)]
	delete(p.pending, string(m.ID))
	p.mu.Unlock()
	if st != nil {
		st.close(nil)
	}
}

func (p *pipeCarrier) end(err error) {
	p.mu.Lock()
	p.err = err
	pending := p.pending
	p.pending = map[string]*Stream{}
	p.mu.Unlock()
	for _, st := range pending {
		st.close(err)
	}
	p.rest.close(err)
}

func (p *pipeCarrier) abort(st *Stream) {
	p.mu.Lock()
	delete(p.pending, string(st.id))
	p.mu.Unlock()
	st.close(errTimeout)
}

func (p *pipeCarrier) close() {
	_ = p.w.Close()
	p.wg.Wait()
}
