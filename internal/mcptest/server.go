package mcptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Server is a scripted MCP server. It serves byte streams with [Server.ServeStdio]
// and Streamable HTTP as an http.Handler, any number of them at once.
type Server struct {
	script Script
	child  *child // nil in memory
	done   chan struct{}
	calls  sync.WaitGroup

	mu        sync.Mutex
	stopped   bool
	tools     []tool
	handlers  map[string]Handler
	faults    []*Fault
	running   map[*call]bool
	listening map[*call]bool // subscriptions/listen of the modern era
	sessions  map[*session]bool
	cancelled []string
	received  []Received
	asked     int
	minted    int
}

// Received is a message that came, with the headers that it came with.
type Received struct {
	Message
	Header http.Header // nil on byte streams
}

// Handler answers a method in place of the server: it returns a result object.
type Handler func(params json.RawMessage) (result string, err error)

// session is what a legacy client has after initialize, or one byte stream.
type session struct {
	id      string
	version string // negotiated by initialize; "" before
	caps    json.RawMessage
	send    func([]byte) // a message that belongs to no call
	raw     func([]byte) // bytes that are no message; nil over HTTP
	hangUp  func()       // nil over HTTP
	asks    map[string]chan Message
	uris    []string // subscribed to
	level   string
	streams map[string]*stream
}

// call is one request under way.
type call struct {
	Message
	srv    *Server
	sess   *session
	modern bool
	header http.Header
	send   func([]byte) // a message on the call's own stream
	cut    func()       // breaks the call's own stream; nil on byte streams

	stop     chan struct{} // closed when nobody waits for the answer any more
	stopOnce sync.Once
	mute     bool // cancelled: nothing more may be sent; guarded by srv.mu
	status   int  // HTTP status of the answer; set before the first send
}

// NewServer makes a server that is closed when the test ends.
func NewServer(t testing.TB, script Script) *Server {
	t.Helper()
	s := newServer(script)
	t.Cleanup(s.Close)
	return s
}

func newServer(script Script) *Server {
	s := &Server{
		script: script, done: make(chan struct{}), handlers: map[string]Handler{},
		running: map[*call]bool{}, listening: map[*call]bool{}, sessions: map[*session]bool{},
	}
	for _, t := range allTools() {
		if script.Only == nil || slices.Contains(script.Only, t.name) {
			s.tools = append(s.tools, t)
		}
	}
	for _, definition := range script.Tools {
		s.tools = append(s.tools, customTool(string(definition)))
	}
	for _, f := range script.Faults {
		s.Arm(f)
	}
	return s
}

// Close ends every call and stream and waits for them. Byte streams end when
// their input does.
func (s *Server) Close() {
	s.halt()
	s.calls.Wait()
}

// halt makes every call end.
func (s *Server) halt() {
	s.mu.Lock()
	if !s.stopped {
		s.stopped = true
		close(s.done)
	}
	running := make([]*call, 0, len(s.running))
	for c := range s.running {
		running = append(running, c)
	}
	s.mu.Unlock()
	for _, c := range running {
		c.end()
	}
}

// Arm adds a fault. Faults are tried in the order in which they were armed.
func (s *Server) Arm(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Disarm removes all faults.
func (s *Server) Disarm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Handle makes h answer a method, known or not.
func (s *Server) Handle(method string, h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[method] = h
}

// AddTool adds a tool that echoes, given its definition, and announces it.
func (s *Server) AddTool(definition string) {
	s.mu.Lock()
	s.tools = append(s.tools, customTool(definition))
	s.mu.Unlock()
	s.announce("tools")
}

// RemoveTool removes a tool and announces it.
func (s *Server) RemoveTool(name string) {
	s.mu.Lock()
	s.tools = slices.DeleteFunc(s.tools, func(t tool) bool { return t.name == name })
	s.mu.Unlock()
	s.announce("tools")
}

// Cancelled returns the ids, as JSON, of the calls that clients cancelled.
func (s *Server) Cancelled() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.cancelled)
}

// Received returns every message that came, in order.
func (s *Server) Received() []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.received)
}

// Sessions returns how many legacy clients are connected.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// ForgetSessions loses every session over HTTP, as a restart would.
func (s *Server) ForgetSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.sessions {
		if sess.raw == nil {
			delete(s.sessions, sess)
			for _, st := range sess.streams {
				st.end()
			}
		}
	}
}

// fault returns the fault that is due for a message, nil when there is none.
func (s *Server) fault(at stage, method, name string) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Do.stage() != at || (f.Method != "" && f.Method != method) || (f.Name != "" && f.Name != name) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		due := *f
		if f.Times == 1 {
			s.faults = slices.Delete(s.faults, i, i+1)
		} else if f.Times > 1 {
			f.Times--
		}
		return &due
	}
	return nil
}

// announce says that the list of tools, prompts or resources has changed.
func (s *Server) announce(kind string) {
	s.broadcast("notifications/"+kind+"/list_changed", "{}",
		func(sess *session) bool { return sess.version != "" },
		func(filter json.RawMessage) bool { return string(get(filter, kind+"ListChanged")) == "true" })
}

// broadcast sends a notification to the legacy sessions and the modern
// subscriptions that want it.
func (s *Server) broadcast(method, params string, legacy func(*session) bool, modern func(json.RawMessage) bool) {
	var sends []func()
	s.mu.Lock()
	for sess := range s.sessions {
		if legacy(sess) {
			sends = append(sends, func() { sess.send(notification(method, params)) })
		}
	}
	for c := range s.listening {
		if modern(get(c.Params, "notifications")) {
			sends = append(sends, func() { c.send(notification(method, withMeta(params, subscription(c)))) })
		}
	}
	s.mu.Unlock()
	for _, send := range sends {
		send()
	}
}

func subscription(c *call) string {
	return `"io.modelcontextprotocol/subscriptionId":` + string(c.ID)
}

// end makes the call stop waiting.
func (c *call) end() { c.stopOnce.Do(func() { close(c.stop) }) }

// wait waits, and tells whether the call is still wanted.
func (c *call) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.stop:
		return false
	}
}

// say sends a message unless the call was cancelled.
func (c *call) say(message []byte) {
	c.srv.mu.Lock()
	mute := c.mute
	c.srv.mu.Unlock()
	if !mute {
		c.send(message)
	}
}

// name returns params.name.
func (c *call) name() string { return text(get(c.Params, "name")) }

// meta returns a member of the request's _meta.
func (c *call) meta(key string) json.RawMessage { return get(c.Params, "_meta", key) }

// note keeps what came.
func (s *Server) note(m Message, header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, Received{m, header})
}

// begin registers a call; a call that comes after the end ends at once.
func (s *Server) begin(c *call) {
	s.mu.Lock()
	s.running[c] = true
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		c.end()
	}
}

func (s *Server) finish(c *call) {
	s.mu.Lock()
	delete(s.running, c)
	s.mu.Unlock()
}

// incoming takes a notification or a reply of a client.
func (s *Server) incoming(sess *session, m *Message) {
	switch {
	case m.IsReply():
		s.mu.Lock()
		ch := sess.asks[string(m.ID)]
		delete(sess.asks, string(m.ID))
		s.mu.Unlock()
		if ch != nil {
			ch <- *m
		}
	case m.Method == "notifications/cancelled":
		s.cancel(sess, string(get(m.Params, "requestId")))
	}
}

// cancel ends the call of that id, which stays silent.
func (s *Server) cancel(sess *session, id string) {
	s.mu.Lock()
	var target *call
	for c := range s.running {
		if c.sess == sess && string(c.ID) == id {
			target = c
			c.mute = true
		}
	}
	s.cancelled = append(s.cancelled, id)
	s.mu.Unlock()
	if target != nil {
		target.end()
	}
}

// problem is an error that a client gets.
type problem struct {
	code    int
	message string
	data    string // JSON, or ""
	status  int    // over HTTP; 0 is 200
}

func (p *problem) Error() string { return p.message }

func (p *problem) object() string {
	return `{"code":` + strconv.Itoa(p.code) + `,"message":` + quote(p.message) + member("data", p.data) + `}`
}

// The two ways in which a method does not answer.
var (
	errSilent = errors.New("no answer")
	errDead   = errors.New("died")
)

// run answers a request, or does what its fault says.
func (s *Server) run(c *call) {
	f := s.fault(onAnswer, c.Method, c.name())
	if f == nil {
		f = &Fault{}
	}
	if reply := s.reply(c, f); reply != nil {
		s.deliver(c, f, reply)
	}
}

// reply composes the answer, nil when there is none.
func (s *Server) reply(c *call, f *Fault) []byte {
	switch f.Do {
	case Silence:
		// The timer only keeps the runtime from ending a program in which nothing
		// else can happen: a child whose loop waits here would not be silent.
		timer := time.AfterFunc(time.Hour, func() {})
		defer timer.Stop()
		<-c.stop
		return nil
	case Exit:
		s.die(c, f.Code)
		return nil
	case Error:
		object := f.Raw
		if object == "" {
			object = (&problem{code: -32603, message: "as the script says"}).object()
		}
		return failure(c.ID, object)
	case Result:
		return result(c.ID, f.Raw)
	case Late:
		timer := time.NewTimer(f.delay())
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.done:
			return nil
		}
	case Huge:
		return result(c.ID, c.text(filler(f.Bytes), false))
	case BadUTF8:
		return result(c.ID, c.text("caf@", false)[:len(c.text("caf@", false))-len(`@"}]}`)]+"\xff\"}]}")
	}
	body, err := s.answer(c)
	var p *problem
	switch {
	case errors.Is(err, errSilent), errors.Is(err, errDead):
		return nil
	case errors.As(err, &p):
		c.status = p.status
		return failure(c.ID, p.object())
	case err != nil:
		return failure(c.ID, (&problem{code: -32603, message: err.Error()}).object())
	}
	return result(c.ID, body)
}

// deliver sends the answer as the fault says.
func (s *Server) deliver(c *call, f *Fault, reply []byte) {
	switch f.Do {
	case Raw:
		c.say(fmt.Append(nil, expandID(f.Raw, c.ID)))
	case Late:
		c.send(reply)
	case OtherID:
		m, err := ParseMessage(reply)
		if err == nil {
			c.say(result([]byte(`"nobody"`), string(m.Result)))
		}
	case Twice:
		c.say(reply)
		c.say(reply)
	case Noise:
		if c.sess.raw != nil {
			c.sess.raw([]byte(f.Raw + "\n"))
		}
		c.say(reply)
	case Multiline:
		c.say(append([]byte("{\r\n "), reply[1:]...))
	case Crash:
		s.crash(c, reply)
	default:
		c.say(reply)
	}
}

// crash writes half of the answer and dies.
func (s *Server) crash(c *call, reply []byte) {
	if c.sess.raw != nil {
		c.sess.raw(reply[:len(reply)/2])
	}
	s.die(c, 1)
}

// die ends the process, or what stands for it in memory.
func (s *Server) die(c *call, code int) {
	switch {
	case s.child != nil:
		s.child.exit(code)
	case c.sess.hangUp != nil:
		c.sess.hangUp()
	default:
		c.cut()
	}
}
