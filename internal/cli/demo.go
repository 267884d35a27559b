package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
	"github.com/shannon-mcp/shannon/manager"
)

const (
	demoTool    = "demo__echo"
	demoText    = "Hello from a real MCP server"
	demoLimit   = 30 * time.Second
	demoAnswer  = 1 << 20
	legacyDemo  = "2025-11-25"
	modernDemo  = "2026-07-28"
	acceptBoth  = "application/json, text/event-stream"
	contentType = "Content-Type"
)

// demo makes one call through the daemon's own endpoint in each era, as a client
// would, and prints answer and time.
func (a *app) demo(ctx context.Context, m *manager.Manager, s *shannon.Summary, cfg manager.Config) error {
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	if _, err := m.Connect(ctx, "demo"); err != nil {
		return fmt.Errorf("connect demo server: %w", err)
	}
	token, _, err := manager.ReadToken(cfg.Home)
	if err != nil {
		return err
	}
	c := newDemoClient(s, cfg, token)
	defer c.http.CloseIdleConnections()
	for _, call := range []func(context.Context) (demoCall, error){c.legacy, c.modern} {
		made, err := call(ctx)
		if err != nil {
			return fmt.Errorf("call %s in the %s era: %w", demoTool, made.Era, err)
		}
		if a.json {
			a.out.item(made)
			continue
		}
		o := a.out.out
		a.out.printf("%s %s: %s answered %q in %s", made.Era, made.Version, o.bold(demoTool), made.Answer, o.good(took(made.took)))
	}
	return nil
}

// demoCall is a call that was made.
type demoCall struct {
	Era     shannon.Era `json:"era"`
	Version string      `json:"version"`
	Answer  string      `json:"answer"`
	MS      float64     `json:"ms"`
	took    time.Duration
}

// timed makes the call itself.
func (c *demoClient) timed(ctx context.Context, made demoCall, message string) (demoCall, error) {
	start := time.Now()
	result, err := c.post(ctx, message)
	made.took = time.Since(start)
	made.MS = float64(made.took.Microseconds()) / 1000
	made.Answer = textOf(result)
	return made, err
}

// textOf is the text of a tool's result.
func textOf(result []byte) string {
	var r struct {
		Content []struct {
			Text string `json:"text"`
		} `json:"content"`
	}
	if json.Unmarshal(result, &r) != nil || len(r.Content) == 0 {
		return string(result)
	}
	return r.Content[0].Text
}

// demoClient is as small as an MCP client over Streamable HTTP can be.
type demoClient struct {
	http  *http.Client
	url   string
	token shannon.Secret
	extra http.Header
}

// newDemoClient uses the address that clients use; where that needs a certificate
// to be trusted, or there is none, the socket.
func newDemoClient(s *shannon.Summary, cfg manager.Config, token shannon.Secret) *demoClient {
	c := &demoClient{url: endpoint(s, cfg), token: token, extra: http.Header{}}
	t := &http.Transport{}
	if !strings.HasPrefix(c.url, "http://") {
		c.url = "http://localhost/mcp"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", s.Socket)
		}
	}
	c.http = &http.Client{Transport: t}
	return c
}

func (c *demoClient) legacy(ctx context.Context) (demoCall, error) {
	made := demoCall{Era: shannon.EraLegacy, Version: legacyDemo}
	hello := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + legacyDemo +
		`","capabilities":{},"clientInfo":{"name":"shannon-demo","version":"1"}}}`
	if _, err := c.post(ctx, hello); err != nil {
		return made, err
	}
	c.extra.Set("MCP-Protocol-Version", legacyDemo)
	if _, err := c.post(ctx, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); err != nil {
		return made, err
	}
	defer c.end(ctx)
	return c.timed(ctx, made, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"`+demoTool+`","arguments":{"text":"`+demoText+`"}}}`)
}

// end ends the legacy session, which is a courtesy.
func (c *demoClient) end(ctx context.Context) {
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, c.url, http.NoBody)
	if err != nil {
		return
	}
	c.header(req)
	if res, err := c.http.Do(req); err == nil {
		_ = res.Body.Close() // whatever it says
	}
	c.extra = http.Header{}
}

func (c *demoClient) modern(ctx context.Context) (demoCall, error) {
	c.extra = http.Header{"Mcp-Protocol-Version": {modernDemo}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {demoTool}}
	meta := `{"` + wire.MetaVersion + `":"` + modernDemo + `","` + wire.MetaClientCaps + `":{},"` +
		wire.MetaClientInfo + `":{"name":"shannon-demo","version":"1"}}`
	return c.timed(ctx, demoCall{Era: shannon.EraModern, Version: modernDemo},
		`{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"`+demoTool+`","arguments":{"text":"`+demoText+`"},"_meta":`+meta+`}}`)
}

func (c *demoClient) header(req *http.Request) {
	maps.Copy(req.Header, c.extra)
	req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	req.Header.Set("Accept", acceptBoth)
}

// post sends a message and returns the result of the answer, nil where none is due.
func (c *demoClient) post(ctx context.Context, message string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(message))
	if err != nil {
		return nil, err
	}
	c.header(req)
	req.Header.Set(contentType, "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	if session := res.Header.Get("Mcp-Session-Id"); session != "" {
		c.extra.Set("Mcp-Session-Id", session)
	}
	if res.StatusCode == http.StatusAccepted {
		return nil, nil
	}
	answer, err := readAnswer(res)
	if err != nil {
		return nil, fmt.Errorf("read answer (%s): %w", res.Status, err)
	}
	if failure := wire.Member(answer, "error"); failure != nil {
		return nil, fmt.Errorf("the answer (%s) was an error: %s", res.Status, failure)
	}
	return wire.Member(answer, "result"), nil
}

// readAnswer returns the response among what comes: one JSON object, or the last
// message of a stream.
func readAnswer(res *http.Response) ([]byte, error) {
	if !strings.HasPrefix(res.Header.Get(contentType), "text/event-stream") {
		text, err := io.ReadAll(io.LimitReader(res.Body, demoAnswer))
		if err == nil && !json.Valid(text) {
			err = fmt.Errorf("it is not JSON: %.100q", text)
		}
		return text, err
	}
	events := wire.NewSSEReader(res.Body, demoAnswer)
	var last []byte
	for {
		e, err := events.Next()
		if errors.Is(err, io.EOF) && last != nil {
			return last, nil
		}
		if err != nil {
			return nil, err
		}
		if wire.Member(e.Data, "id") != nil {
			last = bytes.Clone(e.Data)
		}
	}
}
