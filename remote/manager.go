package remote

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// named refuses the name that would make another path.
func named(server string) error {
	if server == "" {
		return shannon.Errorf(shannon.CodeUnknownServer, "See shannon ls", "no server is named")
	}
	return nil
}

// AddServer implements [shannon.Servers].
func (c *Client) AddServer(ctx context.Context, s shannon.Server) (shannon.Server, error) {
	body, err := s.Reveal()
	if err != nil {
		return shannon.Server{}, shannon.Errorf(shannon.CodeInvalidServer, "", "%w", err)
	}
	return ask[shannon.Server](ctx, c, call{
		method: http.MethodPost, path: prefix + "/servers", media: "application/json", body: body, acts: true,
	})
}

// Server implements [shannon.Servers].
func (c *Client) Server(ctx context.Context, name string) (shannon.Server, error) {
	if err := named(name); err != nil {
		return shannon.Server{}, err
	}
	return get[shannon.Server](ctx, c, at(name, ""), nil)
}

// ListServers implements [shannon.Servers].
func (c *Client) ListServers(ctx context.Context, f shannon.ServerFilter) ([]shannon.Server, error) {
	q := url.Values{}
	set(q, "transport", string(f.Transport))
	if f.Enabled != nil {
		q.Set("enabled", strconv.FormatBool(*f.Enabled))
	}
	return get[[]shannon.Server](ctx, c, "/servers", q)
}

// UpdateServer implements [shannon.Servers].
func (c *Client) UpdateServer(ctx context.Context, name string, patch json.RawMessage) (shannon.Server, error) {
	if err := named(name); err != nil {
		return shannon.Server{}, err
	}
	return ask[shannon.Server](ctx, c, call{
		method: http.MethodPatch, path: prefix + at(name, ""), media: "application/merge-patch+json", body: patch, acts: true,
	})
}

// RemoveServer implements [shannon.Servers].
func (c *Client) RemoveServer(ctx context.Context, name string) error {
	if err := named(name); err != nil {
		return err
	}
	_, err := c.read(ctx, call{method: http.MethodDelete, path: prefix + at(name, ""), acts: true})
	return err
}

// Connect implements [shannon.Links].
func (c *Client) Connect(ctx context.Context, name string) (shannon.Status, error) {
	if err := named(name); err != nil {
		return shannon.Status{}, err
	}
	return ask[shannon.Status](ctx, c, post(name, "/connect", nil))
}

// Disconnect implements [shannon.Links].
func (c *Client) Disconnect(ctx context.Context, name string) (bool, error) {
	if err := named(name); err != nil {
		return false, err
	}
	answer, err := ask[struct {
		Disconnected bool `json:"disconnected"`
	}](ctx, c, post(name, "/disconnect", nil))
	return answer.Disconnected, err
}

// Restart implements [shannon.Links].
func (c *Client) Restart(ctx context.Context, name string) (shannon.Status, error) {
	if err := named(name); err != nil {
		return shannon.Status{}, err
	}
	return ask[shannon.Status](ctx, c, post(name, "/restart", nil))
}

// Status implements [shannon.Links].
func (c *Client) Status(ctx context.Context, name string) (shannon.Status, error) {
	if err := named(name); err != nil {
		return shannon.Status{}, err
	}
	return get[shannon.Status](ctx, c, at(name, "/status"), nil)
}

// Statuses implements [shannon.Links].
func (c *Client) Statuses(ctx context.Context) ([]shannon.Status, error) {
	return get[[]shannon.Status](ctx, c, "/status", nil)
}

// Summary implements [shannon.Links].
func (c *Client) Summary(ctx context.Context) (shannon.Summary, error) {
	return get[shannon.Summary](ctx, c, "/summary", nil)
}

// Tools implements [shannon.Calls].
func (c *Client) Tools(ctx context.Context, server string) ([]shannon.Tool, error) {
	path := "/tools"
	if server != "" {
		path = at(server, "/tools")
	}
	return get[[]shannon.Tool](ctx, c, path, nil)
}

// CallTool implements [shannon.Calls].
func (c *Client) CallTool(ctx context.Context, server, tool string, args json.RawMessage) (json.RawMessage, error) {
	return c.relay(ctx, server, "/call", payload{"tool", tool, "arguments", args})
}

// Request implements [shannon.Calls].
func (c *Client) Request(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
	return c.relay(ctx, server, "/request", payload{"method", method, "params", params})
}

// Notify implements [shannon.Calls].
func (c *Client) Notify(ctx context.Context, server, method string, params json.RawMessage) error {
	_, err := c.relay(ctx, server, "/notify", payload{"method", method, "params", params})
	return err
}

// payload is a body that names something and carries an object as it is.
type payload struct {
	nameKey, name string
	key           string
	object        json.RawMessage
}

func (c *Client) relay(ctx context.Context, server, what string, p payload) (json.RawMessage, error) {
	if err := named(server); err != nil {
		return nil, err
	}
	body := wire.AppendString([]byte{'{'}, p.nameKey)
	body = wire.AppendString(append(body, ':'), p.name)
	if len(p.object) > 0 {
		if !json.Valid(p.object) { // checked here because it must not change what is around it
			return nil, shannon.Errorf(shannon.CodeInvalidRequest, `Give a JSON object: {"key": "value"}`, "%s are not JSON", p.key)
		}
		body = append(wire.AppendString(append(body, ','), p.key), ':')
		body = append(body, p.object...)
	}
	return c.read(ctx, post(server, what, append(body, '}')))
}

// History implements [shannon.Records].
func (c *Client) History(ctx context.Context, f shannon.HistoryFilter) ([]shannon.Transition, error) {
	q := url.Values{}
	set(q, "server", f.Server)
	set(q, "state", string(f.State))
	if !f.Since.IsZero() {
		q.Set("since", f.Since.Format(time.RFC3339Nano))
	}
	if f.Limit != 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	return get[[]shannon.Transition](ctx, c, "/history", q)
}

func set(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}
