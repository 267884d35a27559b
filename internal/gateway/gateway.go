// Package gateway routes a client's request to the server that it is for.
//
// [All] offers every server at one endpoint, its tools under their public names;
// [One] offers a single server as it is. Both work on self-contained requests and
// neither knows a protocol era: what a client and a server speak is the business
// of the edges. The gateway decodes no payload and holds no lock across a call;
// the catalog is read by one atomic load. All methods may be called concurrently.
package gateway

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/catalog"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// pageSize is how many tools a list gives at a time.
const pageSize = 1000

// Upstream is a supervised server.
type Upstream interface {
	// Relay sends a client's request to the server.
	Relay(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error)
	// Notify sends a client's notification to the server.
	Notify(ctx context.Context, era shannon.Era, method string, params []byte) error
	// Info tells what the server said of itself to clients of that era.
	Info(ctx context.Context, era shannon.Era) (*wire.Info, error)
}

// Upstreams finds a supervised server by its id, nil when there is none.
type Upstreams func(serverID string) Upstream

// Gateway is what all endpoints share: the catalog and who wants to hear of its
// changes.
type Gateway struct {
	upstreams Upstreams
	info      wire.Info // of All
	catalog   atomic.Pointer[catalog.Snapshot]

	mu       sync.Mutex
	watchers map[string]map[*watcher]struct{} // by server id, "" for All
}

type watcher struct{ notify func(wire.Notification) }

// New makes a gateway. self is Shannon's own Implementation object.
func New(upstreams Upstreams, self []byte) *Gateway {
	g := &Gateway{
		upstreams: upstreams, watchers: map[string]map[*watcher]struct{}{},
		info: wire.Info{ServerInfo: self, Capabilities: []byte(`{"tools":{"listChanged":true}}`)},
	}
	g.catalog.Store(catalog.Build(nil, catalog.DefaultMaxName))
	return g
}

// Catalog returns who offers what.
func (g *Gateway) Catalog() *catalog.Snapshot { return g.catalog.Load() }

// SetCatalog puts a new catalog in force and tells the clients of All.
func (g *Gateway) SetCatalog(s *catalog.Snapshot) {
	g.catalog.Store(s)
	g.tell("", wire.Notification{
		Method: "notifications/tools/list_changed",
		Raw:    wire.AppendNotification(nil, "notifications/tools/list_changed", nil),
	})
}

// Forward gives a server's notification, where it is for everybody, to the
// clients of that server's own endpoint.
func (g *Gateway) Forward(serverID string, e wire.Envelope) {
	switch e.Method {
	case "notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed":
		g.tell(serverID, wire.Notification{Method: e.Method, Raw: e.Raw})
	}
}

// tell calls the watchers without the lock, so that one may stop while it is told.
func (g *Gateway) tell(key string, n wire.Notification) {
	g.mu.Lock()
	told := slices.Collect(maps.Keys(g.watchers[key]))
	g.mu.Unlock()
	for _, w := range told {
		w.notify(n)
	}
}

func (g *Gateway) watch(key string, f func(wire.Notification)) (stop func()) {
	w := &watcher{f}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.watchers[key] == nil {
		g.watchers[key] = map[*watcher]struct{}{}
	}
	g.watchers[key][w] = struct{}{}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.watchers[key], w)
		if len(g.watchers[key]) == 0 {
			delete(g.watchers, key)
		}
	}
}

// upstream finds a server that the catalog or a caller named.
func (g *Gateway) upstream(id, name string) (Upstream, error) {
	if u := g.upstreams(id); u != nil {
		return u, nil
	}
	return nil, shannon.Errorf(shannon.CodeUnknownServer, "", "there is no server %q any more", name)
}

// All is the endpoint that offers every server.
type All struct{ g *Gateway }

// All returns the endpoint that offers every server.
func (g *Gateway) All() All { return All{g} }

// Handle serves one request.
func (a All) Handle(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	switch r.Method {
	case "tools/call":
		return a.call(ctx, r, sink)
	case "tools/list":
		return a.list(r)
	}
	return wire.Reply{}, wire.Errorf(wire.CodeMethodNotFound, "method not found: %s", r.Method)
}

func (a All) call(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	if r.Name == "" {
		return wire.Reply{}, wire.Errorf(wire.CodeInvalidParams, "tools/call needs the name of a tool")
	}
	t, ok := a.g.catalog.Load().Route(r.Name)
	if !ok {
		return wire.Reply{}, wire.Errorf(wire.CodeInvalidParams, "unknown tool: %s", r.Name)
	}
	u, err := a.g.upstream(t.ServerID, t.Server)
	if err != nil {
		return wire.Reply{}, err
	}
	r.Rename = t.Name
	return u.Relay(ctx, r, sink)
}

func (a All) list(r *wire.Request) (wire.Reply, error) {
	after, err := decodeCursor(r)
	if err != nil {
		return wire.Reply{}, err
	}
	page, next := a.g.catalog.Load().Page(after, pageSize)
	if next != "" {
		next = base64.RawURLEncoding.EncodeToString([]byte(next))
	}
	return wire.ResultReply(catalog.AppendList(nil, page, next))
}

func decodeCursor(r *wire.Request) (string, error) {
	raw := r.Get(wire.FieldCursor)
	if raw == nil {
		return "", nil
	}
	// The cursor is the request's routing name; it was decoded on the way in.
	after, err := base64.RawURLEncoding.DecodeString(r.Name)
	if err != nil || len(after) == 0 {
		return "", wire.Errorf(wire.CodeInvalidParams, "invalid cursor")
	}
	return string(after), nil
}

// Notify takes a client's notification. None is for all servers.
func (a All) Notify(context.Context, *wire.Client, wire.Envelope) error { return nil }

// Describe tells what Shannon says of itself.
func (a All) Describe(context.Context, *wire.Client) (wire.Info, error) { return a.g.info, nil }

// Watch calls f for what every client of the endpoint is to hear. f must not block.
// It may still be called once shortly after stop.
func (a All) Watch(f func(wire.Notification)) (stop func()) { return a.g.watch("", f) }

// One is the endpoint that offers one server as it is: names unchanged, and what
// Shannon does not know passes through.
type One struct {
	g        *Gateway
	id, name string
}

// One returns the endpoint of one server.
func (g *Gateway) One(serverID, name string) One { return One{g, serverID, name} }

// Handle serves one request. What one client would do by it to all who share the
// server, or learn of them, is not carried; see carried.
func (o One) Handle(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	switch r.Method {
	case "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "tasks/list":
		return wire.Reply{}, wire.Errorf(wire.CodeMethodNotFound, "method not found: %s", r.Method)
	}
	u, err := o.g.upstream(o.id, o.name)
	if err != nil {
		return wire.Reply{}, err
	}
	return u.Relay(ctx, r, sink)
}

// Notify takes a client's notification. Those that the protocol defines speak of
// the client's own session, which the server has no part in; others pass.
func (o One) Notify(ctx context.Context, c *wire.Client, e wire.Envelope) error {
	switch e.Method {
	case "notifications/initialized", "notifications/cancelled", "notifications/progress", "notifications/roots/list_changed":
		return nil
	}
	u, err := o.g.upstream(o.id, o.name)
	if err != nil {
		return err
	}
	return u.Notify(ctx, c.Era, e.Method, e.Get(wire.FieldParams))
}

// Describe tells what the server says of itself, connecting it where needed.
func (o One) Describe(ctx context.Context, c *wire.Client) (wire.Info, error) {
	u, err := o.g.upstream(o.id, o.name)
	if err != nil {
		return wire.Info{}, err
	}
	info, err := u.Info(ctx, c.Era)
	if err != nil {
		return wire.Info{}, err
	}
	described := *info
	described.Capabilities = carried(info.Capabilities)
	return described, nil
}

// Watch calls f for what every client of the endpoint is to hear. f must not block.
// It may still be called once shortly after stop.
func (o One) Watch(f func(wire.Notification)) (stop func()) { return o.g.watch(o.id, f) }

// carried leaves those capabilities of a server out that Shannon does not carry
// between a shared peer and its many clients: a client must not count on them.
func carried(capabilities []byte) []byte {
	return pick(capabilities, func(key string, value []byte) []byte {
		switch key {
		case "logging", "tasks":
			return nil
		case "resources":
			return pick(value, func(key string, value []byte) []byte {
				if key == "subscribe" {
					return nil
				}
				return value
			})
		}
		return value
	})
}

// pick returns an object with the values that f gives for those of object, without
// the members for which it gives nil.
func pick(object []byte, f func(key string, value []byte) []byte) []byte {
	out := []byte{'{'}
	for key, value := range wire.Members(object) {
		if value = f(key, value); value == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(wire.AppendString(out, key), ':'), value...)
	}
	return append(out, '}')
}
