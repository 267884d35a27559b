package mcptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Options say who a [Client] is. The zero Options are a legacy client without
// capabilities.
type Options struct {
	Version      string            // which sets the era; [Legacy] when empty
	Token        string            // bearer token, over HTTP
	Capabilities string            // ClientCapabilities; "{}" when empty
	Info         string            // Implementation; a name and a version when empty
	Header       map[string]string // further headers, over HTTP; they win over the usual ones
	Timeout      time.Duration     // for each reply; 10 s when 0
	HTTP         *http.Client      // one without a connection pool when nil
}

// Answer answers a request of a server to the client with a result object, or
// with an error. It runs in the goroutine that reads: it may not call.
type Answer func(params json.RawMessage) (result string, err error)

// Client is a raw MCP client. Its methods may be called concurrently.
type Client struct {
	Transcript *Transcript

	t       testing.TB
	o       Options
	carrier carrier
	session func() string // id of the legacy session, over HTTP

	mu      sync.Mutex
	lastID  int
	answers map[string]Answer
}

// carrier is how a client's messages travel.
type carrier interface {
	// send sends a message; what belongs to the reply goes to st, which may be nil.
	send(message []byte, m *Message, st *Stream) error
	// abort says that the reply is not wanted any more.
	abort(st *Stream)
	close()
}

func newClient(t testing.TB, o Options) *Client {
	if o.Version == "" {
		o.Version = Legacy
	}
	if o.Capabilities == "" {
		o.Capabilities = "{}"
	}
	if o.Info == "" {
		o.Info = `{"name":"mcptest","version":"1"}`
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	return &Client{
		Transcript: &Transcript{}, t: t, o: o, answers: map[string]Answer{},
		session: func() string { return "" },
	}
}

// Reply is all that came of a request.
type Reply struct {
	Message             // the reply itself; zero when there was none
	Before  []Message   // notifications and requests that came first, in order
	Status  int         // HTTP status; 0 on byte streams
	Header  http.Header // nil on byte streams
	Body    []byte      // the HTTP body, unless it was a stream of events
	Err     error       // why there was no reply
}

// Text returns the text of the first content of a tool's result.
func (r *Reply) Text() string {
	var content []json.RawMessage
	if json.Unmarshal(get(r.Result, "content"), &content) != nil || len(content) == 0 {
		return ""
	}
	return text(get(content[0], "text"))
}

// Structured returns the bytes of structuredContent.
func (r *Reply) Structured() string { return string(get(r.Result, "structuredContent")) }

// Code returns the code of the JSON-RPC error, 0 when it is none.
func (r *Reply) Code() int {
	n, err := strconv.Atoi(string(get(r.Error, "code")))
	if err != nil {
		return 0
	}
	return n
}

// Open does what the era wants before the first call, and fails the test if
// that fails: initialize and notifications/initialized, or server/discover.
func (c *Client) Open() Reply {
	c.t.Helper()
	r := c.Discover
	if !isModern(c.o.Version) {
		r = c.Initialize
	}
	reply := r()
	if reply.Err != nil || reply.Result == nil {
		c.t.Fatalf("open a %s session: %v %s (status %d)", c.o.Version, reply.Err, reply.Raw, reply.Status)
	}
	return reply
}

// Initialize sends initialize and, if that succeeds, notifications/initialized.
func (c *Client) Initialize() Reply {
	reply := c.Call("initialize", `{"protocolVersion":`+quote(c.o.Version)+`,"capabilities":`+c.o.Capabilities+
		`,"clientInfo":`+c.o.Info+`}`)
	if reply.Result != nil {
		if err := c.Notify("notifications/initialized", ""); err != nil {
			reply.Err = err
		}
	}
	return reply
}

// Discover sends server/discover.
func (c *Client) Discover() Reply { return c.Call("server/discover", "") }

// Tool calls a tool; args is a JSON object.
func (c *Client) Tool(name, args string) Reply {
	return c.Call("tools/call", `{"name":`+quote(name)+`,"arguments":`+args+`}`)
}

// Call sends a request with those params, a JSON object or "", and waits for
// the reply. A modern client adds the _meta that every request must have.
func (c *Client) Call(method, params string) Reply { return c.Go(method, params).Wait() }

// Go sends a request and returns what will come of it.
func (c *Client) Go(method, params string) *Stream {
	c.mu.Lock()
	c.lastID++
	id := strconv.Itoa(c.lastID)
	c.mu.Unlock()
	return c.GoID(id, method, params)
}

// GoID is Go with an id of the caller's choice, as JSON.
func (c *Client) GoID(id, method, params string) *Stream {
	if isModern(c.o.Version) {
		params = withMeta(params, `"`+metaVersion+`":`+quote(c.o.Version)+
			`,"io.modelcontextprotocol/clientInfo":`+c.o.Info+
			`,"io.modelcontextprotocol/clientCapabilities":`+c.o.Capabilities)
	}
	return c.SendRaw(request(id, method, params))
}

// SendRaw sends bytes as they are. If they are a request, its reply comes on the
// stream; if not, the stream has the HTTP response.
func (c *Client) SendRaw(message []byte) *Stream {
	m, _ := ParseMessage(message)
	st := newStreamFor(c, &m)
	c.Transcript.add(Entry{Sent: true, Message: m})
	if err := c.carrier.send(message, &m, st); err != nil {
		st.close(err)
	}
	return st
}

// Notify sends a notification; params is a JSON object or "".
func (c *Client) Notify(method, params string) error {
	st := c.SendRaw(notification(method, params))
	reply := st.Wait()
	if reply.Err != nil {
		return fmt.Errorf("notify %s: %w", method, reply.Err)
	}
	if reply.Status >= http.StatusBadRequest {
		return fmt.Errorf("notify %s: status %d: %s", method, reply.Status, reply.Body)
	}
	return nil
}

// OnRequest makes a answer the server's requests of that method; others get the
// error -32601.
func (c *Client) OnRequest(method string, a Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[method] = a
}

// Listen opens a modern subscription; filter is its notifications object.
func (c *Client) Listen(filter string) *Stream {
	return c.Go("subscriptions/listen", `{"notifications":`+filter+`}`)
}

// Close ends the client: its streams and, for a child process, its server. A
// client made with a testing.TB is closed when the test ends.
func (c *Client) Close() { c.carrier.close() }

// take handles a message that came, on the stream of a reply or on one that
// belongs to none.
func (c *Client) take(m Message, st *Stream) {
	c.Transcript.add(Entry{Message: m, For: st.id})
	if m.IsRequest() {
		c.mu.Lock()
		a := c.answers[m.Method]
		c.mu.Unlock()
		answer := failure(m.ID, unknownMethod(m.Method).object())
		if a != nil {
			body, err := a(m.Params)
			answer = result(m.ID, body)
			if err != nil {
				answer = failure(m.ID, (&problem{code: -32000, message: err.Error()}).object())
			}
		}
		c.SendRaw(answer)
	}
	st.put(m)
}

// Stream is what comes of one request, or a stream that belongs to none.
type Stream struct {
	c     *Client
	id    json.RawMessage
	token json.RawMessage // its progressToken
	done  chan struct{}

	mu        sync.Mutex
	reply     Reply
	read      int           // messages that Next has returned
	changed   chan struct{} // closed and replaced at every change
	abort     func()        // over HTTP
	lastEvent string        // over HTTP
	ended     bool
}

func newStreamFor(c *Client, m *Message) *Stream {
	return &Stream{c: c, id: m.ID, token: m.Get("params", "_meta", "progressToken"), done: make(chan struct{}), changed: make(chan struct{})}
}

var errTimeout = errors.New("timed out")

// Wait waits for the end of the stream, which is the reply where there is one.
func (s *Stream) Wait() Reply {
	timer := time.NewTimer(s.c.o.Timeout)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		s.mu.Lock()
		defer s.mu.Unlock()
		r := s.reply
		r.Err = fmt.Errorf("wait for the reply to %s: %w", s.id, errTimeout)
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reply
}

// Next waits for the next message that is no reply, and fails the test when
// there is none. Call it in the goroutine of the test.
func (s *Stream) Next() Message {
	s.c.t.Helper()
	timer := time.NewTimer(s.c.o.Timeout)
	defer timer.Stop()
	for {
		s.mu.Lock()
		if s.read < len(s.reply.Before) {
			defer s.mu.Unlock()
			s.read++
			return s.reply.Before[s.read-1]
		}
		changed, ended, r := s.changed, s.ended, s.reply
		s.mu.Unlock()
		if ended {
			s.c.t.Fatalf("the stream of %s ended: status %d, %s, %v", s.id, r.Status, r.Raw, r.Err)
		}
		select {
		case <-changed:
		case <-timer.C:
			s.c.t.Fatalf("no further message on the stream of %s", s.id)
		}
	}
}

// Cancel gives the request up as its era and transport want it: by closing the
// stream (modern HTTP) or by notifications/cancelled.
func (s *Stream) Cancel() {
	if s.c.session() == "" && isModern(s.c.o.Version) && s.overHTTP() {
		s.Close()
		return
	}
	_ = s.c.Notify("notifications/cancelled", `{"requestId":`+string(s.id)+`}`)
}

func (s *Stream) overHTTP() bool {
	_, ok := s.c.carrier.(*httpCarrier)
	return ok
}

// Close breaks the stream off without a word, and waits until it has ended.
func (s *Stream) Close() {
	s.c.carrier.abort(s)
	<-s.done
}

func (s *Stream) put(m Message) {
	s.mu.Lock()
	if m.IsReply() {
		s.reply.Message = m
	} else {
		s.reply.Before = append(s.reply.Before, m)
	}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
}

func (s *Stream) close(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	if s.reply.Raw == nil {
		s.reply.Err = err
	}
	close(s.changed)
	s.changed = make(chan struct{})
	close(s.done)
}

// Start runs a server as a child process and connects to it. The command is
// what [Command] returns, or any other; the process is killed when the test ends.
func Start(t testing.TB, cmd *exec.Cmd, o Options) *Client {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Stderr == nil {
		cmd.Stderr = t.Output()
	}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	c := Connect(t, out, in, o)
	t.Cleanup(func() {
		_ = in.Close()
		timer := time.AfterFunc(2*time.Second, func() {
			_ = cmd.Process.Kill()
			_ = out.Close() // a grandchild may hold the other end
		})
		defer timer.Stop()
		c.Close()
		_ = cmd.Wait()
	})
	return c
}

// Cmd makes what [Command] returns into something to [Start].
func Cmd(t testing.TB, script Script) *exec.Cmd {
	t.Helper()
	command, args, env := Command(t, script)
	cmd := exec.CommandContext(t.Context(), command, args...)
	cmd.Env = os.Environ() //nolint:forbidigo // a child in a test inherits
	for key, value := range env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	return cmd
}
