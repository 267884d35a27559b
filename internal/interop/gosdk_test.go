//go:build interop

package interop_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// bearer adds the token to each request.
type bearer struct{ token string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

// client is a connected client of the Go SDK and what it was told.
type client struct {
	*mcp.ClientSession
	d        *daemon
	at       endpoint
	progress chan *mcp.ProgressNotificationParams
	changed  chan struct{}
}

// connect connects to a server; version "" leaves the choice to the SDK.
func (d *daemon) connect(ctx context.Context, at endpoint, server, version string) (*client, error) {
	c := &client{d: d, at: at, progress: make(chan *mcp.ProgressNotificationParams, 100), changed: make(chan struct{}, 100)}
	sdk := mcp.NewClient(&mcp.Implementation{Name: "interop", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *mcp.ProgressNotificationClientRequest) { c.progress <- r.Params },
		ToolListChangedHandler:      func(context.Context, *mcp.ToolListChangedRequest) { c.changed <- struct{}{} },
	})
	var err error
	c.ClientSession, err = sdk.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint: at.url(server), HTTPClient: &http.Client{Transport: bearer{d.token}},
	}, &mcp.ClientSessionOptions{ProtocolVersion: version})
	return c, err
}

// TestGoSDK uses the official SDK for Go, which tries the modern era first, and
// the same in the legacy era.
func TestGoSDK(t *testing.T) {
	d := newServed(t)
	for _, try := range []struct{ name, version, want string }{
		{"Go", "", "2026-07-28"},
		{"Go legacy", "2025-11-25", "2025-11-25"},
	} {
		for _, at := range d.endpoints() {
			name := func(what string) string { return fmt.Sprintf("%s, %s: %s", try.name, at.name, what) }
			check(t, name("refused without the token"), func() error {
				refused := *d
				refused.token = "wrong"
				if _, err := refused.connect(t.Context(), at, "everything", try.version); err == nil || !strings.Contains(err.Error(), "Unauthorized") {
					return fmt.Errorf("got error %w", err)
				}
				return nil
			})
			everything, err := d.connect(t.Context(), at, "everything", try.version)
			check(t, name("connect"), func() error {
				if err == nil && everything.InitializeResult().ProtocolVersion != try.want {
					err = fmt.Errorf("got version %s, want %s", everything.InitializeResult().ProtocolVersion, try.want)
				}
				return err
			})
			gosdk, other := d.connect(t.Context(), at, "gosdk", try.version)
			check(t, name("connect to a second server"), func() error { return other })
			if err != nil || other != nil {
				continue
			}
			for _, c := range []struct {
				what string
				run  func(context.Context) error
			}{
				{"list tools", everything.lists},
				{"call", everything.calls},
				{"progress", everything.progresses},
				{"error of a tool", everything.toolFails},
				{"JSON-RPC error", gosdk.requestFails},
				{"cancel", gosdk.cancels},
				{"list_changed", gosdk.listChanges},
				{"close", func(context.Context) error { return errors.Join(everything.Close(), gosdk.Close()) }},
			} {
				check(t, name(c.what), func() error {
					ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
					defer cancel()
					return c.run(ctx)
				})
			}
		}
	}
}

func (c *client) tool(ctx context.Context, server, tool string, args any) (*mcp.CallToolResult, error) {
	return c.CallTool(ctx, &mcp.CallToolParams{Name: c.at.tool(server, tool), Arguments: args})
}

// text is the only text of a result.
func text(r *mcp.CallToolResult) string {
	if len(r.Content) == 1 {
		if t, ok := r.Content[0].(*mcp.TextContent); ok {
			return t.Text
		}
	}
	return fmt.Sprintf("no text but %+v", r.Content)
}

// names lists the names of all tools.
func (c *client) names(ctx context.Context) (names []string, err error) {
	for tool, err := range c.Tools(ctx, nil) {
		if err != nil {
			return nil, err
		}
		names = append(names, tool.Name)
	}
	return names, nil
}

func (c *client) lists(ctx context.Context) error {
	names, err := c.names(ctx)
	if want := c.at.tool("everything", "echo"); err == nil && !slices.Contains(names, want) {
		err = fmt.Errorf("no %s in %q", want, names)
	}
	return err
}

func (c *client) calls(ctx context.Context) error {
	r, err := c.tool(ctx, "everything", "echo", map[string]any{"message": "Grüße"})
	if err == nil && text(r) != "Echo: Grüße" {
		err = fmt.Errorf("got %s", text(r))
	}
	return err
}

func (c *client) progresses(ctx context.Context) error {
	params := &mcp.CallToolParams{
		Name: c.at.tool("everything", "trigger-long-running-operation"), Arguments: map[string]any{"duration": 0.5, "steps": 5},
	}
	params.SetProgressToken("interop")
	r, err := c.CallTool(ctx, params)
	if err != nil {
		return err
	}
	if want := "Long running operation completed. Duration: 0.5 seconds, Steps: 5."; text(r) != want {
		return fmt.Errorf("got %s, want %s", text(r), want)
	}
	// The SDK may deliver the last of them after the result.
	for n := 1.0; n <= 5; n++ {
		select {
		case p := <-c.progress:
			if p.Progress != n || p.Total != 5 || p.ProgressToken != "interop" {
				return fmt.Errorf("got progress %+v, want %v of 5", p, n)
			}
		case <-ctx.Done():
			return fmt.Errorf("progress %v did not come", n)
		}
	}
	return nil
}

func (c *client) toolFails(ctx context.Context) error {
	r, err := c.tool(ctx, "everything", "get-sum", map[string]any{"a": "no number"})
	if err == nil && !r.IsError {
		err = fmt.Errorf("got %s", text(r))
	}
	return err
}

func (c *client) requestFails(ctx context.Context) error {
	r, err := c.tool(ctx, "gosdk", "no-such-tool", map[string]any{})
	if rpc, ok := errors.AsType[*jsonrpc.Error](err); !ok || rpc.Code != jsonrpc.CodeInvalidParams {
		return fmt.Errorf("got %+v, %w", r, err)
	}
	return nil
}

func (c *client) cancels(ctx context.Context) error {
	file := filepath.Join(c.d.work, fmt.Sprint("cancel-", time.Now().UnixNano()))
	written := func(word string) error {
		return until(func() error {
			got, err := os.ReadFile(file)
			if err == nil && !strings.Contains(string(got), word) {
				err = fmt.Errorf("%s says %q and not %q", file, got, word)
			}
			return err
		})
	}
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := c.tool(calling, "gosdk", "wait", map[string]any{"file": file})
		ended <- err
	}()
	if err := written("started"); err != nil {
		return err
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		return fmt.Errorf("the call ended with %w", err)
	}
	if err := written("cancelled"); err != nil {
		return err
	}
	_, err := c.names(ctx) // the connection goes on
	return err
}

// listChanges adds a tool where the server is alone, and a server where all are.
func (c *client) listChanges(ctx context.Context) error {
	added := fmt.Sprint("extra", time.Now().UnixNano()%1e9)
	for len(c.changed) > 0 {
		<-c.changed
	}
	var err error
	want := added
	if c.at.tool("x", "y") == "y" {
		_, err = c.tool(ctx, "gosdk", "add_tool", map[string]any{"name": added})
	} else {
		want = added + "__wait"
		_, err = c.d.run("add", added, "-e", serverMode+"=1", "--", os.Args[0])
	}
	if err != nil {
		return err
	}
	select {
	case <-c.changed:
	case <-ctx.Done():
		return errors.New("the client was not told")
	}
	return until(func() error {
		names, err := c.names(ctx)
		if err == nil && !slices.Contains(names, want) {
			err = fmt.Errorf("no %s in %q", want, names)
		}
		return err
	})
}
