package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
)

// idHead is how every message with an id begins, of the load as well as of the
// upstream: the floor finds ids by their position.
const idHead = `{"jsonrpc":"2.0","id":`

// runFloor is the least that a gateway on net/http can cost: one pass of bytes
// between a client and a server, in which nothing is looked at but, on a pipe, the
// id, without which answers would find nobody.
func runFloor(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("floor", flag.ContinueOnError)
	url := fs.String("http", "", "relay to this URL rather than to a child process")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *url != "" {
		h, err := httpFloor(*url)
		if err != nil {
			return err
		}
		return serveHTTP(ctx, h)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find myself: %w", err)
	}
	child := exec.CommandContext(ctx, self, "upstream")
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		return fmt.Errorf("connect server: %w", err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return fmt.Errorf("connect server: %w", err)
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	p := newPipe(in)
	done := make(chan error, 1)
	go func() { done <- p.deliver(out) }()
	err = serveHTTP(ctx, p)
	return errors.Join(err, in.Close(), <-done, child.Wait())
}

// pipe relays requests to a byte stream.
type pipe struct {
	mu      sync.Mutex
	w       io.Writer
	unsent  []byte // what came while a write was under way
	spare   []byte
	writing bool
	last    uint64
	waiting map[uint64]*relayed
}

// relayed is a request that waits for its answer.
type relayed struct {
	id     []byte
	answer chan []byte
}

func newPipe(w io.Writer) *pipe { return &pipe{w: w, waiting: map[uint64]*relayed{}} }

var (
	relays  = sync.Pool{New: func() any { return &relayed{answer: make(chan []byte, 1)} }}
	buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}
)

// withBody reads a request's body into a pooled buffer, which is h's until it returns.
func withBody(w http.ResponseWriter, r *http.Request, h func(body []byte)) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	body, err := readBody(r.Body, r.ContentLength, *buf)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	*buf = body
	h(body)
}

// ServeHTTP implements [http.Handler].
func (p *pipe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	withBody(w, r, func(body []byte) { p.relay(w, r, body) })
}

func (p *pipe) relay(w http.ResponseWriter, r *http.Request, body []byte) {
	end := -1
	if bytes.HasPrefix(body, []byte(idHead)) {
		end = bytes.IndexByte(body[len(idHead):], ',')
	}
	if end < 0 { // a notification
		w.WriteHeader(http.StatusAccepted)
		return
	}
	end += len(idHead)
	call := relays.Get().(*relayed)
	call.id = append(call.id[:0], body[len(idHead):end]...)
	if err := p.send(call, body[end:]); err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	answer, ok := <-call.answer
	if !ok {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	relays.Put(call)
	w.Header()["Content-Type"] = []string{"application/json"}
	writeBody(w, answer)
}

// send sends a request whose bytes behind the id are rest. Whoever comes while a
// write is under way leaves his message to the one who writes.
func (p *pipe) send(call *relayed, rest []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	p.waiting[p.last] = call
	p.unsent = strconv.AppendUint(append(p.unsent, idHead...), p.last, 10)
	p.unsent = append(append(p.unsent, rest...), '\n')
	if p.writing {
		return nil
	}
	p.writing = true
	var err error
	for len(p.unsent) > 0 && err == nil {
		batch := p.unsent
		p.unsent = p.spare[:0]
		p.mu.Unlock()
		_, err = p.w.Write(batch)
		p.mu.Lock()
		p.spare = batch
	}
	p.writing = false
	return err
}

// deliver hands the answers to those who wait for them, until there are no more.
func (p *pipe) deliver(r io.Reader) error {
	in := newLineReader(r)
	for {
		line, err := in.next()
		if err != nil {
			p.abandon()
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read answers: %w", err)
		}
		end, id := len(idHead), uint64(0)
		for ; end < len(line) && line[end] >= '0' && line[end] <= '9'; end++ {
			id = 10*id + uint64(line[end]-'0')
		}
		p.mu.Lock()
		call := p.waiting[id]
		delete(p.waiting, id)
		p.mu.Unlock()
		if call == nil {
			continue
		}
		answer := make([]byte, 0, len(line)+len(call.id))
		answer = append(append(answer, idHead...), call.id...)
		call.answer <- append(answer, bytes.TrimSuffix(line[end:], []byte{'\n'})...)
	}
}

// abandon ends the wait of everybody.
func (p *pipe) abandon() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, call := range p.waiting {
		close(call.answer)
		delete(p.waiting, id)
	}
}

// httpFloor relays to a server over HTTP, with the headers as they are.
func httpFloor(url string) (http.Handler, error) {
	template, err := http.NewRequest(http.MethodPost, url, nil) //nolint:noctx // each request has the context of its cause
	if err != nil {
		return nil, fmt.Errorf("relay to %s: %w", url, err)
	}
	transport := newTransport()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		withBody(w, r, func(body []byte) {
			out := template.WithContext(r.Context())
			out.Header = r.Header
			// Not of the pool's: the transport may read it after it has the answer.
			out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(bytes.Clone(body))), int64(len(body))
			res, err := transport.RoundTrip(out)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer res.Body.Close()
			answer, err := readBody(res.Body, res.ContentLength, nil)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			h := w.Header()
			for _, name := range []string{"Content-Type", "Mcp-Session-Id"} {
				if v := res.Header[name]; v != nil {
					h[name] = v
				}
			}
			if len(answer) == 0 {
				w.WriteHeader(res.StatusCode)
				return
			}
			writeBody(w, answer)
		})
	}), nil
}

// readBody reads a body into buf, which grows where it must. size is negative
// where it is not known.
func readBody(body io.Reader, size int64, buf []byte) ([]byte, error) {
	if size < 0 {
		return io.ReadAll(body)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(body, buf); err != nil {
		return buf, err
	}
	return buf, nil
}

// writeBody writes a body whole, so that it has a length.
func writeBody(w http.ResponseWriter, body []byte) {
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = w.Write(body) // a client that has gone needs no answer
}
