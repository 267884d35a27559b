package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// over returns a client of h over memory.
func over(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	c := Embed(t.Context(), h)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestConnect(t *testing.T) {
	tests := []struct {
		name   string
		socket string // where it listens, in the home
		file   bool   // whether daemon.json tells of it
		answer bool
		want   shannon.Code
	}{
		{"nothing there", "", false, false, shannon.CodeNoDaemon},
		{"default socket", SocketFile, false, true, ""},
		{"socket of the file", "other.sock", true, true, ""},
		{"another socket that nobody tells of", "other.sock", false, true, shannon.CodeNoDaemon},
		{"silent", SocketFile, true, false, shannon.CodeDaemonSilent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			home, err := os.MkdirTemp("", "shannon") //nolint:usetesting // short: a socket's path is limited
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(home)
			path := filepath.Join(home, tt.socket)
			if tt.socket != "" {
				defer listen(t, path, tt.answer)()
			}
			if tt.file {
				if err := (Daemon{PID: 1, Socket: path}).Write(home); err != nil {
					t.Fatal(err)
				}
			}
			begin := time.Now()
			c, err := Connect(t.Context(), home)
			if got := shannon.CodeOf(err); got != tt.want {
				t.Fatalf("error %v of code %q, want %q", err, got, tt.want)
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			if err != nil {
				if p := shannon.ProblemOf(err); p.Hint == "" {
					t.Errorf("no hint: %+v", p)
				}
				return
			}
			if _, err := c.Statuses(t.Context()); err != nil {
				t.Error(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// listen listens on a socket, and answers or not.
func listen(t *testing.T, path string, answer bool) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if !answer {
		return func() { _ = l.Close() } // the system accepts for it
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable) // starting: but there
			return
		}
		_, _ = io.WriteString(w, "[]")
	}))
	_ = server.Listener.Close()
	server.Listener = l
	server.Start()
	return server.Close
}

func TestConnectIsCanceled(t *testing.T) {
	home, err := os.MkdirTemp("", "shannon") //nolint:usetesting // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	defer listen(t, filepath.Join(home, SocketFile), false)()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, home); !errors.Is(err, context.DeadlineExceeded) || shannon.CodeOf(err) != shannon.CodeTimeout {
		t.Errorf("error %v of code %s", err, shannon.CodeOf(err))
	}
}

func TestDaemonFile(t *testing.T) {
	home := t.TempDir()
	if _, err := ReadDaemon(home); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	want := Daemon{PID: 12, Start: "345", Socket: "/x/shannon.sock", Address: "127.0.0.1:7426", Version: "1"}
	for range 2 { // it replaces
		if err := want.Write(home); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadDaemon(home)
	if err != nil || got != want {
		t.Errorf("read %+v, %v", got, err)
	}
	files, _ := os.ReadDir(home)
	info, _ := files[0].Info()
	if len(files) != 1 || info.Mode().Perm() != 0o600 {
		t.Errorf("the home holds %v", files)
	}
	if err := os.WriteFile(filepath.Join(home, DaemonFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDaemon(home); err == nil {
		t.Error("a broken file was read")
	}
	if err := want.Write(filepath.Join(home, "none")); err == nil {
		t.Error("it was written to a folder that is not there")
	}
}

func TestNew(t *testing.T) {
	for address, ok := range map[string]bool{
		"http://127.0.0.1:7426": true, "https://example.com/": true,
		"": false, "127.0.0.1:7426": false, "ftp://x": false, "http://": false, "http://x/api": false,
	} {
		c, err := New(Options{BaseURL: address})
		if (err == nil) != ok || (c != nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && shannon.CodeOf(err) != shannon.CodeInvalidRequest {
			t.Errorf("%q: code %s", address, shannon.CodeOf(err))
		}
	}
}

func TestTokenGoesNowhereElse(t *testing.T) {
	var stolen atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen.Store(true) }))
	defer thief.Close()
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		http.Redirect(w, r, thief.URL, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	c, err := New(Options{BaseURL: server.URL, Token: "shn_x"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Summary(t.Context()); shannon.CodeOf(err) != shannon.CodeProtocolError {
		t.Errorf("a redirect: %v", err)
	}
	if got != "Bearer shn_x" || stolen.Load() {
		t.Errorf("sent %q, followed %v", got, stolen.Load())
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", c.token, c.token, c.token), "shn_x") {
		t.Error("the token prints")
	}
}

func TestAnswers(t *testing.T) {
	const problem = "application/problem+json"
	tests := []struct {
		name        string
		status      int
		media, body string
		want        shannon.Error
	}{
		{
			"a problem", 418, problem + "; charset=utf-8", `{"code":"quota","detail":"later","hint":"wait","rpc":{"code": 1},"may_have_run":true}`,
			shannon.Error{Problem: shannon.Problem{Code: shannon.CodeQuota, Message: "later", Hint: "wait"}, RPC: []byte(`{"code": 1}`), MayHaveRun: true},
		},
		{
			"a code of tomorrow", 500, problem, `{"code":"tomorrow","detail":"x","more":1}`,
			shannon.Error{Problem: shannon.Problem{Code: "tomorrow", Message: "x"}},
		},
		{
			"a proxy's page", 502, "text/html", "<html>bad\ngateway",
			shannon.Error{Problem: shannon.Problem{Code: shannon.CodeProtocolError, Message: "the answer was 502 Bad Gateway: <html>bad"}},
		},
		{
			"a proxy's 401", 401, "text/plain", "no",
			shannon.Error{Problem: shannon.Problem{Code: shannon.CodeUnauthorized, Message: "the answer was 401 Unauthorized: no"}},
		},
		{
			"another 403", 403, problem, `{"title":"no"}`,
			shannon.Error{Problem: shannon.Problem{Code: shannon.CodeForbidden, Message: `the answer was 403 Forbidden: {"title":"no"}`}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := over(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.media)
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			_, err := c.CallTool(t.Context(), "a", "b", nil)
			got, ok := errors.AsType[*shannon.Error](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			if tt.media != problem+"; charset=utf-8" {
				got.Hint = tt.want.Hint
			}
			if got.Problem != tt.want.Problem || string(got.RPC) != string(tt.want.RPC) || got.MayHaveRun != tt.want.MayHaveRun {
				t.Errorf("got %+v, want %+v", *got, tt.want)
			}
		})
	}
	c := over(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") })
	if _, err := c.Summary(t.Context()); shannon.CodeOf(err) != shannon.CodeProtocolError {
		t.Errorf("an answer that is no JSON: %v", err)
	}
}

func TestBrokenConnection(t *testing.T) {
	c := over(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
			_ = conn.Close()
		}
	})
	mayHaveRun := func(err error) bool {
		e, ok := errors.AsType[*shannon.Error](err)
		return ok && e.MayHaveRun
	}
	_, err := c.CallTool(t.Context(), "a", "b", nil)
	if shannon.CodeOf(err) != shannon.CodeConnectionLost || !mayHaveRun(err) {
		t.Errorf("call: %v", err)
	}
	_, err = c.Summary(t.Context())
	if shannon.CodeOf(err) != shannon.CodeConnectionLost || mayHaveRun(err) {
		t.Errorf("read: %v", err)
	}
	nobody, err := New(Options{Dial: func(context.Context) (net.Conn, error) { return nil, io.ErrClosedPipe }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = nobody.CallTool(t.Context(), "a", "b", nil)
	if shannon.CodeOf(err) != shannon.CodeNoDaemon || mayHaveRun(err) || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestCanceledCallMayHaveRun(t *testing.T) {
	began := make(chan struct{})
	c := over(t, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done() // the daemon hears of it
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	_, err := c.CallTool(ctx, "a", "b", nil)
	e, _ := errors.AsType[*shannon.Error](err)
	if e == nil || e.Code != shannon.CodeCanceled || !e.MayHaveRun || !errors.Is(err, context.Canceled) {
		t.Errorf("error %+v", err)
	}
}

func TestRequests(t *testing.T) {
	var got string
	c := over(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = r.Method + " " + r.RequestURI + " " + r.Header.Get("Content-Type") + " " + string(body)
		_, _ = io.WriteString(w, "{}")
	})
	const odd = ` {"n" : 9007199254740993, "s":"<\u0041>"}`
	s := shannon.NewServer("a")
	s.Env = map[string]shannon.Secret{"TOKEN": "secret"}
	ctx := t.Context()
	tests := []struct {
		do   func()
		want string
	}{
		{func() { _, _ = c.CallTool(ctx, "a", `b"`, json.RawMessage(odd)) }, `POST /api/v1/servers/a/call application/json {"tool":"b\"","arguments":` + odd + `}`},
		{func() { _, _ = c.CallTool(ctx, "a", "b", nil) }, `POST /api/v1/servers/a/call application/json {"tool":"b"}`},
		{func() { _, _ = c.Request(ctx, "a/../b", "m", json.RawMessage(odd)) }, `POST /api/v1/servers/a%2F%2E%2E%2Fb/request application/json {"method":"m","params":` + odd + `}`},
		{func() { _ = c.Notify(ctx, "..", "m", nil) }, `POST /api/v1/servers/%2E%2E/notify application/json {"method":"m"}`},
		{func() { _, _ = c.UpdateServer(ctx, "a", json.RawMessage(odd)) }, `PATCH /api/v1/servers/a application/merge-patch+json ` + odd},
		{func() { _, _ = c.History(ctx, shannon.HistoryFilter{Limit: 3, Since: time.Unix(0, 5).UTC()}) }, `GET /api/v1/history?limit=3&since=1970-01-01T00%3A00%3A00.000000005Z  `},
	}
	for _, tt := range tests {
		if tt.do(); got != tt.want {
			t.Errorf("sent\n%s\nwant\n%s", got, tt.want)
		}
	}
	if _, _ = c.AddServer(ctx, s); !strings.Contains(got, `"TOKEN":"secret"`) {
		t.Errorf("the secret was not sent: %s", got)
	}
	got = ""
	if _, err := c.CallTool(ctx, "a", "b", json.RawMessage(`{}, "tool":"c"`)); shannon.CodeOf(err) != shannon.CodeInvalidRequest || got != "" {
		t.Errorf("arguments that leave their place: %v, sent %s", err, got)
	}
}

func TestEventsResume(t *testing.T) {
	var asked []string
	c := over(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		switch len(asked) {
		case 1: // breaks in the middle of an event
			sse(w, "id: x.7\ndata: {\"seq\":7,\"data\":{\"n\":9007199254740993}}\n\nid: x.8\ndata: {\"se")
			panic(http.ErrAbortHandler)
		case 2: // ends as if it were whole
			sse(w, ":\n\nid: x.8\ndata: {\"seq\":8}\n\n")
		case 3: // another daemon
			sse(w, "id: y.1\ndata: {\"seq\":1}\n\n")
			panic(http.ErrAbortHandler)
		default:
			sse(w, "event: problem\ndata: {\"code\":\"unauthorized\",\"detail\":\"no\"}\n\n")
		}
	})
	var got []string
	for e, err := range c.Events(t.Context(), shannon.EventFilter{After: 6, Name: "n", Follow: true}) {
		if err != nil {
			got = append(got, string(shannon.CodeOf(err)))
			continue
		}
		got = append(got, fmt.Sprintf("%d %v", e.Seq, e.Data["n"]))
	}
	if diff := cmp.Diff([]string{"7 9007199254740993", "8 <nil>", "1 <nil>", "unauthorized"}, got); diff != "" {
		t.Errorf("events:\n%s", diff)
	}
	if diff := cmp.Diff([]string{
		"after=6&follow=true&name=n", "after=x.7&follow=true&name=n", "after=x.8&follow=true&name=n", "after=y.1&follow=true&name=n",
	}, asked); diff != "" {
		t.Errorf("requests:\n%s", diff)
	}
}

func sse(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, text)
	_ = http.NewResponseController(w).Flush()
}

func TestLogsResume(t *testing.T) {
	line := func(second int) string {
		return fmt.Sprintf("data: {\"time\":\"2026-01-01T00:00:%02dZ\",\"text\":\"%d\"}\n\n", second, second)
	}
	asked := 0
	c := over(t, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			sse(w, line(1)+line(2))
			panic(http.ErrAbortHandler)
		}
		if r.URL.RawQuery != "follow=true&lines=1000" {
			t.Errorf("resumed with %s", r.URL.RawQuery)
		}
		sse(w, line(1)+line(2)+line(3)+"event: problem\ndata: {\"code\":\"unknown_server\",\"detail\":\"gone\"}\n\n")
	})
	var got []string
	for l, err := range c.Logs(t.Context(), "a", shannon.LogFilter{Lines: 2, Follow: true}) {
		got = append(got, l.Text+string(shannon.CodeOf(err)))
	}
	if diff := cmp.Diff([]string{"1", "2", "3", "unknown_server"}, got); diff != "" {
		t.Errorf("lines:\n%s", diff)
	}
}

func TestStreamBreaks(t *testing.T) {
	c := over(t, func(w http.ResponseWriter, _ *http.Request) {
		sse(w, "id: x.7\ndata: {\"seq\":7}\n\n")
		panic(http.ErrAbortHandler)
	})
	var last error
	n := 0
	for _, err := range c.Events(t.Context(), shannon.EventFilter{}) {
		if last = err; err == nil {
			n++
		}
	}
	if n != 1 || shannon.CodeOf(last) != shannon.CodeConnectionLost {
		t.Errorf("%d events, then %v", n, last)
	}
}

// errGone is what is dialled when the daemon is not there.
var errGone = errors.New("gone")

func TestFollowingGivesUp(t *testing.T) {
	for _, was := range []bool{false, true} {
		t.Run(fmt.Sprintf("connected before: %v", was), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := over(t, func(w http.ResponseWriter, _ *http.Request) {
					sse(w, "id: x.7\ndata: {\"seq\":7}\n\n")
					panic(http.ErrAbortHandler)
				})
				transport := c.http.Transport.(*http.Transport)
				dial, dials := transport.DialContext, 0
				transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					if dials++; dials > 1 || !was {
						return nil, &dialError{errGone}
					}
					return dial(ctx, network, address)
				}
				begin, n := time.Now(), 0
				var last error
				for _, err := range c.Events(t.Context(), shannon.EventFilter{Follow: true}) {
					if last = err; err == nil {
						n++
					}
				}
				if shannon.CodeOf(last) != shannon.CodeNoDaemon || !errors.Is(last, errGone) {
					t.Errorf("error %v", last)
				}
				took := time.Since(begin)
				if was && (n != 1 || took < maxAway || took > 2*maxAway || dials < 5) || !was && took > 0 {
					t.Errorf("gave up after %v, %d events and %d attempts", took, n, dials)
				}
			})
		})
	}
}

func TestSilentStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := over(t, func(w http.ResponseWriter, r *http.Request) {
			asked++
			sse(w, fmt.Sprintf("id: x.%d\ndata: {\"seq\":%d}\n\n", asked, asked))
			<-r.Context().Done()
		})
		begin := time.Now()
		for e, err := range c.Events(t.Context(), shannon.EventFilter{Follow: true}) {
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * maxSilence) // a busy consumer is no silence of the daemon
			if e.Seq == 2 {
				break
			}
		}
		if took := time.Since(begin) - 20*maxSilence; took < maxSilence || took > 2*maxSilence {
			t.Errorf("silence was noticed after %v", took)
		}
	})
}

func TestClose(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	c := Embed(t.Context(), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		time.Sleep(50 * time.Millisecond)
		close(ended)
	}))
	failed := make(chan error)
	go func() {
		_, err := c.Summary(t.Context())
		failed <- err
	}()
	<-began
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-ended:
	default:
		t.Error("closed while a request runs")
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
	if _, err := c.Summary(t.Context()); shannon.CodeOf(err) != shannon.CodeNoDaemon {
		t.Errorf("afterwards: %v", err)
	}
}
