package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake answers with its fields and notes what it was given.
type fake struct {
	shannon.Manager // panics where a test does not say what to do
	added           shannon.Server
	in, out         json.RawMessage
	err             error
	filter          any
	events          iter.Seq2[shannon.Event, error]
}

func (f *fake) AddServer(_ context.Context, s shannon.Server) (shannon.Server, error) {
	f.added = s
	return s, f.err
}

func (f *fake) UpdateServer(_ context.Context, _ string, patch json.RawMessage) (shannon.Server, error) {
	f.in = patch
	return shannon.Server{}, f.err
}

func (f *fake) Server(context.Context, string) (shannon.Server, error) { return f.added, f.err }
func (f *fake) RemoveServer(context.Context, string) error             { return f.err }

func (f *fake) ListServers(_ context.Context, filter shannon.ServerFilter) ([]shannon.Server, error) {
	f.filter = filter
	return nil, f.err
}

func (f *fake) CallTool(_ context.Context, _, _ string, args json.RawMessage) (json.RawMessage, error) {
	f.in = args
	return f.out, f.err
}

func (f *fake) Request(_ context.Context, _, _ string, params json.RawMessage) (json.RawMessage, error) {
	f.in = params
	return f.out, f.err
}

func (f *fake) Tools(context.Context, string) ([]shannon.Tool, error) {
	return []shannon.Tool{{Server: "a", Name: `b"`, PublicName: "a__b", Definition: f.out}, {Definition: f.out}}, f.err
}

func (f *fake) History(_ context.Context, filter shannon.HistoryFilter) ([]shannon.Transition, error) {
	f.filter = filter
	return nil, f.err
}

func (f *fake) Events(_ context.Context, filter shannon.EventFilter) iter.Seq2[shannon.Event, error] {
	f.filter = filter
	return f.events
}

func do(t *testing.T, h http.Handler, method, path, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s %s: %d as %q", method, path, w.Code, w.Header().Get("Content-Type"))
	}
	for name := range w.Header() {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("%s %s: header %s", method, path, name)
		}
	}
	return w.Code, w.Body.String(), w.Header()
}

func TestBytesPass(t *testing.T) {
	const odd = ` { "n" : 9007199254740993, "f":1.0, "s":"<\u0041&>", "x":[ ] } `
	f := &fake{out: json.RawMessage(odd)}
	h := New(f, Options{})
	for path, body := range map[string]string{
		"/api/v1/servers/a/call":    `{"tool":"b","arguments":` + odd + `}`,
		"/api/v1/servers/a/request": `{"method":"b","params":` + odd + `}`,
	} {
		status, got, _ := do(t, h, "POST", path, body)
		if status != 200 || got != odd {
			t.Errorf("%s: %d %s", path, status, got)
		}
		if string(f.in) != strings.TrimSpace(odd) {
			t.Errorf("%s: the manager got %s", path, f.in)
		}
	}
	for _, body := range []string{`{"tool":"b"}`, `{"tool":"b","arguments":null}`} {
		if _, _, _ = do(t, h, "POST", "/api/v1/servers/a/call", body); f.in != nil {
			t.Errorf("%s: the manager got %q", body, f.in)
		}
	}
	_, got, _ := do(t, h, "GET", "/api/v1/tools", "")
	if want := `[{"server":"a","name":"b\"","public_name":"a__b","definition":` + odd + `},{"server":"","name":"","public_name":"","definition":` + odd + `}]`; got != want {
		t.Errorf("tools:\n got %s\nwant %s", got, want)
	}
	e := shannon.Errorf(shannon.CodeCallFailed, "h", "no")
	e.RPC, e.MayHaveRun = []byte(odd), true
	f.err = e
	status, got, _ := do(t, h, "POST", "/api/v1/servers/a/call", `{"tool":"b"}`)
	want := `{"type":"https://github.com/shannon-mcp/shannon/blob/main/docs/problems/call_failed.md","title":"call failed","status":502,` +
		`"detail":"no","code":"call_failed","hint":"h","may_have_run":true,"rpc":` + odd + `}`
	if status != 502 || got != want {
		t.Errorf("error:\n got %d %s\nwant %s", status, got, want)
	}
}

func TestBadRequests(t *testing.T) {
	h := New(&fake{}, Options{MaxBody: 1000})
	const servers, call, one = "/api/v1/servers", "/api/v1/servers/a/call", "/api/v1/servers/a"
	tests := []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		says                     string // in detail or hint
	}{
		{"unknown key", "POST", servers, `{"name":"a","comand":"x"}`, nil, 400, `"comand".*"command"`},
		{"key in another case", "POST", servers, `{"Name":"a"}`, nil, 400, `"Name".*"name"`},
		{"key twice", "POST", servers, `{"name":"a","name":"b"}`, nil, 400, `"name" is there twice`},
		{"key hidden by an escape", "POST", servers, `{"name":"a","n\u0061me":"b"}`, nil, 400, `twice`},
		{"wrong type", "POST", servers, `{"name":1}`, nil, 400, `"name" cannot be a JSON number`},
		{"wrong type inside", "POST", servers, `{"env":{"A":1}}`, nil, 400, `env`},
		{"bad time", "POST", servers, `{"timeout":"soon"}`, nil, 400, `"soon"`},
		{"not JSON", "POST", servers, `{"name":}`, nil, 400, `at byte 9`},
		{"cut off", "POST", servers, `{"name":"a"`, nil, 400, `not JSON`},
		{"something behind", "POST", servers, `{"name":"a"} {}`, nil, 400, `not JSON`},
		{"empty", "POST", servers, ``, []string{"Content-Type", "application/json"}, 400, `not JSON`},
		{"array", "POST", servers, `[]`, nil, 400, `not a JSON object`},
		{"null", "POST", servers, `null`, nil, 400, `not a JSON object`},
		{"not UTF-8", "POST", servers, "{\"name\":\"\xff\"}", nil, 400, `UTF-8`},
		{"too large", "POST", servers, `{"title":"` + strings.Repeat("x", 1000) + `"}`, nil, 413, `1000 bytes`},
		{"placeholder in env", "POST", servers, `{"env":{"A":"[hidden]"}}`, nil, 400, `env "A"`},
		{"placeholder in a patch", "PATCH", one, `{"headers":{"B":"[hidden]"}}`, nil, 400, `headers "B"`},
		{"placeholder in config", "PATCH", one, `{"config":{"c":"\u005bhidden]"}}`, nil, 400, `config "c"`},

		{"form", "POST", servers, `name=a`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 400, `application/json`},
		{"text", "POST", call, `{"tool":"a"}`, []string{"Content-Type", "text/plain"}, 400, `application/json`},
		{"no type", "POST", call, `{"tool":"a"}`, []string{"Content-Type", ""}, 400, `application/json`},
		{"patch as call", "POST", call, `{"tool":"a"}`, []string{"Content-Type", "application/merge-patch+json"}, 400, `application/json`},

		{"no tool", "POST", call, `{}`, nil, 400, `no tool`},
		{"arguments no object", "POST", call, `{"tool":"a","arguments":[1]}`, nil, 400, `objects`},
		{"unknown key of a call", "POST", call, `{"tool":"a","args":{}}`, nil, 400, `"args"`},
		{"no method", "POST", "/api/v1/servers/a/request", `{"params":{}}`, nil, 400, `no method`},
		{"no method to notify", "POST", "/api/v1/servers/a/notify", `{}`, nil, 400, `no method`},

		{"unknown parameter", "GET", servers + "?enable=true", ``, nil, 400, `"enable".*"enabled"`},
		{"parameter where none is", "GET", "/api/v1/status?token=x", ``, nil, 400, `"token"`},
		{"parameter twice", "GET", servers + "?enabled=true&enabled=false", ``, nil, 400, `2 times`},
		{"bad flag", "GET", servers + "?enabled=maybe", ``, nil, 400, `true or false`},
		{"bad word", "GET", servers + "?transport=pigeon", ``, nil, 400, `one of \[stdio http sse websocket\]`},
		{"bad number", "GET", "/api/v1/history?limit=-1", ``, nil, 400, `number`},
		{"bad time in the query", "GET", "/api/v1/history?since=yesterday", ``, nil, 400, `2026-01-31`},
		{"bad id of an event", "GET", "/api/v1/events?after=x", ``, nil, 400, `"x"`},
		{"bad number of an event", "GET", "/api/v1/events?after=a.b", ``, nil, 400, `"a.b"`},
		{"broken query", "GET", servers + "?a=%zz", ``, nil, 400, `query`},

		{"no such path", "GET", "/api/v1/nothing", ``, nil, 404, `nothing at /api/v1/nothing`},
		{"no such version", "GET", "/api/v2/servers", ``, nil, 404, `nothing`},
		{"wrong method", "PUT", one, `{}`, nil, 405, `GET or PATCH or DELETE`},
		{"get of an action", "GET", call, ``, nil, 405, `POST`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, body, header := do(t, h, tt.method, tt.path, tt.body, tt.headers...)
			var p document
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if status != tt.status || p.Status != status {
				t.Errorf("status %d, in the document %d, want %d", status, p.Status, tt.status)
			}
			if said := p.Detail + " / " + p.Hint; !regexp.MustCompile(tt.says).MatchString(said) {
				t.Errorf("it says %s, want %s", said, tt.says)
			}
			if want := shannon.CodeInvalidRequest; p.Code != want && status != 413 {
				t.Errorf("code %s", p.Code)
			}
			if (status == 405) != (header.Get("Allow") != "") {
				t.Errorf("status %d with Allow %q", status, header.Get("Allow"))
			}
		})
	}
}

func TestAddFillsInDefaults(t *testing.T) {
	f := &fake{}
	status, body, _ := do(t, New(f, Options{}), "POST", "/api/v1/servers",
		`{"name":"a","transport":"stdio","command":"x","env":{"A":"secret"},"config":{"n":9007199254740993}}`)
	want := shannon.NewServer("a")
	want.Transport, want.Command = shannon.TransportStdio, "x"
	want.Env = map[string]shannon.Secret{"A": "secret"}
	want.Config = shannon.Opaque(`{"n":9007199254740993}`)
	if status != 201 || f.added.Env["A"].Reveal() != "secret" || string(f.added.Config) != string(want.Config) {
		t.Errorf("status %d, got %v", status, f.added)
	}
	if diff := cmp.Diff(want, f.added); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(body, "secret") {
		t.Errorf("the answer shows the secret: %s", body)
	}
}

func TestQueries(t *testing.T) {
	f := &fake{events: func(func(shannon.Event, error) bool) {}}
	h := New(f, Options{})
	yes := true
	tests := []struct {
		path string
		want any
	}{
		{"/api/v1/servers", shannon.ServerFilter{}},
		{"/api/v1/servers?enabled=true&transport=http", shannon.ServerFilter{Enabled: &yes, Transport: "http"}},
		{"/api/v1/history?server=a&state=error&limit=7&since=2026-01-31T12:00:00.5Z", shannon.HistoryFilter{
			Server: "a", State: "error", Limit: 7, Since: time.Date(2026, 1, 31, 12, 0, 0, 5e8, time.UTC),
		}},
		{"/api/v1/events?category=mcp&name=x&min_priority=high&after=18446744073709551615&follow=true", shannon.EventFilter{
			Category: "mcp", Name: "x", MinPriority: "high", After: 1<<64 - 1, Follow: true,
		}},
		{"/api/v1/events?after=another.12", shannon.EventFilter{}},
	}
	for _, tt := range tests {
		status, body, _ := do(t, h, "GET", tt.path, "")
		if diff := cmp.Diff(tt.want, f.filter); diff != "" || status != 200 {
			t.Errorf("%s: status %d\n%s", tt.path, status, diff)
		}
		if !strings.Contains(tt.path, "events") && strings.TrimSpace(body) != "[]" {
			t.Errorf("%s: an empty list is %s", tt.path, body)
		}
	}
}

func TestStatusOf(t *testing.T) {
	tests := map[shannon.Code]int{
		shannon.CodeInvalidRequest: 400, shannon.CodeInvalidServer: 422, shannon.CodeUnknownServer: 404, shannon.CodeUnknownTool: 404,
		shannon.CodeNameTaken: 409, shannon.CodeUnauthorized: 401, shannon.CodeForbidden: 403, shannon.CodeDisabled: 409,
		shannon.CodeNeedsAuth: 502, // never 401: that would be about the caller
		shannon.CodeTimeout:   504, shannon.CodeTooLarge: 413, shannon.CodeCallFailed: 502, shannon.CodeDatabaseLocked: 503,
		shannon.CodeInternal: 500, "a_code_of_tomorrow": 500,
	}
	for code, want := range tests {
		f := &fake{err: fmt.Errorf("wrapped: %w", shannon.Errorf(code, "", "no"))}
		if status, _, _ := do(t, New(f, Options{}), "DELETE", "/api/v1/servers/a", ""); status != want {
			t.Errorf("%s: status %d, want %d", code, status, want)
		}
	}
	status, body, _ := do(t, New(&fake{err: errors.New("plain")}, Options{}), "DELETE", "/api/v1/servers/a", "")
	if status != 500 || !strings.Contains(body, `"detail":"plain","code":"internal"`) {
		t.Errorf("a plain error: %d %s", status, body)
	}
	if status, body, _ := do(t, New(&fake{}, Options{}), "DELETE", "/api/v1/servers/a", ""); status != 204 || body != "" {
		t.Errorf("no error: %d %s", status, body)
	}
}

// events yields what it is given, an error as the last.
func events(items ...any) iter.Seq2[shannon.Event, error] {
	return func(yield func(shannon.Event, error) bool) {
		for _, item := range items {
			e, _ := item.(shannon.Event)
			err, _ := item.(error)
			if !yield(e, err) {
				return
			}
		}
	}
}

func TestStream(t *testing.T) {
	lost := shannon.Errorf(shannon.CodeDatabaseLocked, "", "lo\nst")
	one := shannon.Event{Seq: 1, Name: "<a>", Data: map[string]any{"n": json.Number("9007199254740993")}}
	f := &fake{events: events(one, shannon.Event{Name: shannon.EventLagged}, lost)}
	status, body, header := do(t, New(f, Options{}), "GET", "/api/v1/events", "")
	if status != 200 || header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("status %d, type %q", status, header.Get("Content-Type"))
	}
	want := `^id: \w{8}\.1\ndata: {"seq":1,"name":"<a>".*"n":9007199254740993.*}\n\n` +
		`data: {"seq":0,"name":"lagged".*}\n\nevent: problem\ndata: {.*"detail":"lo\\nst","code":"database_locked"}\n\n$`
	if !regexp.MustCompile(want).MatchString(body) {
		t.Errorf("stream:\n%s", body)
	}
	f.events = events(lost)
	if status, _, _ := do(t, New(f, Options{}), "GET", "/api/v1/events", ""); status != 503 {
		t.Errorf("an error before anything else: status %d", status)
	}
	f.events = events()
	if status, body, header := do(t, New(f, Options{}), "GET", "/api/v1/events", ""); status != 200 || body != "" ||
		header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("no events: %d %q", status, body)
	}
}

func TestStreamResumes(t *testing.T) {
	f := &fake{events: events(shannon.Event{Seq: 41})}
	h := New(f, Options{})
	_, body, _ := do(t, h, "GET", "/api/v1/events", "")
	id := regexp.MustCompile(`id: (\S+)`).FindStringSubmatch(body)[1]
	for _, ask := range []func() (int, string, http.Header){
		func() (int, string, http.Header) { return do(t, h, "GET", "/api/v1/events?after="+id, "") },
		func() (int, string, http.Header) {
			return do(t, h, "GET", "/api/v1/events?after=3", "", "Last-Event-ID", id)
		},
	} {
		ask()
		if got := f.filter.(shannon.EventFilter).After; got != 41 {
			t.Errorf("resumed behind %d", got)
		}
	}
	do(t, New(f, Options{}), "GET", "/api/v1/events?after="+id, "")
	if got := f.filter.(shannon.EventFilter).After; got != 0 {
		t.Errorf("another manager resumed behind %d", got)
	}
}

// TestStreamOpens sees that a client hears of its stream before anything happens.
func TestStreamOpens(t *testing.T) {
	f := &fake{}
	release := make(chan struct{})
	f.events = func(func(shannon.Event, error) bool) { <-release }
	server := httptest.NewServer(New(f, Options{}))
	defer server.Close()
	res, err := server.Client().Get(server.URL + "/api/v1/events?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b := make([]byte, 3)
	if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != ":\n\n" {
		t.Errorf("it begins with %q, %v", b, err)
	}
	close(release)
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
		t.Errorf("it ends with %q, %v", rest, err)
	}
}

func TestDescription(t *testing.T) {
	a := &api{}
	status, body, header := do(t, New(&fake{}, Options{Version: "1.2.3"}), "GET", SpecPath, "")
	if status != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("status %d, type %s", status, header.Get("Content-Type"))
	}
	var doc struct {
		Info       struct{ Version string }
		Paths      map[string]map[string]struct{ OperationID string }
		Components struct {
			Schemas map[string]struct {
				Required   []string
				Properties map[string]struct{ Type any }
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Info.Version != "1.2.3" {
		t.Errorf("version %q", doc.Info.Version)
	}
	ids := map[string]bool{}
	for _, rt := range a.routes() {
		op, there := doc.Paths[rt.path][strings.ToLower(rt.method)]
		if !there || op.OperationID != rt.id || ids[rt.id] {
			t.Errorf("%s %s is described as %q", rt.method, rt.path, op.OperationID)
		}
		ids[rt.id] = true
	}
	for _, ref := range regexp.MustCompile(`"#/components/schemas/(\w+)"`).FindAllStringSubmatch(body, -1) {
		if _, there := doc.Components.Schemas[ref[1]]; !there {
			t.Errorf("%s is described nowhere", ref[1])
		}
	}
	if got := doc.Components.Schemas["Draft"]; !cmp.Equal(got.Required, []string{"name", "transport"}) ||
		got.Properties["timeout"].Type != "number" || got.Properties["config"].Type != "object" {
		t.Errorf("a draft is described as %+v", got)
	}
	if got := doc.Components.Schemas["Patch"]; len(got.Required) > 0 || len(got.Properties) < 20 {
		t.Errorf("a patch is described as %+v", got)
	}
}
