package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a backend that a test scripts; what it leaves nil echoes.
type fake struct {
	handle   func(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error)
	describe func(ctx context.Context) (wire.Info, error)

	mu       sync.Mutex
	notified []string // methods of the notifications that came
	clients  []*wire.Client
	watchers map[int]func(wire.Notification)
	n        int
}

func (f *fake) Handle(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	f.mu.Lock()
	f.clients = append(f.clients, r.Client)
	f.mu.Unlock()
	if f.handle != nil {
		return f.handle(ctx, r, sink)
	}
	return echo(r)
}

// echo answers with what the request says.
func echo(r *wire.Request) (wire.Reply, error) {
	switch r.Method {
	case "tools/list":
		return reply(`{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`)
	case "tools/call":
		args := wire.Member(r.Get(wire.FieldParams), "arguments")
		text := wire.AppendString(nil, r.Name+" "+string(args))
		return reply(`{"content":[{"type":"text","text":` + string(text) + `}],"big":9007199254740993}`)
	}
	return wire.Reply{}, wire.Errorf(wire.CodeMethodNotFound, "method not found: %s", r.Method)
}

func reply(result string) (wire.Reply, error) { return wire.ResultReply([]byte(result)) }

// failure is an error object of a server.
func failure(object string) (wire.Reply, error) {
	e, err := wire.Scan([]byte(`{"jsonrpc":"2.0","id":0,"error":` + object + `}`))
	return wire.Reply{Envelope: e}, err
}

func (f *fake) Notify(_ context.Context, _ *wire.Client, e wire.Envelope) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.notified = append(f.notified, e.Method)
	return nil
}

func (f *fake) Describe(ctx context.Context, _ *wire.Client) (wire.Info, error) {
	if f.describe != nil {
		return f.describe(ctx)
	}
	return wire.Info{
		ServerInfo:   []byte(`{"name":"fake","version":"1", "x":1.10}`),
		Capabilities: []byte(`{"tools":{"listChanged":true},"prompts":{"listChanged":true}}`),
		Instructions: "be \"good\"",
	}, nil
}

func (f *fake) Watch(w func(wire.Notification)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers == nil {
		f.watchers = map[int]func(wire.Notification){}
	}
	f.n++
	n := f.n
	f.watchers[n] = w
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, n)
	}
}

// announce tells all who watch.
func (f *fake) announce(raw string) {
	e, err := wire.Scan([]byte(raw))
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.watchers {
		w(wire.Notification{Method: e.Method, Raw: e.Raw})
	}
}

func (f *fake) watching() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watchers)
}

// pipes is a listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// rig is a Server behind a real HTTP server over memory. The path names the
// endpoint, the header X-Principal the principal.
type rig struct {
	t      *testing.T
	edge   *Server
	b      *fake
	pipes  *pipes
	client *http.Client
}

func newRig(t *testing.T, o Options, b *fake) *rig {
	t.Helper()
	o.Principal = func(r *http.Request) string { return r.Header.Get("X-Principal") }
	s := &rig{t: t, edge: New(o), b: b, pipes: &pipes{conns: make(chan net.Conn), done: make(chan struct{})}}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.edge.Serve(w, r, r.URL.Path, b)
	})}
	transport := &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return s.pipes.dial(ctx) },
		MaxIdleConnsPerHost: 100, DisableCompression: true,
	}
	s.client = &http.Client{Transport: transport}
	var served sync.WaitGroup
	served.Go(func() { _ = web.Serve(s.pipes) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.edge.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		transport.CloseIdleConnections()
		_ = web.Close()
		served.Wait()
	})
	return s
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

// rpc gives the code of the JSON-RPC error, 0 when there is none.
func (a answer) rpc(t *testing.T) int {
	t.Helper()
	var m struct {
		JSONRPC string `json:"jsonrpc"`
		Error   *struct{ Code int }
	}
	if a.body == "" {
		return 0
	}
	if err := json.Unmarshal([]byte(a.body), &m); err != nil || m.JSONRPC != "2.0" {
		t.Fatalf("not JSON-RPC: %s", a.body)
	}
	if m.Error == nil {
		return 0
	}
	return m.Error.Code
}

// heads builds headers from pairs; a pair with an empty value removes the one.
func heads(pairs ...string) http.Header {
	h := http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}
	for i := 0; i < len(pairs); i += 2 {
		h.Del(pairs[i])
		for v := range strings.SplitSeq(pairs[i+1], "|") {
			if v != "" {
				h.Add(pairs[i], v)
			}
		}
	}
	return h
}

func (s *rig) open(ctx context.Context, method, path string, h http.Header, body string) *http.Response {
	s.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://x"+path, r)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header = h
	res, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	return res
}

func (s *rig) do(method, path string, h http.Header, body string) answer {
	s.t.Helper()
	res := s.open(s.t.Context(), method, path, h, body)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(bytes.TrimSpace(b))}
}

func (s *rig) post(h http.Header, body string) answer {
	s.t.Helper()
	return s.do("POST", "/mcp", h, body)
}

// initialize begins a session and returns its id.
func (s *rig) initialize(version string, pairs ...string) string {
	s.t.Helper()
	a := s.post(heads(pairs...), `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"`+version+
		`","capabilities":{"sampling":{}},"clientInfo":{"name":"t","version":"1"}}}`)
	if a.status != 200 || a.rpc(s.t) != 0 {
		s.t.Fatalf("initialize: %d %s", a.status, a.body)
	}
	return a.header.Get(headerSession)
}

const testMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}`

// modern gives the headers of a modern request.
func modern(method, name string, pairs ...string) http.Header {
	return heads(append([]string{headerVersion, modernVersion, headerMethod, method, headerName, name}, pairs...)...)
}

// events reads the events of a stream.
type events struct {
	t    *testing.T
	res  *http.Response
	read *wire.SSEReader
}

func newEvents(t *testing.T, res *http.Response) *events {
	t.Helper()
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("no stream: %d %v", res.StatusCode, res.Header)
	}
	return &events{t, res, wire.NewSSEReader(res.Body, 1<<20)}
}

// next returns the next message, "" at the end.
func (e *events) next() string {
	e.t.Helper()
	ev, err := e.read.Next()
	if err != nil {
		return ""
	}
	if ev.Type != "message" {
		e.t.Errorf("an event of type %q", ev.Type)
	}
	return string(ev.Data)
}

func (e *events) close() { e.res.Body.Close() }

// eventually waits until ok, or fails.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
