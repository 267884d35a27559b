// Package builtin is the MCP server that Shannon itself has: the demo, with
// which one can try everything without installing a server first.
//
// It is built with the official Go SDK, which speaks both protocol eras: initialize
// opens a legacy session, a request that carries its protocol version in _meta is
// answered as modern, before and after that. What the SDK does not do is open a
// legacy session on a stream whose first request was modern; who wants both eras
// opens the legacy session first, or a second stream. The package knows nothing of the
// manager, its store or its clients; it sees a reader and a writer. Each Demo has
// a server of its own, shares nothing with another, and has ended its goroutines
// when it returns.
package builtin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	_ "time/tzdata" // a machine without a zone database knows the zones all the same

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Version is what the demo server says of itself in serverInfo.
const Version = "1.0.0"

// slowest is the most that the tool slow takes, so that a typing error does not
// keep a call for days.
const slowest = 10 * time.Minute

// Demo serves newline-delimited messages (stdio transport of every protocol
// version) until in ends, which is the clean stop and returns nil, or ctx is
// cancelled, which returns its error. It does not close in or out; a read of in
// that is under way when ctx is cancelled ends with in.
func Demo(ctx context.Context, in io.Reader, out io.Writer) error {
	transport := &mcp.IOTransport{Reader: io.NopCloser(in), Writer: unclosed{out}}
	err := newDemo().Run(ctx, transport)
	if err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("serve the demo: %w", err)
	}
	return ctx.Err()
}

// unclosed is a writer that belongs to somebody else.
type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

func newDemo() *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "shannon-demo", Title: "Shannon demo", Version: Version}, &mcp.ServerOptions{
		Instructions: "A small server to try Shannon with: echo, add, time and slow.",
	})
	mcp.AddTool(s, &mcp.Tool{
		Name: "echo", Description: "Returns the text that it is given.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
	}, echo)
	mcp.AddTool(s, &mcp.Tool{
		Name: "add", Description: "Adds two numbers.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
	}, add)
	mcp.AddTool(s, &mcp.Tool{
		Name: "time", Description: "Tells the time, as RFC 3339, in UTC or in the zone that is asked for.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
	}, now)
	mcp.AddTool(s, &mcp.Tool{
		Name: "slow", Description: "Takes so many seconds and reports its progress.",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true},
	}, slow)
	s.AddPrompt(&mcp.Prompt{
		Name: "greet", Description: "Asks for a greeting.",
		Arguments: []*mcp.PromptArgument{{Name: "name", Description: "who is greeted", Required: true}},
	}, greet)
	s.AddResource(&mcp.Resource{
		URI: aboutURI, Name: "about", Description: "What this server is.", MIMEType: "text/plain",
	}, about)
	return s
}

type echoInput struct {
	Text string `json:"text" jsonschema:"what to return"`
}

func echo(_ context.Context, _ *mcp.CallToolRequest, in echoInput) (*mcp.CallToolResult, any, error) {
	return said(in.Text), nil, nil
}

type addInput struct {
	A float64 `json:"a" jsonschema:"the first number"`
	B float64 `json:"b" jsonschema:"the second number"`
}

type addOutput struct {
	Sum float64 `json:"sum"`
}

func add(_ context.Context, _ *mcp.CallToolRequest, in addInput) (*mcp.CallToolResult, addOutput, error) {
	sum := in.A + in.B
	return said(strconv.FormatFloat(sum, 'g', -1, 64)), addOutput{sum}, nil
}

type timeInput struct {
	Zone string `json:"zone,omitempty" jsonschema:"an IANA time zone such as Europe/Berlin; UTC when missing"`
}

func now(_ context.Context, _ *mcp.CallToolRequest, in timeInput) (*mcp.CallToolResult, any, error) {
	zone, err := time.LoadLocation(in.Zone) // "" is UTC
	if err != nil {
		return nil, nil, fmt.Errorf("find zone: %w", err)
	}
	return said(time.Now().In(zone).Format(time.RFC3339)), nil, nil
}

type slowInput struct {
	Seconds float64 `json:"seconds" jsonschema:"how long it takes, at most 600"`
}

// slow reports ten steps; a client that wants none is not told.
func slow(ctx context.Context, r *mcp.CallToolRequest, in slowInput) (*mcp.CallToolResult, any, error) {
	const steps = 10
	if in.Seconds < 0 || in.Seconds > slowest.Seconds() {
		return nil, nil, fmt.Errorf("seconds must lie between 0 and %v", slowest.Seconds())
	}
	total := time.Duration(in.Seconds * float64(time.Second))
	ticker := time.NewTicker(max(total/steps, time.Nanosecond))
	defer ticker.Stop()
	for step := 1; step <= steps; step++ {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		token := r.Params.GetProgressToken()
		if token == nil {
			continue
		}
		if err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
			ProgressToken: token, Progress: float64(step), Total: steps,
		}); err != nil {
			return nil, nil, fmt.Errorf("report progress: %w", err)
		}
	}
	return said("took " + total.String()), nil, nil
}

func said(text string) *mcp.CallToolResult {
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: text}}}
}

func greet(_ context.Context, r *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
	return &mcp.GetPromptResult{Messages: []*mcp.PromptMessage{{
		Role: "user", Content: &mcp.TextContent{Text: "Greet " + r.Params.Arguments["name"] + " in one friendly sentence."},
	}}}, nil
}

const aboutURI = "shannon://demo/about"

func about(_ context.Context, r *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
	return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{
		URI: r.Params.URI, MIMEType: "text/plain", Text: "The demo server of Shannon, version " + Version + ".\n",
	}}}, nil
}
