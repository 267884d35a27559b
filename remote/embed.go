package remote

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// Embed serves the API of this process over memory and returns a client of it.
// ctx is the lifetime of all requests; the client must be closed, which waits
// until the last one has ended.
func Embed(ctx context.Context, api http.Handler) *Client {
	ctx, cancel := context.WithCancel(ctx)
	l := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
	var conns sync.WaitGroup
	server := &http.Server{ //nolint:gosec // no timeouts: the only client is ourselves
		BaseContext: func(net.Listener) context.Context { return ctx },
		Handler:     api,
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew: // within Serve
				conns.Add(1)
			case http.StateClosed, http.StateHijacked: // behind the last handler
				conns.Done()
			}
		},
	}
	var serve sync.WaitGroup
	serve.Go(func() { _ = server.Serve(l) }) // it ends when it is closed, and says so
	c, _ := New(Options{Dial: l.dial})       // only an address can be wrong
	c.stop = func() error {
		cancel()
		err := server.Close()
		serve.Wait() // no new connections begin behind this
		c.http.CloseIdleConnections()
		conns.Wait()
		return err
	}
	return c
}

// memory is a listener whose connections are pipes.
type memory struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

var errClosed = errors.New("the embedded API is closed")

func (l *memory) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, errClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements [net.Listener].
func (l *memory) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *memory) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *memory) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }
