package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/catalog"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// upstream notes what reaches a server.
type upstream struct {
	mu   sync.Mutex
	got  []string
	info wire.Info
	err  error
}

func (u *upstream) note(what string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got = append(u.got, what)
}

func (u *upstream) Relay(_ context.Context, r *wire.Request, _ wire.Sink) (wire.Reply, error) {
	u.note(string(r.AppendTo(nil, &wire.Outgoing{ID: []byte("1")})))
	if u.err != nil {
		return wire.Reply{}, u.err
	}
	return wire.ResultReply([]byte(`{"n":9007199254740993}`))
}

func (u *upstream) Notify(_ context.Context, era shannon.Era, method string, params []byte) error {
	u.note(fmt.Sprint(era, " ", method, " ", string(params)))
	return u.err
}

func (u *upstream) Info(_ context.Context, era shannon.Era) (*wire.Info, error) {
	u.note(fmt.Sprint("info ", era))
	return &u.info, u.err
}

// servers is who is there; what is removed from it is gone.
type servers map[string]*upstream

func (s servers) find(id string) Upstream {
	if u := s[id]; u != nil {
		return u
	}
	return nil
}

func gatewayFor(s servers, parts ...catalog.Part) *Gateway {
	g := New(s.find, []byte(`{"name":"shannon"}`))
	g.SetCatalog(catalog.Build(parts, 48))
	return g
}

func part(name string, tools ...string) catalog.Part {
	p := catalog.Part{ServerID: "id-" + name, Server: name, Prefix: name + "__"}
	for _, t := range tools {
		p.Tools = append(p.Tools, []byte(t))
	}
	return p
}

var client = &wire.Client{Era: shannon.EraLegacy}

func request(t *testing.T, method, params string) *wire.Request {
	t.Helper()
	r, err := wire.Author(client, method, []byte(params))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func rpcCode(err error) int {
	if err == nil {
		return 0
	}
	return wire.ToRPC(err).Code
}

func TestAllRoutes(t *testing.T) {
	long := strings.Repeat("x", 60)
	s := servers{"id-a": {}, "id-b": {}}
	g := gatewayFor(s, part("a", `{"name":"one"}`, `{"name":"`+long+`"}`), part("b", `{"name":"one"}`, `{"name":"dotted.name"}`), part("gone", `{"name":"one"}`))
	publicOf := map[string]string{}
	for _, tool := range g.Catalog().Tools() {
		publicOf[tool.Name] = tool.Public
	}
	tests := []struct {
		name, params string
		server, sent string // what the server is called with
		code         int
	}{
		{"first", `{"name":"a__one","arguments":{"n":9007199254740993}}`, "id-a", `{"name":"one","arguments":{"n":9007199254740993}}`, 0},
		{"second", `{"arguments":{"name":"a__one"},"name":"b__one"}`, "id-b", `{"arguments":{"name":"a__one"},"name":"one"}`, 0},
		{"escaped", `{"name":"a\u005f_one"}`, "id-a", `{"name":"one"}`, 0},
		{"cut", `{"name":"` + publicOf[long] + `"}`, "id-a", `{"name":"` + long + `"}`, 0},
		{"replaced", `{"name":"` + publicOf["dotted.name"] + `"}`, "id-b", `{"name":"dotted.name"}`, 0},
		{"the server's own name", `{"name":"one"}`, "", "", wire.CodeInvalidParams},
		{"the whole long name", `{"name":"a__` + long + `"}`, "", "", wire.CodeInvalidParams},
		{"nobody's", `{"name":"c__one"}`, "", "", wire.CodeInvalidParams},
		{"none", `{"arguments":{}}`, "", "", wire.CodeInvalidParams},
		{"empty", `{"name":""}`, "", "", wire.CodeInvalidParams},
		{"of a server that was removed", `{"name":"gone__one"}`, "", "", wire.CodeInvalidParams},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, u := range s {
				u.got = nil
			}
			reply, err := g.All().Handle(t.Context(), request(t, "tools/call", tt.params), nil)
			if rpcCode(err) != tt.code {
				t.Fatalf("error %v, want %d", err, tt.code)
			}
			want := map[string][]string{}
			if tt.server != "" {
				want[tt.server] = []string{`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":` + tt.sent + `}`}
				if got := string(reply.Get(wire.FieldResult)); got != `{"n":9007199254740993}` {
					t.Errorf("result %s", got)
				}
			}
			got := map[string][]string{}
			for id, u := range s {
				if u.got != nil {
					got[id] = u.got
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestAllMethods(t *testing.T) {
	s := servers{"id-a": {err: errors.New("must not be asked")}}
	all := gatewayFor(s, part("a", `{"name":"one"}`)).All()
	for _, method := range []string{"resources/list", "x/unknown", "Tools/List", "tools/list2"} {
		if _, err := all.Handle(t.Context(), request(t, method, ""), nil); rpcCode(err) != wire.CodeMethodNotFound {
			t.Errorf("%q: %v", method, err)
		}
	}
	if err := all.Notify(t.Context(), client, wire.Envelope{Method: "notifications/x"}); err != nil {
		t.Error(err)
	}
	info, err := all.Describe(t.Context(), client)
	if err != nil || string(info.ServerInfo) != `{"name":"shannon"}` || !strings.Contains(string(info.Capabilities), `"listChanged":true`) {
		t.Errorf("%+v %v", info, err)
	}
	if s["id-a"].got != nil {
		t.Errorf("a server was asked: %v", s["id-a"].got)
	}
}

// TestAllPages reads 2,500 tools, each once and in order, also while the catalog
// changes.
func TestAllPages(t *testing.T) {
	var tools []string
	for i := range 2500 {
		tools = append(tools, fmt.Sprintf(`{"name":"t%04d","x":{"n":9007199254740993}}`, i))
	}
	g := gatewayFor(servers{}, part("a", tools...))
	seen := map[string]int{}
	cursor, pages := "", 0
	for {
		params := ""
		if cursor != "" {
			params = `{"cursor":"` + cursor + `"}`
		}
		reply, err := g.All().Handle(t.Context(), request(t, "tools/list", params), nil)
		if err != nil {
			t.Fatal(err)
		}
		var page struct {
			Tools []struct {
				Name string
				X    json.RawMessage
			}
			NextCursor string
		}
		if err := json.Unmarshal(reply.Get(wire.FieldResult), &page); err != nil {
			t.Fatal(err)
		}
		for _, tool := range page.Tools {
			seen[tool.Name]++
			if string(tool.X) != `{"n":9007199254740993}` {
				t.Fatalf("definition of %s: %s", tool.Name, tool.X)
			}
		}
		if pages++; page.NextCursor == "" {
			break
		}
		cursor = page.NextCursor
		// The very tool that the cursor names may go meanwhile.
		g.SetCatalog(catalog.Build([]catalog.Part{part("a", append(tools[:999:999], tools[1000:]...)...)}, 48))
	}
	if pages != 3 || len(seen) != 2500 {
		t.Errorf("%d tools on %d pages", len(seen), pages)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", name, n)
		}
	}
	for _, bad := range []string{`"?"`, `""`, `"@@@@"`} {
		if _, err := g.All().Handle(t.Context(), request(t, "tools/list", `{"cursor":`+bad+`}`), nil); rpcCode(err) != wire.CodeInvalidParams {
			t.Errorf("cursor %s: %v", bad, err)
		}
	}
}

func TestAnEmptyListIsAList(t *testing.T) {
	reply, err := gatewayFor(servers{}).All().Handle(t.Context(), request(t, "tools/list", ""), nil)
	if err != nil || string(reply.Get(wire.FieldResult)) != `{"tools":[]}` {
		t.Errorf("%s %v", reply.Raw, err)
	}
}

func TestOne(t *testing.T) {
	u := &upstream{info: wire.Info{
		Era: shannon.EraLegacy, ServerInfo: []byte(`{"name":"real","n":1.0}`), Instructions: "be kind",
		Capabilities: []byte(`{"tools":{"listChanged":true},"logging":{},"resources":{"subscribe":true,"listChanged":true,"x":[1.0]},"tasks":{"list":{}},"experimental":{"a":9007199254740993},"new\u0061":null}`),
	}}
	s := servers{"id-a": u}
	one := gatewayFor(s).One("id-a", "a")
	if _, err := one.Handle(t.Context(), request(t, "x/unknown", `{"name":"a__one"}`), nil); err != nil {
		t.Error(err)
	}
	if _, err := one.Handle(t.Context(), request(t, "tools/call", `{"name":"a__one"}`), nil); err != nil {
		t.Error(err)
	}
	for _, method := range []string{
		"notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed", "notifications/vendor",
	} {
		e, err := wire.Scan([]byte(`{"jsonrpc":"2.0","method":"` + method + `","params":{"n":1.0}}`))
		if err != nil {
			t.Fatal(err)
		}
		if err := one.Notify(t.Context(), client, e); err != nil {
			t.Error(err)
		}
	}
	info, err := one.Describe(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"jsonrpc":"2.0","id":1,"method":"x/unknown","params":{"name":"a__one"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a__one"}}`,
		`legacy notifications/vendor {"n":1.0}`,
		`info legacy`,
	}
	if d := cmp.Diff(want, u.got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	wantCaps := `{"tools":{"listChanged":true},"resources":{"listChanged":true,"x":[1.0]},"experimental":{"a":9007199254740993},"newa":null}`
	if string(info.Capabilities) != wantCaps || string(info.ServerInfo) != `{"name":"real","n":1.0}` || info.Instructions != "be kind" {
		t.Errorf("described as %s %s %q", info.Capabilities, info.ServerInfo, info.Instructions)
	}
	if !strings.Contains(string(u.info.Capabilities), `"logging"`) {
		t.Error("the server's own info was changed")
	}
}

// TestOneOfNobody asks for a server that was removed after its endpoint was found.
// A client that was not offered these asks all the same.
func TestOneSharesNoState(t *testing.T) {
	u := &upstream{}
	one := gatewayFor(servers{"id-a": u}).One("id-a", "a")
	for _, method := range []string{"logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/list"} {
		_, err := one.Handle(t.Context(), request(t, method, `{"level":"debug","uri":"a:b"}`), nil)
		if rpc, ok := errors.AsType[*wire.RPCError](err); !ok || rpc.Code != wire.CodeMethodNotFound || len(u.got) > 0 {
			t.Errorf("%s: %v, and the server got %q", method, err, u.got)
		}
	}
}

func TestOneOfNobody(t *testing.T) {
	s := servers{"id-a": {}}
	one := gatewayFor(s).One("id-a", "a")
	delete(s, "id-a")
	_, called := one.Handle(t.Context(), request(t, "tools/list", ""), nil)
	_, described := one.Describe(t.Context(), client)
	for what, err := range map[string]error{
		"call": called, "describe": described, "notify": one.Notify(t.Context(), client, wire.Envelope{Method: "x"}),
	} {
		if shannon.CodeOf(err) != shannon.CodeUnknownServer || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOneThatCannotBeReached(t *testing.T) {
	down := shannon.Errorf(shannon.CodeServerDown, "", "down")
	one := gatewayFor(servers{"id-a": {err: down}}).One("id-a", "a")
	if _, err := one.Describe(t.Context(), client); !errors.Is(err, down) {
		t.Errorf("describe: %v", err)
	}
	if _, err := one.Handle(t.Context(), request(t, "x", ""), nil); !errors.Is(err, down) {
		t.Errorf("call: %v", err)
	}
}

func TestCarried(t *testing.T) {
	for in, want := range map[string]string{
		``: `{}`, `{}`: `{}`, `null`: `{}`,
		`{"logging":{}}`:                                      `{}`,
		`{"a":1,"logging":{},"b":2}`:                          `{"a":1,"b":2}`,
		`{"resources":{"subscribe":true}}`:                    `{"resources":{}}`,
		`{"resources":{}}`:                                    `{"resources":{}}`,
		`{"prompts":{"subscribe":true,"logging":{}}}`:         `{"prompts":{"subscribe":true,"logging":{}}}`,
		`{"log\u0067ing":{},"tasks":{},"x":{"tasks":[1.50]}}`: `{"x":{"tasks":[1.50]}}`,
	} {
		if got := string(carried([]byte(in))); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestWatchers(t *testing.T) {
	g := gatewayFor(servers{})
	heard := map[string][]string{}
	listen := func(who string, watch func(func(wire.Notification)) func()) func() {
		return watch(func(n wire.Notification) { heard[who] = append(heard[who], string(n.Raw)) })
	}
	stopAll := listen("all", g.All().Watch)
	stopOne := listen("one", g.One("id-a", "a").Watch)
	defer listen("other", g.One("id-b", "b").Watch)()

	changed, err := wire.Scan([]byte(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed", "params":{"x":1.0}}`))
	if err != nil {
		t.Fatal(err)
	}
	g.SetCatalog(g.Catalog())
	g.Forward("id-a", changed)
	g.Forward("id-a", wire.Envelope{Method: "notifications/message"}) // for one client only, and not known for whom
	stopAll()
	stopOne()
	stopOne()
	g.SetCatalog(g.Catalog())
	g.Forward("id-a", changed)
	want := map[string][]string{
		"all": {`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`},
		"one": {string(changed.Raw)},
	}
	if d := cmp.Diff(want, heard); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(g.watchers) != 1 {
		t.Errorf("watchers are left over: %v", g.watchers)
	}
}

// TestWatcherStopsWhileItIsTold stops from within, and waits for a lock that who
// stops holds, as a session does.
func TestWatcherStopsWhileItIsTold(t *testing.T) {
	g := gatewayFor(servers{})
	var stop func()
	stop = g.All().Watch(func(wire.Notification) { stop() })
	g.SetCatalog(g.Catalog())
	if len(g.watchers) != 0 {
		t.Error("it did not stop")
	}

	var session sync.Mutex
	told, begun := make(chan struct{}), make(chan struct{})
	stop = g.All().Watch(func(wire.Notification) {
		close(begun)
		session.Lock()
		defer session.Unlock()
		close(told)
	})
	session.Lock()
	var wg sync.WaitGroup
	wg.Go(func() { g.SetCatalog(g.Catalog()) })
	<-begun
	stop() // with the lock held
	session.Unlock()
	wg.Wait()
	<-told
}

func TestWatchersConcurrently(t *testing.T) {
	g := gatewayFor(servers{}, part("a", `{"name":"one"}`))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				stop := g.All().Watch(func(wire.Notification) {})
				g.SetCatalog(g.Catalog())
				stop()
			}
		})
	}
	wg.Wait()
	if len(g.watchers) != 0 {
		t.Error("watchers are left over")
	}
}
