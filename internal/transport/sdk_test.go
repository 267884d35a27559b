package transport

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

type echoInput struct {
	Text string `json:"text"`
}

// sdk is a server of the official Go SDK. Its tools: echo, wait (until it is
// cancelled), grow (adds a tool), progress.
type sdk struct {
	*mcp.Server
	mu        sync.Mutex
	cancelled int
	waiting   chan struct{} // tells that wait is called
	stop      chan struct{} // ends wait, so that the SDK can close
}

func newSDK() *sdk {
	s := &sdk{waiting: make(chan struct{}, 1), stop: make(chan struct{}), Server: mcp.NewServer(&mcp.Implementation{Name: "sdk", Version: "1"}, &mcp.ServerOptions{Instructions: "be kind"})}
	text := func(t string) *mcp.CallToolResult {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: t}}}
	}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "echo"}, func(_ context.Context, _ *mcp.CallToolRequest, in echoInput) (*mcp.CallToolResult, any, error) {
		return text(in.Text), nil, nil
	})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "wait"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ echoInput) (*mcp.CallToolResult, any, error) {
		s.waiting <- struct{}{}
		select {
		case <-ctx.Done():
		case <-s.stop:
		}
		s.mu.Lock()
		s.cancelled++
		s.mu.Unlock()
		return nil, nil, ctx.Err()
	})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "grow"}, func(_ context.Context, _ *mcp.CallToolRequest, in echoInput) (*mcp.CallToolResult, any, error) {
		mcp.AddTool(s.Server, &mcp.Tool{Name: in.Text}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, any, error) {
			return text("new"), nil, nil
		})
		return text("grown"), nil, nil
	})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "progress"}, func(ctx context.Context, r *mcp.CallToolRequest, _ echoInput) (*mcp.CallToolResult, any, error) {
		err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1})
		return text("done"), nil, err
	})
	return s
}

func serveSDK() {
	if err := newSDK().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Println(err)
	}
}

// sdkHTTP serves it over HTTP: with sessions, and so in the legacy era only, or
// without, in both eras.
func sdkHTTP(t testing.TB, sessions, jsonOnly bool) (*sdk, Target) {
	t.Helper()
	s := newSDK()
	h := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s.Server },
		&mcp.StreamableHTTPOptions{Stateless: !sessions, JSONResponse: jsonOnly, PropagateRequestCancellation: true})
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(s.stop) }) // before that
	return s, Target{Kind: shannon.TransportHTTP, URL: server.URL + "/mcp", Timeout: 5 * time.Second}
}

func TestSDKServers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		target func(*testing.T) (*sdk, Target)
		era    shannon.Era
	}{
		{"stdio legacy", func(t *testing.T) (*sdk, Target) { return nil, selfTarget(t, "sdk") }, shannon.EraLegacy},
		{"stdio modern", func(t *testing.T) (*sdk, Target) { return nil, selfTarget(t, "sdk") }, shannon.EraModern},
		{"http legacy sse", func(t *testing.T) (*sdk, Target) { return sdkHTTP(t, true, false) }, shannon.EraLegacy},
		{"http modern sse", func(t *testing.T) (*sdk, Target) { return sdkHTTP(t, false, false) }, shannon.EraModern},
		{"http legacy json", func(t *testing.T) (*sdk, Target) { return sdkHTTP(t, true, true) }, shannon.EraLegacy},
		{"http modern json", func(t *testing.T) (*sdk, Target) { return sdkHTTP(t, false, true) }, shannon.EraModern},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, target := tt.target(t)
			rec := &recorder{}
			p, err := dialer(t, realHost(t)).Dial(t.Context(), target, Want{Era: tt.era}, rec.hooks())
			if err != nil {
				t.Fatal(err)
			}
			closing(t, p)
			if info := p.Info(); info.Era != tt.era || (len(info.Eras) != 2 && !strings.HasPrefix(tt.name, "http legacy")) || info.Instructions != "be kind" || !strings.Contains(string(info.ServerInfo), `"sdk"`) {
				t.Errorf("info: %+v", info)
			}
			if got := mustCall(t, p, request(t, "tools/list", "{}")); !strings.Contains(got, `"progress"`) {
				t.Errorf("tools: %s", got)
			}
			tool := func(name, text string) *wire.Request {
				return request(t, "tools/call", `{"name":"`+name+`","arguments":{"text":"`+text+`"}}`)
			}
			if got := mustCall(t, p, tool("echo", "héllo")); !strings.Contains(got, "héllo") {
				t.Errorf("echo: %s", got)
			}
			concurrently(t, p, tool, true)
			if server != nil {
				ctx, cancel := context.WithCancel(t.Context())
				go func() { <-server.waiting; cancel() }()
				_, err := p.Call(ctx, tool("wait", ""), nil)
				cancel()
				if err == nil {
					t.Error("a call went on after its context")
				}
				eventually(t, "the cancellation", func() bool { server.mu.Lock(); defer server.mu.Unlock(); return server.cancelled == 1 })
			}
			n := 0
			eventually(t, "a list change", func() bool {
				if n++; n%100 == 1 { // the SDK waits for calm before it notifies
					mustCall(t, p, tool("grow", fmt.Sprint("new", n)))
				}
				return rec.count("notifications/tools/list_changed") > 0
			})
			if !strings.Contains(tt.name, "json") {
				testProgress(t, p)
			}
		})
	}
}

func testProgress(t *testing.T, p wire.Peer) {
	t.Helper()
	var token string
	r := request(t, "tools/call", `{"name":"progress","arguments":{"text":""},"_meta":{"progressToken":"mine"}}`)
	_, err := p.Call(t.Context(), r, sinkFunc(func(n wire.Notification) {
		if e, _ := wire.Scan(n.Raw); e.Method == "notifications/progress" {
			token = string(e.Get(wire.FieldProgressToken))
		}
	}))
	if err != nil || token != `"mine"` {
		t.Errorf("progress with token %q, error %v", token, err)
	}
}

// concurrently has 64 callers who each must get an answer, their own if it is echoed.
func concurrently(t *testing.T, p wire.Peer, tool func(name, text string) *wire.Request, echoed bool) {
	t.Helper()
	var wg sync.WaitGroup
	for caller := range 64 {
		requests := make([]*wire.Request, 4)
		for i := range requests {
			requests[i] = tool("echo", fmt.Sprintf("nonce-%d-%d-end", caller, i))
		}
		wg.Go(func() {
			for i, r := range requests {
				reply, err := p.Call(t.Context(), r, nil)
				if err != nil || echoed && !strings.Contains(string(reply.Raw), fmt.Sprintf("nonce-%d-%d-end", caller, i)) {
					t.Errorf("caller %d got %s, %v", caller, reply.Raw, err)
					return
				}
			}
		})
	}
	wg.Wait()
}
