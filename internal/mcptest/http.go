package mcptest

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// HTTPServer is a Server that listens on a loopback address.
type HTTPServer struct {
	*Server
	URL string
}

// ListenHTTP starts a Server over Streamable HTTP that ends with the test.
func ListenHTTP(t testing.TB, script Script) *HTTPServer {
	t.Helper()
	s := newServer(script)
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		s.halt()
		h.Close()
		s.Close()
	})
	return &HTTPServer{s, h.URL + "/mcp"}
}

// ServeHTTP serves Streamable HTTP of the script's eras on any path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if token := s.script.HTTP.Token; token != "" && r.Header.Get("Authorization") != "Bearer "+token {
		w.Header().Set("WWW-Authenticate", `Bearer realm="mcptest"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodPost {
		s.post(w, r)
		return
	}
	if len(s.script.versions(false)) == 0 || (r.Method != http.MethodGet && r.Method != http.MethodDelete) {
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	if f := s.fault(onArrival, r.Method, ""); f != nil {
		s.refuse(w, f)
		return
	}
	sess := s.session(w, r)
	switch {
	case sess == nil:
	case r.Method == http.MethodDelete:
		s.drop(sess)
		w.WriteHeader(http.StatusNoContent)
	default:
		s.get(w, r, sess)
	}
}

// session finds the session of a legacy request, or answers that there is none.
func (s *Server) session(w http.ResponseWriter, r *http.Request) *session {
	id := r.Header.Get("Mcp-Session-Id")
	if id == "" {
		http.Error(w, "Mcp-Session-Id is missing", http.StatusBadRequest)
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for sess := range s.sessions {
		if sess.id == id {
			version := r.Header.Get("Mcp-Protocol-Version")
			if version != "" && !slices.Contains(s.script.versions(false), version) {
				http.Error(w, "unsupported MCP-Protocol-Version", http.StatusBadRequest)
				return nil
			}
			return sess
		}
	}
	http.Error(w, "no such session", http.StatusNotFound)
	return nil
}

func (s *Server) drop(sess *session) {
	s.mu.Lock()
	delete(s.sessions, sess)
	streams := sess.streams
	sess.streams = map[string]*stream{}
	s.mu.Unlock()
	for _, st := range streams {
		st.end()
	}
}

// refuse answers a request as a fault says.
func (s *Server) refuse(w http.ResponseWriter, f *Fault) {
	if f.Do == Forget {
		s.ForgetSessions()
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	for key, value := range f.Header {
		w.Header().Set(key, value)
	}
	w.WriteHeader(max(f.Status, http.StatusOK))
	_, _ = io.WriteString(w, f.Raw)
}

// post takes one message.
func (s *Server) post(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	m, err := ParseMessage(body)
	s.note(m, r.Header.Clone())
	switch {
	case err != nil:
		answerError(w, http.StatusBadRequest, nil, &problem{code: -32700, message: err.Error()})
		return
	case !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
		return
	case !strings.Contains(r.Header.Get("Accept"), "application/json") ||
		!strings.Contains(r.Header.Get("Accept"), "text/event-stream"):
		http.Error(w, "Accept must list application/json and text/event-stream", http.StatusNotAcceptable)
		return
	}
	if f := s.fault(onArrival, m.Method, text(get(m.Params, "name"))); f != nil {
		s.refuse(w, f)
		return
	}
	version := r.Header.Get("Mcp-Protocol-Version")
	if isModern(version) || isModernRequest(&m) {
		s.postModern(w, r, &m)
		return
	}
	s.postLegacy(w, r, &m)
}

func (s *Server) postModern(w http.ResponseWriter, r *http.Request, m *Message) {
	if len(s.script.versions(true)) == 0 {
		// A server of 2025 knows neither the version nor the session.
		http.Error(w, "Bad Request: unsupported protocol version", http.StatusBadRequest)
		return
	}
	if !m.IsRequest() {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	if p := headerMismatch(r, m); p != nil {
		answerError(w, http.StatusBadRequest, m.ID, p)
		return
	}
	st := newStream("")
	c := &call{
		Message: *m, srv: s, sess: &session{asks: map[string]chan Message{}}, modern: true,
		header: r.Header, send: st.add, cut: st.cut, stop: make(chan struct{}),
	}
	s.start(c, st)
	if !s.respond(w, r, c, st) {
		s.cancel(c.sess, string(c.ID)) // the closed stream is the cancellation
	}
}

// headerMismatch checks what modern requests repeat in headers.
func headerMismatch(r *http.Request, m *Message) *problem {
	want := map[string]string{
		"Mcp-Protocol-Version": text(get(m.Params, "_meta", metaVersion)),
		"Mcp-Method":           m.Method,
	}
	switch m.Method {
	case "tools/call", "prompts/get":
		want["Mcp-Name"] = text(get(m.Params, "name"))
	case "resources/read":
		want["Mcp-Name"] = text(get(m.Params, "uri"))
	}
	if want["Mcp-Protocol-Version"] == "" {
		delete(want, "Mcp-Protocol-Version") // admit says what is missing
	}
	for key, value := range want {
		if got := r.Header.Get(key); decodeHeader(got) != value {
			return &problem{code: -32020, message: fmt.Sprintf("header mismatch: %s is %q, the body says %q", key, got, value)}
		}
	}
	return nil
}

// encodeHeader and decodeHeader are the value encoding of 2026-07-28,
// streamable-http, value encoding.
func encodeHeader(value string) string {
	plain := value == strings.Trim(value, " \t") && !strings.HasPrefix(value, "=?base64?")
	for _, r := range value {
		plain = plain && (r == '\t' || (r >= ' ' && r <= '~'))
	}
	if plain {
		return value
	}
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(value)) + "?="
}

func decodeHeader(value string) string {
	coded, ok := strings.CutPrefix(value, "=?base64?")
	if !ok || !strings.HasSuffix(coded, "?=") {
		return value
	}
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(coded, "?="))
	if err != nil {
		return value
	}
	return string(plain)
}

func (s *Server) postLegacy(w http.ResponseWriter, r *http.Request, m *Message) {
	if len(s.script.versions(false)) == 0 {
		c := &call{Message: *m, srv: s, sess: &session{}}
		if p, ok := s.admit(c).(*problem); ok { //nolint:errorlint // admit returns it bare
			answerError(w, http.StatusBadRequest, m.ID, p)
		}
		return
	}
	var sess *session
	if m.Method == "initialize" {
		sess = s.newSession()
		w.Header().Set("Mcp-Session-Id", sess.id)
	} else if sess = s.session(w, r); sess == nil {
		return
	}
	if !m.IsRequest() {
		s.incoming(sess, m)
		w.WriteHeader(http.StatusAccepted)
		return
	}
	s.mu.Lock()
	s.minted++
	st := newStream("post" + strconv.Itoa(s.minted))
	sess.streams[st.id] = st
	s.mu.Unlock()
	c := &call{
		Message: *m, srv: s, sess: sess, header: r.Header,
		send: st.add, cut: st.cut, stop: make(chan struct{}),
	}
	if s.script.HTTP.Replies == "json" {
		// Only the reply fits; the rest goes where it can.
		c.send = func(message []byte) {
			if p, err := ParseMessage(message); err == nil && p.Method != "" {
				sess.send(message)
				return
			}
			st.add(message)
		}
	}
	s.start(c, st)
	s.respond(w, r, c, st) // a broken connection is no cancellation
}

func (s *Server) newSession() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.minted++
	alone := newStream("get")
	sess := &session{
		id:   "session-" + strconv.Itoa(s.minted) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36),
		asks: map[string]chan Message{}, streams: map[string]*stream{"get": alone}, send: alone.add,
	}
	s.sessions[sess] = true
	return sess
}

// start runs the call; the stream ends with it.
func (s *Server) start(c *call, st *stream) {
	s.begin(c)
	s.calls.Go(func() {
		defer st.end()
		defer s.finish(c)
		s.run(c)
	})
}

// get is the legacy stream for what belongs to no call, or the rest of one that
// broke.
func (s *Server) get(w http.ResponseWriter, r *http.Request, sess *session) {
	id, after := "get", -1
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		name, n, _ := strings.Cut(last, "/")
		number, err := strconv.Atoi(n)
		if err != nil {
			http.Error(w, "unknown Last-Event-ID", http.StatusBadRequest)
			return
		}
		id, after = name, number
	}
	s.mu.Lock()
	st := sess.streams[id]
	s.mu.Unlock()
	if st == nil {
		http.Error(w, "unknown Last-Event-ID", http.StatusBadRequest)
		return
	}
	s.events(w, r, st, after+1, s.fault(onBody, r.Method, ""))
}

// respond writes the call's stream as one response; false when the client went
// away before its end.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, c *call, st *stream) bool {
	f := s.fault(onBody, c.Method, c.name())
	if s.script.HTTP.Replies == "sse" && !c.modern {
		return s.events(w, r, st, 0, f)
	}
	first, ok := st.next(0, r.Context().Done())
	if !ok {
		if st.isBroken() {
			panic(http.ErrAbortHandler)
		}
		if r.Context().Err() == nil {
			w.WriteHeader(http.StatusAccepted) // the script stayed silent to the end
		}
		return r.Context().Err() == nil
	}
	m, err := ParseMessage(first)
	if (err == nil && m.Method != "") || (s.script.HTTP.Replies == "sse" && c.status == 0) {
		return s.events(w, r, st, 0, f)
	}
	w.Header().Set("Content-Type", "application/json")
	f.label(w)
	if c.status != 0 {
		w.WriteHeader(c.status)
	}
	s.body(w, r, first, f)
	if st.isBroken() {
		panic(http.ErrAbortHandler)
	}
	return true
}

// events writes messages of a stream from number n on, as server-sent events;
// false when the client went away before its end.
func (s *Server) events(w http.ResponseWriter, r *http.Request, st *stream, n int, f *Fault) bool {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	f.label(w)
	w.WriteHeader(http.StatusOK)
	numbered := s.script.HTTP.Resumable && st.id != ""
	if numbered && n == 0 {
		_, _ = fmt.Fprintf(w, "id: %s/-1\nretry: %d\ndata:\n\n", st.id, s.script.HTTP.Retry)
	}
	_ = http.NewResponseController(w).Flush()
	for ; ; n++ {
		m, ok := st.next(n, r.Context().Done(), s.done)
		if !ok {
			break
		}
		event := "event: message\ndata: " + string(oneLine(m)) + "\n\n"
		if numbered {
			event = "id: " + st.id + "/" + strconv.Itoa(n) + "\n" + event
		}
		s.body(w, r, []byte(event), f)
	}
	if st.isBroken() {
		panic(http.ErrAbortHandler)
	}
	return r.Context().Err() == nil
}

// label sets the headers that a fault has; f may be nil.
func (f *Fault) label(w http.ResponseWriter) {
	if f != nil {
		for key, value := range f.Header {
			w.Header().Set(key, value)
		}
	}
}

// body writes a part of a body as the fault says, which may be nil.
func (s *Server) body(w http.ResponseWriter, r *http.Request, body []byte, f *Fault) {
	flush := http.NewResponseController(w).Flush
	switch {
	case f != nil && f.Do == Cut:
		_, _ = w.Write(body[:len(body)/2])
		_ = flush()
		panic(http.ErrAbortHandler)
	case f != nil && f.Do == Slow:
		ticker := time.NewTicker(max(f.delay()/time.Duration(len(body)), time.Microsecond))
		defer ticker.Stop()
		for i := range body {
			select {
			case <-ticker.C:
			case <-r.Context().Done():
				return
			case <-s.done:
				return
			}
			_, _ = w.Write(body[i : i+1])
			_ = flush()
		}
	default:
		_, _ = w.Write(body)
		_ = flush()
	}
}

func answerError(w http.ResponseWriter, status int, id []byte, p *problem) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(failure(id, p.object()))
}
