package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// webServer is an MCP server over HTTP that misbehaves on demand: the names of its
// tools say how.
type webServer struct {
	*httptest.Server
	mu       sync.Mutex
	modern   bool // speaks 2026-07-28 as well as legacy
	override func(w http.ResponseWriter, r *http.Request, e wire.Envelope) bool
	requests []seenRequest
	sessions int             // how many were opened
	live     map[string]bool // by id
	noID     bool            // it keeps no sessions
	stream   chan string     // what the GET stream sends, raw; nil answers 405
	streams  int             // how many GET streams were opened
	resumed  map[string]string
	closed   chan struct{}
}

type seenRequest struct {
	from   string
	verb   string
	method string
	header http.Header
	body   string
}

func newWebServer(t testing.TB, modern bool) *webServer {
	t.Helper()
	s := &webServer{modern: modern, live: map[string]bool{}, closed: make(chan struct{}), resumed: map[string]string{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		close(s.closed)
		s.Close()
	})
	return s
}

func (s *webServer) target() Target {
	return Target{
		Kind: shannon.TransportHTTP, URL: s.URL + "/mcp?key=hush", Timeout: 900 * time.Millisecond, MaxMessage: 1 << 20,
		Header: http.Header{"Authorization": {"Bearer hush"}, "X-Team": {"blue"}},
	}
}

func (s *webServer) saw(match func(seenRequest) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.requests, match)
}

func (s *webServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e, _ := wire.Scan(body)
	s.mu.Lock()
	s.requests = append(s.requests, seenRequest{r.RemoteAddr, r.Method, e.Method, r.Header.Clone(), string(body)})
	override := s.override
	s.mu.Unlock()
	if override != nil && override(w, r, e) {
		return
	}
	switch r.Method {
	case http.MethodGet:
		s.get(w, r)
	case http.MethodDelete:
		s.mu.Lock()
		delete(s.live, r.Header.Get("Mcp-Session-Id"))
		s.mu.Unlock()
	default:
		s.post(w, r, e)
	}
}

func sse(w http.ResponseWriter, format string, args ...any) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, format, args...)
	w.(http.Flusher).Flush()
}

func reply(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, format, args...)
}

func (s *webServer) get(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	known := s.noID || s.live[r.Header.Get("Mcp-Session-Id")]
	rest, resumable := s.resumed[r.Header.Get("Last-Event-ID")]
	stream := s.stream
	if stream != nil && known && !resumable {
		s.streams++
	}
	s.mu.Unlock()
	switch {
	case !known:
		w.WriteHeader(http.StatusNotFound)
	case resumable:
		sse(w, "%s", rest)
	case stream == nil:
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		sse(w, ": hello\n\n")
		for {
			select {
			case text, open := <-stream:
				if !open || text == "" {
					return
				}
				sse(w, "%s", text)
			case <-r.Context().Done():
				return
			case <-s.closed:
				return
			}
		}
	}
}

func (s *webServer) post(w http.ResponseWriter, r *http.Request, e wire.Envelope) {
	id := e.Get(wire.FieldID)
	modern := r.Header.Get("Mcp-Protocol-Version") == modernVersion
	switch {
	case modern && !s.modern:
		reply(w, http.StatusBadRequest, `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`)
	case e.Method == "server/discover":
		reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, dualResult)
	case e.Method == "initialize":
		s.mu.Lock()
		s.sessions++
		session := fmt.Sprintf("session-%d", s.sessions)
		s.live[session] = true
		s.mu.Unlock()
		if !s.noID {
			w.Header().Set("Mcp-Session-Id", session)
		}
		reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, initializeResult("2025-11-25"))
	case !modern && !s.noID && !s.isLive(r):
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}`)
	case e.Kind != wire.KindRequest:
		w.WriteHeader(http.StatusAccepted)
	case e.Method == "tools/call":
		s.tool(w, r, e)
	case e.Method == "subscriptions/listen":
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{\"_meta\":{\"io.modelcontextprotocol/subscriptionId\":%s}}}\n\n", id)
		select {
		case <-s.stream: // nil unless the test cuts it
		case <-r.Context().Done():
		case <-s.closed:
		}
	default:
		reply(w, http.StatusNotFound, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no %s"}}`, id, e.Method)
	}
}

func (s *webServer) isLive(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live[r.Header.Get("Mcp-Session-Id")]
}

func (s *webServer) tool(w http.ResponseWriter, r *http.Request, e wire.Envelope) {
	name, _ := e.Text(wire.FieldName)
	id := string(e.Get(wire.FieldID))
	result := `{"jsonrpc":"2.0","id":` + id + `,"result":{"content":[{"type":"text","text":"ok"}]}}`
	note := func(method, params string) string {
		return "data: " + string(wire.AppendNotification(nil, method, []byte(params))) + "\n\n"
	}
	switch name {
	case "json":
		reply(w, 200, "%s", result)
	case "chunked":
		w.Header().Set("Content-Type", "application/json")
		for i := range len(result) {
			fmt.Fprint(w, result[i:i+1])
			if i%20 == 0 {
				w.(http.Flusher).Flush()
			}
		}
	case "sse":
		token := string(e.Get(wire.FieldMetaToken))
		sse(w, ": comment\r\n\r\nevent: ping\ndata: nonsense\n\n%s%s%s%sdata: %s\n\n", note("notifications/progress", `{"progressToken":`+token+`,"progress":1}`),
			note("notifications/message", `{"level":"info","data":"x"}`), note("notifications/tools/list_changed", ""),
			note("notifications/resources/updated", `{"uri":"file:///x"}`), result)
	case "late-end":
		sse(w, "data: %s\n\n", result)
		time.Sleep(2 * time.Millisecond)
	case "open-end": // the reply comes, the stream's end does not
		sse(w, "data: %s\n\n", result)
		<-r.Context().Done()
	case "cut":
		sse(w, "id: %s\nretry: 20\ndata: \n\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"res", id, id)
		s.mu.Lock()
		s.resumed[id] = "id: " + id + "b\ndata:\n\n" // polled once more in vain
		s.resumed[id+"b"] = "data: " + result + "\n\n"
		s.mu.Unlock()
	case "cut-off":
		sse(w, "data: {\"jsonrpc\":\"2.0\",")
	case "batch":
		sse(w, "data: [%s,\ndata: %s]\n\n", wire.AppendNotification(nil, "notifications/message", []byte("{}")), result)
	case "wrong-id":
		reply(w, 200, `{"jsonrpc":"2.0","id":"other","result":{}}`)
	case "no-json":
		reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":{`, id)
	case "html":
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<h1>hello</h1>")
	case "utf8":
		reply(w, 200, "{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"x\":\"\xff\"}}", id)
	case "huge":
		reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":{"x":"%s"}}`, id, strings.Repeat("x", 2<<20))
	case "huge-known":
		w.Header().Set("Content-Length", fmt.Sprint(3<<20))
		reply(w, 200, "%s", strings.Repeat(" ", 3<<20))
	case "huge-sse":
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"x\":\"%s\"}}\n\n", id, strings.Repeat("x", 2<<20))
	case "reset":
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.Close()
		}
	case "short":
		w.Header().Set("Content-Length", "1000")
		reply(w, 200, "%s", result)
	case "slow-body":
		w.Header().Set("Content-Length", "1000")
		reply(w, 200, "%s", result)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case "slow-sse":
		sse(w, ": soon\n\nid: 1\ndata: {\n")
		<-r.Context().Done()
	case "accepted":
		w.WriteHeader(http.StatusAccepted)
	case "rpc-400":
		reply(w, 400, `{"jsonrpc":"2.0","error":{"code":-32602,"message":"no id"}}`)
	case "rpc-500":
		reply(w, 500, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"mine"}}`, id)
	case "redirect":
		http.Redirect(w, r, "/mcp/?x=1", http.StatusTemporaryRedirect)
	case "slow":
		select {
		case <-r.Context().Done():
		case <-s.closed:
		}
	case "ask":
		sse(w, "data: {\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":\"s\",\"method\":\"roots/list\"}\n\ndata: %s\n\n", result)
	default:
		status, err := strconv.Atoi(name)
		if err != nil {
			status = http.StatusTeapot
		}
		if status == 429 || status == 503 {
			w.Header().Set("Retry-After", "7")
		}
		w.WriteHeader(status)
		fmt.Fprint(w, "no JSON")
	}
}

// dialWeb reaches the fake in that era.
func dialWeb(t *testing.T, s *webServer, era shannon.Era) (wire.Peer, *recorder) {
	t.Helper()
	rec := &recorder{}
	p, err := dialer(t, nil).Dial(t.Context(), s.target(), Want{Era: era}, rec.hooks())
	if err != nil {
		t.Fatal(err)
	}
	if p.Info().Era != era {
		t.Fatalf("got era %s, want %s", p.Info().Era, era)
	}
	return closing(t, p), rec
}

var bothEras = []shannon.Era{shannon.EraLegacy, shannon.EraModern}

func TestHTTPAnswers(t *testing.T) {
	for _, tt := range []struct {
		tool string
		code shannon.Code // "" means a result, "rpc" an error of the server
		ran  bool
		text string
	}{
		{tool: "json"},
		{tool: "chunked"},
		{tool: "sse"},
		{tool: "open-end"},
		{tool: "batch"},
		{tool: "rpc-400", code: "rpc"},
		{tool: "rpc-500", code: "rpc"},
		{tool: "cut-off", code: shannon.CodeConnectionLost, ran: true, text: "without a reply"},
		{tool: "reset", code: shannon.CodeConnectionLost, ran: true},
		{tool: "short", code: shannon.CodeConnectionLost, ran: true},
		{tool: "wrong-id", code: shannon.CodeProtocolError, text: `"other"`},
		{tool: "no-json", code: shannon.CodeProtocolError},
		{tool: "html", code: shannon.CodeProtocolError, text: "text/html"},
		{tool: "utf8", code: shannon.CodeProtocolError, text: "UTF-8"},
		{tool: "huge", code: shannon.CodeTooLarge, text: "1048576"},
		{tool: "huge-known", code: shannon.CodeTooLarge},
		{tool: "huge-sse", code: shannon.CodeTooLarge},
		{tool: "accepted", code: shannon.CodeProtocolError, text: "202"},
		{tool: "401", code: shannon.CodeNeedsAuth},
		{tool: "403", code: shannon.CodeNeedsAuth},
		{tool: "429", code: shannon.CodeQuota, text: "429"},
		{tool: "503", code: shannon.CodeQuota},
		{tool: "500", code: shannon.CodeConnectionLost, ran: true, text: "500"},
		{tool: "502", code: shannon.CodeConnectionLost, ran: true},
		{tool: "413", code: shannon.CodeTooLarge},
		{tool: "418", code: shannon.CodeProtocolError, text: "418"},
	} {
		for _, era := range bothEras {
			t.Run(tt.tool+" "+string(era), func(t *testing.T) {
				p, _ := dialWeb(t, newWebServer(t, true), era)
				reply, err := p.Call(t.Context(), toolCall(t, tt.tool), nil)
				switch {
				case tt.code == "" && (err != nil || reply.Kind != wire.KindResult):
					t.Fatalf("got %s, %v", reply.Raw, err)
				case tt.code == "rpc" && (err != nil || reply.Kind != wire.KindError):
					t.Fatalf("got %s, %v", reply.Raw, err)
				case tt.code != "" && tt.code != "rpc":
					wantCode(t, err, tt.code)
					if e, _ := errors.AsType[*shannon.Error](err); e.MayHaveRun != tt.ran || !strings.Contains(err.Error(), tt.text) {
						t.Errorf("got %v, may have run: %v", err, e.MayHaveRun)
					}
					if again, ok := errors.AsType[*RetryAfter](err); ok != (tt.code == shannon.CodeQuota) || ok && again.Delay != 7*time.Second {
						t.Errorf("come back: %v", again)
					}
					if strings.Contains(fmt.Sprintf("%v %+v", err, shannon.ProblemOf(err)), "hush") {
						t.Errorf("a secret shows in %v", err)
					}
				}
				if got := callText(t, p, "json"); got != "ok" {
					t.Errorf("the call after it got %s", got)
				}
			})
		}
	}
}

func TestHTTPHeaders(t *testing.T) {
	for _, era := range bothEras {
		s := newWebServer(t, true)
		p, _ := dialWeb(t, s, era)
		r := request(t, "tools/call", `{"name":"public","_meta":{"progressToken":1}}`)
		r.Rename = " jsön"
		if _, err := p.Call(t.Context(), r, nil); err == nil {
			t.Error("a tool that is none was called")
		}
		mustCallError(t, p, request(t, "resources/read", `{"uri":"file:///a"}`))
		mustCallError(t, p, request(t, "tools/list", `{"cursor":"c"}`))
		want := map[string]string{"tools/call": "=?base64?IGpzw7Zu?=", "resources/read": "file:///a", "tools/list": ""}
		for method, name := range want {
			ok := s.saw(func(r seenRequest) bool {
				h := r.header
				common := r.method == method && h.Get("Authorization") == "Bearer hush" && h.Get("X-Team") == "blue" &&
					h.Get("Accept") == "application/json, text/event-stream" && h.Get("Content-Type") == "application/json" &&
					h.Get("Accept-Encoding") == "identity" && h.Get("User-Agent") == "shannon/1.2.3"
				if era == shannon.EraLegacy {
					return common && h.Get("Mcp-Session-Id") == "session-1" && h.Get("Mcp-Protocol-Version") == "2025-11-25" && h["Mcp-Name"] == nil
				}
				return common && h.Get("Mcp-Protocol-Version") == modernVersion && h.Get("Mcp-Method") == method &&
					h.Get("Mcp-Name") == name && (h["Mcp-Name"] != nil) == (name != "") && h["Mcp-Session-Id"] == nil
			})
			if !ok {
				t.Errorf("%s: no %s with the right headers in %+v", era, method, s.requests)
			}
		}
	}
}

func mustCallError(t *testing.T, p wire.Peer, r *wire.Request) {
	t.Helper()
	if reply, err := p.Call(t.Context(), r, nil); err != nil || reply.Kind != wire.KindError {
		t.Errorf("%s: got %s, %v", r.Method, reply.Raw, err)
	}
}

// TestHTTPRewrites looks at what a server sees of a client of the other era.
func TestHTTPRewrites(t *testing.T) {
	modernParams := `{"name":"json","arguments":{"n":9007199254740993},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientInfo":{"name":"new","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"roots":{}},"vendor/x":1.10}}`
	for _, tt := range []struct {
		era          shannon.Era
		params       string
		has, without string
	}{
		{shannon.EraLegacy, modernParams, `"vendor/x":1.10`, "io.modelcontextprotocol"},
		{shannon.EraModern, modernParams, `"io.modelcontextprotocol/clientCapabilities":{"roots":{}}`, "shannon"},
		{shannon.EraModern, `{"name":"json","arguments":{"n":9007199254740993},"vendor/x":1.10}`, `"name":"editor"`, "progressToken"},
		{shannon.EraLegacy, `{"name":"json","arguments":{"n":9007199254740993}}`, `"id":`, "_meta"},
	} {
		s := newWebServer(t, true)
		p, _ := dialWeb(t, s, tt.era)
		mustCall(t, p, request(t, "tools/call", tt.params))
		if !s.saw(func(r seenRequest) bool {
			return r.method == "tools/call" && strings.Contains(r.body, tt.has) && !strings.Contains(r.body, tt.without) && strings.Contains(r.body, "9007199254740993")
		}) {
			t.Errorf("%s of %s: the server saw %+v", tt.era, tt.params, s.requests)
		}
	}
}

func TestHTTPNotifications(t *testing.T) {
	for _, era := range bothEras {
		p, rec := dialWeb(t, newWebServer(t, true), era)
		var got []string
		r := request(t, "tools/call", `{"name":"sse","_meta":{"progressToken":"mine"}}`)
		if _, err := p.Call(t.Context(), r, sinkFunc(func(n wire.Notification) { got = append(got, n.Method+" "+string(n.Raw)) })); err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || !strings.Contains(got[0], `"progressToken":"mine"`) || !strings.HasPrefix(got[1], "notifications/message") {
			t.Errorf("%s: the sink got %q", era, got)
		}
		if rec.count("notifications/tools/list_changed") != 1 || rec.count("notifications/resources/updated") != 1 {
			t.Errorf("%s: the hook got %q", era, rec.notifications)
		}
	}
}

func TestHTTPCancel(t *testing.T) {
	for _, era := range bothEras {
		s := newWebServer(t, true)
		p, _ := dialWeb(t, s, era)
		ended := make(chan struct{})
		s.mu.Lock()
		s.override = func(_ http.ResponseWriter, r *http.Request, e wire.Envelope) bool {
			if e.Method != "tools/call" {
				return false
			}
			select {
			case <-r.Context().Done():
				close(ended)
			case <-s.closed:
			}
			return true
		}
		s.mu.Unlock()
		why := errors.New("the user pressed escape")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
		if _, err := p.Call(ctx, toolCall(t, "slow"), nil); !errors.Is(err, why) {
			t.Fatalf("got %v", err)
		}
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("the stream was not closed")
		}
		_ = closePeer(t, p) // waits for what is on its way
		told := s.saw(func(r seenRequest) bool {
			return r.method == "notifications/cancelled" && strings.Contains(r.body, why.Error()) && r.header.Get("Mcp-Session-Id") == "session-1"
		})
		if told != (era == shannon.EraLegacy) {
			t.Errorf("%s: the server was told by a notification: %v", era, told)
		}
	}
}

// TestHTTPTimeouts ends calls whose answers have begun.
func TestHTTPTimeouts(t *testing.T) {
	for _, era := range bothEras {
		p, _ := dialWeb(t, newWebServer(t, true), era)
		for _, tool := range []string{"slow", "slow-body", "slow-sse"} {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if _, err := p.Call(ctx, toolCall(t, tool), nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s %s: got %v", era, tool, err)
			}
			cancel()
		}
		if got := callText(t, p, "json"); got != "ok" {
			t.Errorf("the call after them got %s", got)
		}
	}
}

// TestHTTPKeepsConnections calls a server that answers with streams.
func TestHTTPKeepsConnections(t *testing.T) {
	s := newWebServer(t, false)
	p, _ := dialWeb(t, s, shannon.EraLegacy)
	for range 100 {
		mustCall(t, p, toolCall(t, "late-end"))
		time.Sleep(4 * time.Millisecond)
	}
	connections := map[string]bool{}
	s.saw(func(r seenRequest) bool { connections[r.from] = true; return false })
	if n := len(connections); n > 20 {
		t.Errorf("%d connections for 100 calls, one after the other", n)
	}
}

func TestHTTPServerRequests(t *testing.T) {
	for _, era := range bothEras {
		s := newWebServer(t, true)
		p, rec := dialWeb(t, s, era)
		callText(t, p, "ask")
		if era == shannon.EraModern {
			if !rec.logged("forbids: ping") {
				t.Errorf("not logged: %v", rec.lines)
			}
			continue
		}
		eventually(t, "answers", func() bool {
			return s.saw(func(r seenRequest) bool { return r.body == `{"jsonrpc":"2.0","id":"p","result":{}}` }) &&
				s.saw(func(r seenRequest) bool { return strings.Contains(r.body, `"id":"s","error":{"code":-32601`) })
		})
	}
}

func TestHTTPRedirects(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another origin was asked, with %q", r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	for _, era := range bothEras {
		s := newWebServer(t, true)
		p, _ := dialWeb(t, s, era)
		redirect := func(status int, to string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.override = func(w http.ResponseWriter, r *http.Request, _ wire.Envelope) bool {
				if r.URL.Path == "/mcp" {
					http.Redirect(w, r, to, status)
				}
				return r.URL.Path == "/mcp"
			}
		}
		redirect(http.StatusPermanentRedirect, "/moved/")
		if got := callText(t, p, "json"); got != "ok" {
			t.Errorf("got %s", got)
		}
		for to, status := range map[string]int{
			elsewhere.URL + "/mcp?token=hush": http.StatusTemporaryRedirect, "/mcp": http.StatusPermanentRedirect, "/moved/": http.StatusFound,
		} {
			redirect(status, to)
			_, err := p.Call(t.Context(), toolCall(t, "json"), nil)
			wantCode(t, err, shannon.CodeUnreachable)
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("a secret shows in %v", err)
			}
		}
		s.mu.Lock()
		s.override = nil
		s.mu.Unlock()
	}
}

func TestHTTPUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for _, url := range []string{"http://user:hush@" + address + "/path?q=hush", strings.Replace(secure.URL, "https://", "https://user:hush@", 1) + "/path"} {
		target := Target{Kind: shannon.TransportHTTP, URL: url, Timeout: time.Second}
		_, err = dialer(t, nil).Dial(t.Context(), target, Want{}, Hooks{})
		wantCode(t, err, shannon.CodeUnreachable)
		if !strings.Contains(err.Error(), "/path") || strings.Contains(err.Error(), "hush") {
			t.Errorf("got %v", err)
		}
	}
	_, err = dialer(t, nil).Dial(t.Context(), Target{Kind: shannon.TransportHTTP, URL: "ftp://x"}, Want{}, Hooks{})
	wantCode(t, err, shannon.CodeInvalidServer)
}

func TestHTTPHandshake(t *testing.T) {
	legacy, modern := shannon.EraLegacy, shannon.EraModern
	discover := func(status int, body string) func(http.ResponseWriter, *http.Request, wire.Envelope) bool {
		return func(w http.ResponseWriter, _ *http.Request, e wire.Envelope) bool {
			if e.Method == "server/discover" {
				reply(w, status, "%s", strings.ReplaceAll(body, "ID", string(e.Get(wire.FieldID))))
			}
			return e.Method == "server/discover"
		}
	}
	everything := func(status int) func(http.ResponseWriter, *http.Request, wire.Envelope) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ wire.Envelope) bool { w.WriteHeader(status); return true }
	}
	for _, tt := range []struct {
		name     string
		modern   bool
		override func(http.ResponseWriter, *http.Request, wire.Envelope) bool
		want     Want
		eras     []shannon.Era
		era      shannon.Era
		code     shannon.Code
		posts    int // zero does not count
	}{
		{name: "legacy", eras: []shannon.Era{legacy}, era: legacy, posts: 3},
		{name: "dual", modern: true, eras: []shannon.Era{modern, legacy}, era: modern, posts: 1},
		{name: "dual, legacy wanted", modern: true, want: Want{Era: legacy}, eras: []shannon.Era{modern, legacy}, era: legacy, posts: 3},
		{name: "known legacy", want: Want{Known: []shannon.Era{legacy}}, eras: []shannon.Era{legacy}, era: legacy, posts: 2},
		{name: "404", override: discover(404, ""), eras: []shannon.Era{legacy}, era: legacy},
		{name: "405", override: discover(405, "x"), eras: []shannon.Era{legacy}, era: legacy},
		{name: "200 with -32601", override: discover(200, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"x"}}`), eras: []shannon.Era{legacy}, era: legacy},
		{name: "200 with something", override: discover(200, `{"jsonrpc":"2.0","id":ID,"result":{}}`), eras: []shannon.Era{legacy}, era: legacy},
		{name: "-32022 with legacy", override: discover(400, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"x","data":{"supported":["2025-06-18"]}}}`), eras: []shannon.Era{legacy}, era: legacy},
		{name: "-32022 with the future", override: discover(400, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"x","data":{"supported":["2030-01-01"]}}}`), code: shannon.CodeUnsupported},
		{name: "-32020", override: discover(400, `{"jsonrpc":"2.0","error":{"code":-32020,"message":"x"}}`), code: shannon.CodeProtocolError, posts: 1},
		{name: "401", override: everything(401), code: shannon.CodeNeedsAuth, posts: 1},
		{name: "403", override: everything(403), code: shannon.CodeNeedsAuth, posts: 1},
		{name: "429", override: everything(429), code: shannon.CodeQuota, posts: 1},
		{name: "500", override: everything(500), code: shannon.CodeUnreachable, posts: 1},
		{name: "502, known legacy", override: everything(502), want: Want{Known: []shannon.Era{legacy}}, code: shannon.CodeUnreachable, posts: 1},
		{name: "404 always", override: everything(404), code: shannon.CodeProtocolError, posts: 2},
		{name: "silence", override: func(_ http.ResponseWriter, r *http.Request, _ wire.Envelope) bool { <-r.Context().Done(); return true }, code: shannon.CodeHandshakeTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newWebServer(t, tt.modern)
			s.override = tt.override
			p, err := dialer(t, nil).Dial(t.Context(), s.target(), tt.want, Hooks{})
			if tt.code != "" {
				wantCode(t, err, tt.code)
			} else if err != nil {
				t.Fatal(err)
			} else if closing(t, p); p.Info().Era != tt.era || !cmp.Equal(p.Info().Eras, tt.eras) {
				t.Errorf("info: %+v", p.Info())
			}
			posts := 0
			s.saw(func(r seenRequest) bool {
				if r.verb == http.MethodPost && r.method != "subscriptions/listen" {
					posts++
				}
				return false
			})
			if tt.posts != 0 && posts != tt.posts {
				t.Errorf("%d requests, want %d", posts, tt.posts)
			}
		})
	}
}
