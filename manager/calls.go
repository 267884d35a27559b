package manager

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// Connect connects a server; see [shannon.Links].
func (m *Manager) Connect(ctx context.Context, name string) (shannon.Status, error) {
	u, err := m.unit(name)
	if err != nil {
		return shannon.Status{}, err
	}
	return u.Connect(ctx)
}

// Disconnect disconnects a server; see [shannon.Links].
func (m *Manager) Disconnect(ctx context.Context, name string) (bool, error) {
	u, err := m.unit(name)
	if err != nil {
		return false, err
	}
	return u.Disconnect(ctx)
}

// Restart restarts a server; see [shannon.Links].
func (m *Manager) Restart(ctx context.Context, name string) (shannon.Status, error) {
	u, err := m.unit(name)
	if err != nil {
		return shannon.Status{}, err
	}
	return u.Restart(ctx)
}

// Status returns a server's state; see [shannon.Links].
func (m *Manager) Status(ctx context.Context, name string) (shannon.Status, error) {
	u, err := m.unit(name)
	if err != nil {
		return shannon.Status{}, err
	}
	return m.withFlaw(u.Status(), m.flaws(ctx)), nil
}

// Statuses returns every server's state; see [shannon.Links].
func (m *Manager) Statuses(ctx context.Context) ([]shannon.Status, error) {
	flaws := m.flaws(ctx)
	out := []shannon.Status{}
	for _, u := range m.units() {
		out = append(out, m.withFlaw(u.Status(), flaws))
	}
	return out, nil
}

// flaws are what is wrong with stored rows.
func (m *Manager) flaws(ctx context.Context) map[string]shannon.Problem {
	flaws, err := m.store.Flaws(ctx)
	if err != nil && ctx.Err() == nil {
		m.o.Log.Warn("the registry could not be checked", "err", err)
	}
	return flaws
}

func (m *Manager) withFlaw(s shannon.Status, flaws map[string]shannon.Problem) shannon.Status {
	if p, ok := flaws[s.ServerID]; ok && s.Problem == nil {
		s.Problem = &p
	}
	return s
}

// Summary returns the manager's state; see [shannon.Links].
func (m *Manager) Summary(context.Context) (shannon.Summary, error) {
	m.mu.Lock()
	s := shannon.Summary{Address: m.address, Socket: m.socket, Problems: append([]shannon.Problem(nil), m.problems...)}
	m.mu.Unlock()
	s.Phase, _ = m.phase.Load().(shannon.Phase)
	s.Version, s.PID, s.Home, s.StartedAt = m.o.Version, pid(), m.cfg.Home, m.started
	for _, u := range m.units() {
		s.TotalServers++
		switch st := u.Status(); st.State {
		case shannon.StateConnected:
			s.ConnectedServers++
			s.ActiveHealthChecks++
		case shannon.StateError, shannon.StateReconnecting:
			s.ErrorConnections++
		}
	}
	return s, nil
}

// Tools returns what servers offer; see [shannon.Calls].
func (m *Manager) Tools(ctx context.Context, server string) ([]shannon.Tool, error) {
	if server != "" {
		u, err := m.unit(server)
		if err != nil {
			return nil, err
		}
		// What is known of a server that rests is what it offers. Of one that cannot
		// be reached, why is worth more than what it offered once.
		if s := u.Snapshot(); !s.Listed || s.Status.State != shannon.StateConnected && !resting(&s.Status) {
			if _, err := u.Info(ctx, ""); err != nil {
				return nil, err
			}
			if s := u.Snapshot(); !s.Listed && s.Status.Problem != nil { // nobody knows, which is not none
				return nil, &shannon.Error{Problem: *s.Status.Problem}
			}
		}
		m.rebuild() // it may be connected a moment before the catalog has it
	}
	tools := []shannon.Tool{}
	for _, t := range m.gateway.Catalog().Tools() {
		if server == "" || t.Server == server {
			tools = append(tools, shannon.Tool{Server: t.Server, Name: t.Name, PublicName: t.Public, Definition: t.Definition})
		}
	}
	return tools, nil
}

// resting tells whether a server is not connected because nobody needs it.
func resting(s *shannon.Status) bool {
	return s.State == shannon.StateDisconnected && (s.Problem == nil || s.Problem.Code == shannon.CodeIdle)
}

// CallTool calls a tool; see [shannon.Calls].
func (m *Manager) CallTool(ctx context.Context, server, tool string, args json.RawMessage) (json.RawMessage, error) {
	if args = bytes.TrimSpace(args); len(args) == 0 {
		args = json.RawMessage("{}")
	}
	if !json.Valid(args) || args[0] != '{' {
		return nil, shannon.Errorf(shannon.CodeInvalidRequest, `Give an object: {"text": "hello"}`, "the arguments of a tool must be a JSON object")
	}
	u, err := m.unit(server)
	if err != nil {
		return nil, err
	}
	params := wire.AppendString([]byte(`{"name":`), tool)
	params = append(append(append(params, `,"arguments":`...), args...), '}')
	r, err := wire.Author(m.self, "tools/call", params)
	if err != nil {
		return nil, err
	}
	if _, err := u.Info(ctx, ""); err != nil { // what it offers is known once it is connected
		return nil, err
	}
	if s := u.Snapshot(); s.Listed { // else its tools could not be listed; it may still have this one
		if err := offers(s.Tools, server, tool); err != nil {
			return nil, err
		}
	}
	reply, err := u.Relay(ctx, r, nil)
	return m.result(server, reply, err)
}

// offers refuses a tool that the server does not have.
func offers(tools [][]byte, server, tool string) error {
	names := make([]string, 0, len(tools))
	for _, def := range tools {
		name, _ := wire.Unquote(wire.Member(def, "name"))
		if name == tool {
			return nil
		}
		names = append(names, name)
	}
	hint := "shannon tools " + server
	if near, ok := shannon.Nearest(tool, names); ok {
		hint = "Did you mean \"" + near + "\"?"
	}
	return shannon.Errorf(shannon.CodeUnknownTool, hint, "server %q has no tool %q", server, tool)
}

// result gives the bytes of a result, and a server's error object as an error.
func (m *Manager) result(server string, reply wire.Reply, err error) (json.RawMessage, error) {
	if err != nil {
		return nil, err
	}
	if reply.Kind == wire.KindError {
		object := reply.Get(wire.FieldError)
		message, _ := wire.Unquote(wire.Member(object, "message"))
		e := shannon.Errorf(shannon.CodeCallFailed, "", "server %q answered with error %s: %s", server, wire.Member(object, "code"), message)
		e.RPC = object
		return nil, e
	}
	return reply.Get(wire.FieldResult), nil
}

// Request sends any request to a server; see [shannon.Calls].
func (m *Manager) Request(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
	u, err := m.unit(server)
	if err != nil {
		return nil, err
	}
	if params, err = checkParams(method, params); err != nil {
		return nil, err
	}
	r, err := wire.Author(m.self, method, params)
	if err != nil {
		return nil, shannon.Errorf(shannon.CodeInvalidRequest, "", "the request cannot be sent: %w", err)
	}
	reply, err := u.Request(ctx, r, nil)
	return m.result(server, reply, err)
}

// Notify sends a notification to a server; see [shannon.Calls].
func (m *Manager) Notify(ctx context.Context, server, method string, params json.RawMessage) error {
	u, err := m.unit(server)
	if err != nil {
		return err
	}
	if params, err = checkParams(method, params); err != nil {
		return err
	}
	return u.Notify(ctx, "", method, params)
}

func checkParams(method string, params json.RawMessage) (json.RawMessage, error) {
	if method == "" {
		return nil, shannon.Errorf(shannon.CodeInvalidRequest, "Give a method such as tools/list", "a request needs a method")
	}
	if params = bytes.TrimSpace(params); len(params) > 0 && (!json.Valid(params) || params[0] != '{') {
		return nil, shannon.Errorf(shannon.CodeInvalidRequest, `Give an object: {"cursor": "…"}`, "the parameters of a request must be a JSON object")
	}
	return params, nil
}

// History returns rows of the ledger; see [shannon.Records].
func (m *Manager) History(ctx context.Context, f shannon.HistoryFilter) ([]shannon.Transition, error) {
	m.ledger.flush() // what has happened is in the answer
	return m.store.History(ctx, f)
}
