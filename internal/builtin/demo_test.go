package builtin_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon/internal/builtin"
	"github.com/shannon-mcp/shannon/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a demo on a pipe; it must end without an error when the pipe does.
func start(t *testing.T) io.ReadWriteCloser {
	client, server := mcptest.Pipe()
	done := make(chan error, 1)
	ctx := context.WithoutCancel(t.Context()) // which ends before the cleanup
	go func() { done <- builtin.Demo(ctx, server, server) }()
	t.Cleanup(func() {
		_ = client.Close()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("stop: %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("the demo did not stop at the end of its input")
		}
	})
	return client
}

func TestRaw(t *testing.T) {
	for _, version := range mcptest.Versions {
		t.Run(version, func(t *testing.T) {
			conn := start(t)
			c := mcptest.Connect(t, conn, conn, mcptest.Options{Version: version})
			opened := c.Open()
			if version != mcptest.Modern && string(opened.Get("result", "protocolVersion")) != `"`+version+`"` {
				t.Errorf("version: %s", opened.Result)
			}
			if r := c.Tool("echo", `{"text":"hello"}`); r.Text() != "hello" {
				t.Errorf("echo: %s %v", r.Raw, r.Err)
			}
			if r := c.Tool("add", `{"a":2,"b":3}`); r.Text() != "5" || r.Structured() != `{"sum":5}` {
				t.Errorf("add: %s %v", r.Raw, r.Err)
			}
			if r := c.Tool("time", `{"zone":"Asia/Tokyo"}`); !strings.HasSuffix(r.Text(), "+09:00") {
				t.Errorf("time in Tokyo: %s %v", r.Raw, r.Err)
			}
			r := c.Tool("time", `{}`)
			if at, err := time.Parse(time.RFC3339, r.Text()); err != nil || time.Since(at).Abs() > time.Minute || !strings.HasSuffix(r.Text(), "Z") {
				t.Errorf("time: %s %v", r.Raw, err)
			}
			for tool, args := range map[string]string{"time": `{"zone":"Mars/Base"}`, "slow": `{"seconds":1e9}`, "add": `{"a":1}`} {
				if r := c.Tool(tool, args); string(r.Get("result", "isError")) != "true" && r.Error == nil {
					t.Errorf("%s %s: %s", tool, args, r.Raw)
				}
			}
			if r := c.Call("prompts/get", `{"name":"greet","arguments":{"name":"Ada"}}`); !strings.Contains(string(r.Result), "Greet Ada") {
				t.Errorf("prompt: %s %v", r.Raw, r.Err)
			}
			if r := c.Call("resources/read", `{"uri":"shannon://demo/about"}`); !strings.Contains(string(r.Result), "demo server") {
				t.Errorf("resource: %s %v", r.Raw, r.Err)
			}
		})
	}
}

func TestSlow(t *testing.T) {
	for _, version := range []string{mcptest.Legacy, mcptest.Modern} {
		conn := start(t)
		c := mcptest.Connect(t, conn, conn, mcptest.Options{Version: version})
		c.Open()
		r := c.Call("tools/call", `{"name":"slow","arguments":{"seconds":0.02},"_meta":{"progressToken":"p"}}`)
		if len(r.Before) != 10 || r.Text() != "took 20ms" {
			t.Errorf("%s: %d steps, %s %v", version, len(r.Before), r.Raw, r.Err)
		}
		// What is still running must not hold up the end.
		c.Go("tools/call", `{"name":"slow","arguments":{"seconds":500}}`)
	}
}

func TestSDK(t *testing.T) {
	for _, version := range []string{mcptest.Legacy, mcptest.Modern} {
		conn := start(t)
		client := mcp.NewClient(&mcp.Implementation{Name: "sdk", Version: "1"}, nil)
		session, err := client.Connect(t.Context(), &mcp.IOTransport{Reader: conn, Writer: conn}, &mcp.ClientSessionOptions{ProtocolVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		if got := session.InitializeResult().ProtocolVersion; got != version {
			t.Errorf("version %s, want %s", got, version)
		}
		list, err := session.ListTools(t.Context(), nil)
		if err != nil || len(list.Tools) != 4 {
			t.Errorf("list: %v %v", list, err)
		}
		r, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "add", Arguments: map[string]any{"a": 1, "b": 1}})
		if err != nil || r.IsError {
			t.Errorf("add: %v %v", r, err)
		}
		if err := session.Close(); err != nil {
			t.Error(err)
		}
	}
}

const (
	initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"sh","version":"1"}}}`
	discover   = `{"jsonrpc":"2.0","id":2,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`
	legacyPing = `{"jsonrpc":"2.0","id":3,"method":"ping"}`
)

// TestLines is what a shell does: lines in, lines out, end of input.
func TestLines(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  []string // within the answer to each line
	}{
		{"legacy, then modern", []string{initialize, discover, legacyPing}, []string{`"2025-06-18"`, `"supportedVersions"`, `"result":{}`}},
		{"modern, then legacy", []string{discover, initialize}, []string{`"supportedVersions"`, `"error"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, w := io.Pipe()
			r, out := io.Pipe()
			done := make(chan error, 1)
			go func() { done <- builtin.Demo(t.Context(), in, out) }()
			answers := bufio.NewReader(r)
			for i, line := range tt.lines {
				if _, err := io.WriteString(w, line+"\n"); err != nil {
					t.Fatal(err)
				}
				answer, err := answers.ReadString('\n')
				if err != nil || !strings.Contains(answer, tt.want[i]) {
					t.Errorf("%s: %s %v", line, answer, err)
				}
			}
			_ = w.Close()
			if err := <-done; err != nil {
				t.Errorf("at the end of input: %v", err)
			}
		})
	}
}

func TestContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := io.Pipe()
	defer w.Close()
	if err := builtin.Demo(ctx, r, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
