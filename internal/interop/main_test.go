//go:build interop

package interop_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// serverMode tells the test binary to be the server "gosdk".
const serverMode = "INTEROP_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverMode) != "" {
		if err := serveGoSDK(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serveGoSDK is an MCP server over stdio that shows what a client cannot see of
// the others: whether a cancellation arrives, and a list that changes.
func serveGoSDK(ctx context.Context) error {
	server := mcp.NewServer(&mcp.Implementation{Name: "gosdk", Version: "1"}, nil)
	type waitArgs struct {
		File string `json:"file"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "wait", Description: "Waits until it is cancelled, and writes that down."},
		func(ctx context.Context, _ *mcp.CallToolRequest, in waitArgs) (*mcp.CallToolResult, any, error) {
			if err := os.WriteFile(in.File, []byte("started\n"), 0o600); err != nil {
				return nil, nil, err
			}
			<-ctx.Done()
			return nil, nil, errors.Join(ctx.Err(), os.WriteFile(in.File, []byte("started\ncancelled\n"), 0o600))
		})
	type addArgs struct {
		Name string `json:"name"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "add_tool", Description: "Adds a tool of that name."},
		func(_ context.Context, _ *mcp.CallToolRequest, in addArgs) (*mcp.CallToolResult, any, error) {
			mcp.AddTool(server, &mcp.Tool{Name: in.Name, Description: "Does nothing."},
				func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
					return &mcp.CallToolResult{Content: []mcp.Content{}}, nil, nil
				})
			return &mcp.CallToolResult{Content: []mcp.Content{}}, nil, nil
		})
	return server.Run(ctx, &mcp.StdioTransport{})
}

// check is one line of the report. The checks behind it run in any case.
func check(t *testing.T, name string, run func() error) {
	t.Helper()
	if err := run(); err != nil {
		t.Fail()
		fmt.Printf("not ok %s: %s\n", name, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", " ⏎ "))
		return
	}
	fmt.Printf("ok %s\n", name)
}

// need ends the test where a step fails without which nothing else can be tried.
func need(t *testing.T, name string, run func() error) {
	t.Helper()
	check(t, name, run)
	if t.Failed() {
		t.FailNow()
	}
}

// until polls a condition for at most 10 s and returns its last error.
func until(condition func() error) error {
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = condition(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("after 10 s still: %w", err)
}
