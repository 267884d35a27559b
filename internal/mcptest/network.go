package mcptest

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
)

// network is a listener in memory, so that HTTP works in a synctest bubble.
type network struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// InMemory serves h in memory until the test ends. It returns a client for
// it; the host of the URL does not matter.
func InMemory(t testing.TB, h http.Handler) *http.Client {
	t.Helper()
	n := &network{conns: make(chan net.Conn), done: make(chan struct{})}
	server := &http.Server{Handler: h} //nolint:gosec // nobody is slow in memory
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(n) })
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
	return &http.Client{Transport: &http.Transport{DialContext: n.dial, DisableKeepAlives: true}}
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case n.conns <- server:
		return client, nil
	case <-n.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.conns:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *network) Close() error {
	n.once.Do(func() { close(n.done) })
	return nil
}

// Addr implements net.Listener.
func (n *network) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "memory"} }
