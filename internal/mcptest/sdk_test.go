package mcptest_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/shannon-mcp/shannon/internal/mcptest"
)

// TestServerWithSDK holds the server against the official client.
func TestServerWithSDK(t *testing.T) {
	transports := map[string]func(*testing.T, mcptest.Script) mcp.Transport{
		"pipe": func(t *testing.T, s mcptest.Script) mcp.Transport {
			_, conn := mcptest.ServePipe(t, s)
			return &mcp.IOTransport{Reader: conn, Writer: conn}
		},
		"child": func(t *testing.T, s mcptest.Script) mcp.Transport {
			return &mcp.CommandTransport{Command: mcptest.Cmd(t, s)}
		},
		"http": func(t *testing.T, s mcptest.Script) mcp.Transport {
			return sdkHTTP(t, mcptest.ListenHTTP(t, s).URL)
		},
		"http sse": func(t *testing.T, s mcptest.Script) mcp.Transport {
			s.HTTP = mcptest.HTTPScript{Replies: "sse", Resumable: true, Retry: 10}
			return sdkHTTP(t, mcptest.ListenHTTP(t, s).URL)
		},
	}
	eras := map[string][]string{"both": nil, "legacy": {mcptest.Legacy}, "modern": {mcptest.Modern}}
	want := map[string]string{"both": mcptest.Modern, "legacy": mcptest.Legacy, "modern": mcptest.Modern}
	for form, transport := range transports {
		for era, versions := range eras {
			t.Run(form+" "+era, func(t *testing.T) {
				sdkSession(t, transport(t, mcptest.Script{Versions: versions, PageSize: 5}), want[era])
			})
		}
		t.Run(form+" forced legacy", func(t *testing.T) {
			sdkSessionOf(t, transport(t, mcptest.Script{}), mcptest.Legacy, mcptest.Legacy)
		})
	}
}

func sdkHTTP(t *testing.T, url string) mcp.Transport {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: transport}}
}

func sdkSession(t *testing.T, transport mcp.Transport, want string) {
	sdkSessionOf(t, transport, "", want)
}

// sdkSessionOf runs everything that the official client can do with the server.
func sdkSessionOf(t *testing.T, transport mcp.Transport, ask, want string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	changed := make(chan struct{}, 10)
	progress := make(chan float64, 10)
	client := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { changed <- struct{}{} },
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) {
			progress <- r.Params.Progress
		},
		ElicitationHandler: func(_ context.Context, r *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
			return &mcp.ElicitResult{Action: "accept", Content: map[string]any{"said": r.Params.Message}}, nil
		},
	})
	session, err := client.Connect(ctx, transport, &mcp.ClientSessionOptions{ProtocolVersion: ask})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if got := session.InitializeResult().ProtocolVersion; got != want {
		t.Fatalf("version %s, want %s", got, want)
	}

	tools := 0
	for _, err := range session.Tools(ctx, nil) {
		if err != nil {
			t.Fatal(err)
		}
		tools++
	}
	if tools < 20 {
		t.Errorf("%d tools", tools)
	}
	call := func(name string, args any) *mcp.CallToolResult {
		t.Helper()
		r, err := session.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: args})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	if got := call("echo", map[string]any{"a": "b"}).Content[0].(*mcp.TextContent).Text; got != `{"a":"b"}` {
		t.Errorf("echo: %s", got)
	}
	if !call("fail", map[string]any{"text": "no"}).IsError {
		t.Error("fail did not fail")
	}
	got := call("ask", map[string]any{"method": "elicitation/create", "params": map[string]any{
		"mode": "form", "message": "who?",
		"requestedSchema": map[string]any{"type": "object", "properties": map[string]any{"said": map[string]any{"type": "string"}}},
	}})
	if diff := cmp.Diff(map[string]any{"answers": []any{map[string]any{"action": "accept", "content": map[string]any{"said": "who?"}}}},
		got.StructuredContent); diff != "" {
		t.Error(diff)
	}
	_, err = session.CallTool(ctx, &mcp.CallToolParams{Name: "rpcerror", Arguments: map[string]any{"code": 77, "message": "m"}})
	var rpc *jsonrpc.Error
	if !errors.As(err, &rpc) || rpc.Code != 77 {
		t.Errorf("rpcerror: %v", err)
	}
	params := &mcp.CallToolParams{Name: "slow", Arguments: map[string]any{"ms": 3, "steps": 3}}
	params.SetProgressToken("tok")
	if _, err := session.CallTool(ctx, params); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		select {
		case p := <-progress:
			if p != float64(i+1) {
				t.Errorf("progress %v", p)
			}
		case <-ctx.Done():
			t.Fatal("no progress")
		}
	}
	call("change", map[string]any{"add": []string{"fresh"}})
	select {
	case <-changed:
	case <-ctx.Done():
		t.Error("no list_changed")
	}
	short, stop := context.WithTimeout(ctx, 30*time.Millisecond)
	if _, err := session.CallTool(short, &mcp.CallToolParams{Name: "hang"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hang: %v", err)
	}
	stop()
	if _, err := session.ListPrompts(ctx, nil); err != nil {
		t.Error(err)
	}
	if r, err := session.GetPrompt(ctx, &mcp.GetPromptParams{Name: "greet", Arguments: map[string]string{"who": "you"}}); err != nil || len(r.Messages) != 1 {
		t.Errorf("prompt: %v", err)
	}
	if r, err := session.ReadResource(ctx, &mcp.ReadResourceParams{URI: "mcptest://text"}); err != nil || len(r.Contents) != 1 {
		t.Errorf("resource: %v", err)
	}
	if _, err := session.ListResourceTemplates(ctx, nil); err != nil {
		t.Error(err)
	}
}

// TestClientWithSDK holds the client against the official server.
func TestClientWithSDK(t *testing.T) {
	server := sdkServer()
	stateful := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil))
	stateless := httptest.NewServer(mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server },
		&mcp.StreamableHTTPOptions{Stateless: true}))
	t.Cleanup(stateful.Close)
	t.Cleanup(stateless.Close)
	over := func(t *testing.T, o mcptest.Options) *mcptest.Client {
		client, end := mcptest.Pipe()
		session, err := server.Connect(t.Context(), &mcp.IOTransport{Reader: end, Writer: end}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = session.Wait() })
		return mcptest.Connect(t, client, client, o)
	}
	tests := map[string]func(*testing.T) *mcptest.Client{
		"pipe legacy": func(t *testing.T) *mcptest.Client { return over(t, mcptest.Options{}) },
		"pipe modern": func(t *testing.T) *mcptest.Client { return over(t, mcptest.Options{Version: mcptest.Modern}) },
		"http legacy": func(t *testing.T) *mcptest.Client { return mcptest.Dial(t, stateful.URL, mcptest.Options{}) },
		"http oldest": func(t *testing.T) *mcptest.Client {
			return mcptest.Dial(t, stateful.URL, mcptest.Options{Version: "2024-11-05"})
		},
		"http modern": func(t *testing.T) *mcptest.Client {
			return mcptest.Dial(t, stateless.URL, mcptest.Options{Version: mcptest.Modern})
		},
	}
	for name, open := range tests {
		t.Run(name, func(t *testing.T) {
			c := open(t)
			c.Open()
			if r := c.Tool("say", `{"what":"hi"}`); r.Text() != "hi" {
				t.Errorf("say: %s %v (status %d)", r.Raw, r.Err, r.Status)
			}
			if r := c.Tool("say", `{"what":4}`); r.Error == nil && string(r.Get("result", "isError")) != "true" {
				t.Errorf("say 4: %s %v", r.Raw, r.Err)
			}
			if r := c.Call("tools/list", ""); r.Result == nil {
				t.Errorf("list: %s %v", r.Raw, r.Err)
			}
			r := c.Go("tools/call", `{"name":"step","arguments":{},"_meta":{"progressToken":5}}`).Wait()
			if len(r.Before) != 1 || string(r.Before[0].Get("params", "progressToken")) != "5" {
				t.Errorf("step: %d notifications, then %s %v", len(r.Before), r.Raw, r.Err)
			}
			st := c.Go("tools/call", `{"name":"forever","arguments":{}}`)
			time.Sleep(20 * time.Millisecond)
			st.Cancel()
			if c.Session() != "" {
				if r := c.Delete(); r.Status != http.StatusNoContent {
					t.Errorf("delete: %d", r.Status)
				}
			}
		})
	}
}

func sdkServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "sdk", Version: "1"}, nil)
	type in struct {
		What string `json:"what"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "say"}, func(_ context.Context, _ *mcp.CallToolRequest, a in) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: a.What}}}, nil, nil
	})
	none := json.RawMessage(`{"type":"object"}`)
	server.AddTool(&mcp.Tool{Name: "step", InputSchema: none}, func(ctx context.Context, r *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1})
		return &mcp.CallToolResult{}, err
	})
	server.AddTool(&mcp.Tool{Name: "forever", InputSchema: none}, func(ctx context.Context, _ *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		return &mcp.CallToolResult{}, ctx.Err()
	})
	return server
}
