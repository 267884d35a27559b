package edge

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

func modernCall(id, method, members string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{` + members + testMeta + `}}`
}

func listenCall(id string) string {
	return modernCall(id, "subscriptions/listen", `"notifications":{"toolsListChanged":true,"resourcesListChanged":true,"resourceSubscriptions":["a:b"]},`)
}

func TestModernReplies(t *testing.T) {
	const all = `"resultType":"complete","ttlMs":0,"cacheScope":"private"`
	for _, c := range []struct {
		name, method, result, want string
		status                     int
	}{
		{"call", "tools/call", `{"content":[]}`, `{"resultType":"complete","content":[]}`, 200},
		{"call, empty", "tools/call", `{ }`, `{"resultType":"complete" }`, 200},
		{"call, typed", "tools/call", `{"content":[],"resultType":"complete"}`, `{"content":[],"resultType":"complete"}`, 200},
		{"call, task", "tools/call", `{"resultType":"task"}`, `{"resultType":"task"}`, 200},
		{"call, input required", "tools/call", `{"resultType":"input_required"}`, `{"resultType":"input_required"}`, 200},
		{"read, input required", "resources/read", `{"resultType":"input_required"}`, `{"resultType":"input_required"}`, 200},
		{"tools", "tools/list", `{"tools":[]}`, `{` + all + `,"tools":[]}`, 200},
		{"prompts", "prompts/list", `{}`, `{` + all + `}`, 200},
		{"resources", "resources/list", `{}`, `{` + all + `}`, 200},
		{"templates", "resources/templates/list", `{}`, `{` + all + `}`, 200},
		{"read", "resources/read", `{}`, `{` + all + `}`, 200},
		{"hints already", "tools/list", `{"resultType":"complete","ttlMs":5,"cacheScope":"public"}`, `{"resultType":"complete","ttlMs":5,"cacheScope":"public"}`, 200},
		{"one hint", "tools/list", `{"ttlMs":5}`, `{"resultType":"complete","cacheScope":"private","ttlMs":5}`, 200},
		{"the other hint", "tools/list", `{"cacheScope":"public","resultType":"complete"}`, `{"ttlMs":0,"cacheScope":"public","resultType":"complete"}`, 200},
		{"no object", "tools/call", `[1]`, `[1]`, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newRig(t, Options{}, &fake{handle: func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) { return reply(c.result) }})
			a := s.post(modern(c.method, ""), modernCall(`"x"`, c.method, ""))
			if want := `{"jsonrpc":"2.0","id":"x","result":` + c.want + `}`; a.status != c.status || a.body != want {
				t.Errorf("got  %d %s\nwant %s", a.status, a.body, want)
			}
		})
	}
}

func TestModernErrors(t *testing.T) {
	for _, c := range []struct {
		name, object string
		err          error
		status       int
		want         string
	}{
		{"of a server", `{"code":-32602,"message":"m", "data":{"uri":"a"}}`, nil, 200, `{"code":-32602,"message":"m", "data":{"uri":"a"}}`},
		{"method not found", `{"message":"m","code":-32601}`, nil, 404, `{"message":"m","code":-32601}`},
		{"missing capability", `{"code":-32021,"message":"m"}`, nil, 400, `{"code":-32021,"message":"m"}`},
		{"ours", "", wire.Errorf(wire.CodeMethodNotFound, "no"), 404, `{"code":-32601,"message":"no"}`},
		{"unsupported", "", shannon.Errorf(shannon.CodeUnsupported, "", "no"), 404, `{"code":-32601,"message":"no","data":{"code":"unsupported"}}`},
		{"unknown tool", "", shannon.Errorf(shannon.CodeUnknownTool, "look", "no"), 200, `{"code":-32602,"message":"no","data":{"code":"unknown_tool","hint":"look"}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newRig(t, Options{}, &fake{handle: func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
				if c.err != nil {
					return wire.Reply{}, c.err
				}
				return failure(c.object)
			}})
			a := s.post(modern("tools/list", ""), modernCall("5", "tools/list", ""))
			want := `{"jsonrpc":"2.0","id":5,"error":` + c.want + `}`
			if a.status != c.status || a.body != want {
				t.Errorf("got  %d %s\nwant %d %s", a.status, a.body, c.status, want)
			}
			id := s.initialize("2025-11-25")
			if a := s.post(heads(headerSession, id), `{"jsonrpc":"2.0","id":5,"method":"tools/list"}`); a.status != 200 || a.body != want {
				t.Errorf("legacy: %d %s", a.status, a.body)
			}
		})
	}
}

func TestModernClient(t *testing.T) {
	s := newRig(t, Options{}, &fake{})
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientCapabilities":{"sampling":{ }},"io.modelcontextprotocol/clientInfo":{"name":"x"}}}}`
	s.post(modern("tools/list", "", "X-Principal", "alice"), body)
	s.post(modern("tools/list", "", "X-Principal", "alice", headerAffinity, "desk"), body)
	s.post(modern("tools/list", "", "X-Principal", "bob", headerAffinity, "desk"), body)
	want := wire.Client{
		Era: shannon.EraModern, Version: modernVersion, Info: []byte(`{"name":"x"}`), Capabilities: []byte(`{"sampling":{ }}`),
		Principal: "alice", Affinity: "alice",
	}
	if diff := cmp.Diff(want, *s.b.clients[0]); diff != "" {
		t.Error(diff)
	}
	seen := map[string]bool{}
	for _, c := range s.b.clients {
		seen[c.Affinity] = true
	}
	if len(seen) != 3 {
		t.Errorf("affinities: %v", seen)
	}
}

func TestClosedResponseCancels(t *testing.T) {
	for _, streaming := range []bool{false, true} {
		started, causes := make(chan struct{}), make(chan error, 1)
		b := &fake{handle: func(ctx context.Context, _ *wire.Request, sink wire.Sink) (wire.Reply, error) {
			if streaming {
				sink.Deliver(progress("1", 1))
			}
			close(started)
			<-ctx.Done()
			causes <- ctx.Err()
			return wire.Reply{}, ctx.Err()
		}}
		s := newRig(t, Options{}, b)
		ctx, hangUp := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if res, err := s.client.Do(mustRequest(ctx, modern("tools/list", ""), modernCall("1", "tools/list", ""))); err == nil {
				defer res.Body.Close()
				for e := newEvents(t, res); e.next() != ""; {
				}
			}
		})
		<-started
		hangUp()
		wg.Wait()
		select {
		case err := <-causes:
			if err == nil {
				t.Error("cancelled without an error")
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("streaming %v: not cancelled", streaming)
		}
	}
}

func TestLogMessagesOnlyWhereWanted(t *testing.T) {
	b := &fake{handle: func(_ context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
		raw := `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}`
		sink.Deliver(wire.Notification{Method: "notifications/message", Raw: []byte(raw)})
		return echo(r)
	}}
	s := newRig(t, Options{}, b)
	if a := s.post(modern("tools/list", ""), modernCall("1", "tools/list", "")); a.header.Get("Content-Type") != "application/json" {
		t.Errorf("unwanted: %s", a.body)
	}
	a := s.post(modern("tools/list", ""), strings.Replace(modernCall("1", "tools/list", ""), `"_meta":{`, `"_meta":{"io.modelcontextprotocol/logLevel":"info",`, 1))
	if !strings.Contains(a.body, "notifications/message") {
		t.Errorf("wanted: %s", a.body)
	}
}

func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRig(t, Options{}, &fake{})
		const sub = `"_meta":{"io.modelcontextprotocol/subscriptionId":9007199254740993`
		e := newEvents(t, s.open(t.Context(), "POST", "/mcp", modern("subscriptions/listen", ""), listenCall("9007199254740993")))
		defer e.close()
		expect := func(want string) {
			t.Helper()
			if got := e.next(); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		}
		// The endpoint promises no changes of resources, and prompts were not asked for.
		expect(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{` + sub + `},"notifications":{"toolsListChanged":true}}}`)
		for _, other := range []string{"prompts/list_changed", "resources/list_changed", "message", "progress"} {
			s.b.announce(`{"jsonrpc":"2.0","method":"notifications/` + other + `"}`)
		}
		for _, c := range []struct{ raw, want string }{
			{toolsChanged, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{` + sub + `}}}`},
			{`{"params":{},"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"params":{` + sub + `}},"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`},
			{`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"x":1}}`, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{` + sub + `},"x":1}}`},
			{`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"x":1}}}`, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{` + sub + `,"x":1}}}`},
			{`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":null}}`, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{` + sub + `}}}`},
			{`{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"u"}}}`, `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{` + sub + `}}}`},
		} {
			s.b.announce(c.raw)
			expect(c.want)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.edge.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
		expect(`{"jsonrpc":"2.0","id":9007199254740993,"result":{"resultType":"complete",` + sub + `}}}`)
		expect("")
		wg.Wait()
		if a := s.post(modern("tools/list", ""), modernCall("1", "tools/list", "")); a.status != 503 || a.rpc(t) == 0 {
			t.Errorf("after Close: %d %s", a.status, a.body)
		}
	})
}

func TestListenEndsWithItsClient(t *testing.T) {
	s := newRig(t, Options{}, &fake{})
	ctx, hangUp := context.WithCancel(t.Context())
	res := s.open(ctx, "POST", "/mcp", modern("subscriptions/listen", ""), listenCall("1"))
	newEvents(t, res).next()
	hangUp()
	res.Body.Close()
	eventually(t, "nobody watches", func() bool { return s.b.watching() == 0 })
}
