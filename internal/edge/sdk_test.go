package edge

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// TestOfficialSDK lets the official client speak every version with the edge.
func TestOfficialSDK(t *testing.T) {
	for _, version := range versions {
		if version == "2024-11-05" {
			continue // which it speaks over HTTP+SSE only
		}
		t.Run(version, func(t *testing.T) { testSDK(t, version) })
	}
}

func testSDK(t *testing.T, version string) {
	b := &fake{handle: func(_ context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
		if token := r.Get(wire.FieldMetaToken); token != nil {
			for i := range 3 {
				sink.Deliver(progress(string(token), i))
			}
		}
		switch r.Method {
		case "tools/call":
			return reply(fmt.Sprintf(`{"content":[{"type":"text","text":"%s says %s"}]}`, r.Name, r.Client.Era))
		case "prompts/list":
			return failure(`{"code":-32602,"message":"a server's own words"}`)
		}
		return echo(r)
	}}
	s := newRig(t, Options{}, b)
	changed, progressed := make(chan struct{}, 10), make(chan float64, 10)
	client := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			progressed <- r.Params.Progress
		},
	})
	cs, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: "http://x/mcp", HTTPClient: s.client},
		&mcp.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close()
	if got := cs.InitializeResult().ProtocolVersion; got != version {
		t.Errorf("speaks %s", got)
	}
	if got := cs.InitializeResult().Instructions; got != `be "good"` {
		t.Errorf("instructions %q", got)
	}
	tools, err := cs.ListTools(t.Context(), nil)
	if err != nil || len(tools.Tools) != 1 || tools.Tools[0].Name != "echo" {
		t.Fatalf("list: %v %v", tools, err)
	}
	params := &mcp.CallToolParams{Name: "echo"}
	params.SetProgressToken("p")
	res, err := cs.CallTool(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	era := "legacy"
	if version == modernVersion {
		era = "modern"
	}
	if got := res.Content[0].(*mcp.TextContent).Text; got != "echo says "+era {
		t.Errorf("call: %s", got)
	}
	for i := range 3 {
		if p := <-progressed; p != float64(i) {
			t.Errorf("progress %v", p)
		}
	}
	if _, err := cs.ListPrompts(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "a server's own words") {
		t.Errorf("error: %v", err)
	}
	if _, err := cs.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "a:b"}); err == nil {
		t.Error("an unknown method has an answer")
	}
	// Its stream opens in the background; the change is announced until it is heard.
	eventually(t, "list_changed", func() bool {
		b.announce(toolsChanged)
		select {
		case <-changed:
			return true
		default:
			return false
		}
	})
	if err := cs.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	eventually(t, "nothing is left of the session", func() bool { return b.watching() == 0 })
}

// TestNobodyGetsAnothersAnswer is the case of CVE-2026-25536: all clients use
// the same ids and tokens.
func TestNobodyGetsAnothersAnswer(t *testing.T) {
	const clients, calls = 64, 40
	b := &fake{handle: func(_ context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
		nonce := string(wire.Member(r.Get(wire.FieldParams), "nonce"))
		if strings.HasSuffix(nonce, `0"`) { // one in ten streams
			sink.Deliver(wire.Notification{
				Method: "notifications/progress",
				Raw:    fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"nonce":%s}}`, nonce),
			})
		}
		return reply(`{"nonce":` + nonce + `}`)
	}}
	s := newRig(t, Options{}, b)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			var h http.Header
			meta := testMeta
			if h = modern("tools/call", "t"); c%2 == 0 {
				h = heads(headerSession, s.initialize("2025-11-25"))
				meta = `"_meta":{"progressToken":1}`
			}
			for i := range calls {
				nonce := fmt.Sprintf(`"%d.%d"`, c, i)
				a := s.post(h.Clone(), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","nonce":`+nonce+`,`+meta+`}}`)
				want := 1
				if strings.HasSuffix(nonce, `0"`) {
					want = 2
				}
				if a.status != 200 || strings.Count(a.body, "nonce") != want || strings.Count(a.body, `"nonce":`+nonce) != want {
					t.Errorf("asked with %s: %d %s", nonce, a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
}

func TestManySessionsWithStreams(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 200
	}
	s := newRig(t, Options{}, &fake{})
	streams := make([]*events, n)
	var wg sync.WaitGroup
	for part := range slices.Chunk(streams, n/20) {
		wg.Go(func() {
			for i := range part {
				id := s.initialize("2025-11-25")
				part[i] = newEvents(t, s.open(t.Context(), "GET", "/mcp", heads(headerSession, id), ""))
			}
		})
	}
	wg.Wait()
	for range 3 {
		s.b.announce(toolsChanged)
	}
	for part := range slices.Chunk(streams, n/20) {
		wg.Go(func() {
			for _, e := range part {
				if m := e.next(); m != toolsChanged {
					t.Errorf("got %q", m)
				}
				e.close()
			}
		})
	}
	wg.Wait()
}
