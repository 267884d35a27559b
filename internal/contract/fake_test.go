package contract_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/contract"
)

// fixture is the server that the fake pretends to start.
var fixture = &contract.Fixture{
	Command: "fixture", Env: map[string]shannon.Secret{"FIXTURE": "1"},
	Tool: contract.Exchange{
		Name: "echo", In: `{"n": 9007199254740993, "html":"<a&b>"}`,
		Out: `{"content":[ ],"x":9007199254740993,"s":"<\u0041>é ","structuredContent":{"n" : 1.0}}`,
	},
	Fails:   contract.Exchange{Name: "fail", In: `{}`, Out: `{"code": -32000, "message":"<no>","data":9007199254740993}`},
	Slow:    "slow",
	Request: contract.Exchange{Name: "x/echo", In: `{"a":[1, 2]}`, Out: `{"a":[1, 2],"b":null}`},
	Stderr:  "fixture started",
}

// fake is a manager in memory, as small as the contract allows. A fault makes it
// break the contract in that way.
type fake struct {
	fault string

	mu      sync.Mutex
	changed chan struct{} // closed and made anew when an event or line is added
	servers map[string]*entry
	rows    []shannon.Transition
	events  []shannon.Event
	lastPID int
	lastID  int
	dropped uint64 // events that are no longer kept
	started time.Time
}

type entry struct {
	def    shannon.Server
	status shannon.Status
	lines  []shannon.LogLine
}

func newFake(fault string) *fake {
	return &fake{fault: fault, servers: map[string]*entry{}, changed: make(chan struct{}), started: time.Now()}
}

func (f *fake) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fake) emit(name string, e *entry, p shannon.Priority, data map[string]any) {
	all := map[string]any{"server_id": e.def.ID, "name": e.def.Name}
	maps.Copy(all, data)
	seq := f.dropped + uint64(len(f.events)) + 1
	f.events = append(f.events, shannon.Event{
		Seq: seq, Name: name, Category: shannon.CategoryMCP, Priority: p, Timestamp: time.Now(), Source: "fake", Data: all,
	})
	if len(f.events) > 1000 {
		f.events = f.events[1:]
		f.dropped++
	}
	f.wake()
}

func (f *fake) find(name string) (*entry, error) {
	if e := f.servers[name]; e != nil {
		return e, nil
	}
	var near []string
	for known := range f.servers {
		if len(known)-len(name) <= 1 && len(name) > 0 && known[0] == name[0] {
			near = append(near, known)
		}
	}
	return nil, shannon.Errorf(shannon.CodeUnknownServer, strings.Join(near, " "), "there is no server %q", name)
}

func (f *fake) AddServer(_ context.Context, s shannon.Server) (shannon.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := s.Validate(); err != nil {
		return shannon.Server{}, err
	}
	for _, e := range f.servers {
		if f.fault != "names may be taken twice" && (e.def.Name == s.Name || e.def.ID == s.ID) {
			return shannon.Server{}, shannon.Errorf(shannon.CodeNameTaken, "", "%q is taken", s.Name)
		}
	}
	if s.ID == "" {
		f.lastID++
		s.ID = fmt.Sprint("id", f.lastID)
	}
	s.CreatedAt, s.UpdatedAt = time.Now().UTC(), time.Now().UTC()
	e := &entry{def: s}
	f.servers[s.Name] = e
	f.disconnected(e)
	f.emit(shannon.EventAdded, e, shannon.PriorityNormal, nil)
	return s, nil
}

func (f *fake) Server(_ context.Context, name string) (shannon.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.find(name)
	if err != nil {
		return shannon.Server{}, err
	}
	return e.def, nil
}

func (f *fake) byName() []*entry {
	return slices.SortedFunc(maps.Values(f.servers), func(a, b *entry) int { return cmp.Compare(a.def.Name, b.def.Name) })
}

func (f *fake) ListServers(_ context.Context, filter shannon.ServerFilter) ([]shannon.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []shannon.Server
	for _, e := range f.byName() {
		if f.fault == "filters are ignored" || filter.Match(&e.def) {
			out = append(out, e.def)
		}
	}
	return out, nil
}

func (f *fake) UpdateServer(ctx context.Context, name string, patch json.RawMessage) (shannon.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.find(name)
	if err != nil {
		return shannon.Server{}, err
	}
	next, err := f.merge(e.def, patch)
	if err != nil {
		return shannon.Server{}, err
	}
	if f.fault == "refused changes stay" {
		e.def = next
	}
	if err := next.Validate(); err != nil {
		return shannon.Server{}, err
	}
	if other := f.servers[next.Name]; other != nil && other != e {
		return shannon.Server{}, shannon.Errorf(shannon.CodeNameTaken, "", "%q is taken", next.Name)
	}
	anew := next.DefinitionHash() != e.def.DefinitionHash()
	delete(f.servers, name)
	next.UpdatedAt = time.Now().UTC()
	e.def, f.servers[next.Name] = next, e
	f.emit(shannon.EventUpdated, e, shannon.PriorityNormal, nil)
	if e.status.State == shannon.StateConnected && anew {
		f.end(e)
		_ = f.begin(e)
	} else if e.status.State != shannon.StateConnected {
		f.disconnected(e)
	}
	return e.def, ctx.Err()
}

func (f *fake) merge(def shannon.Server, text json.RawMessage) (shannon.Server, error) {
	var patch map[string]any
	if err := json.Unmarshal(text, &patch); err != nil || patch == nil {
		return def, shannon.Errorf(shannon.CodeInvalidRequest, "", "the patch is no object")
	}
	plain, err := def.Reveal()
	if f.fault == "secrets are lost" {
		plain, err = json.Marshal(def)
	}
	if err != nil {
		return def, err
	}
	var doc map[string]any
	if err := json.Unmarshal(plain, &doc); err != nil {
		return def, err
	}
	for _, key := range []string{"id", "created_at", "updated_at"} {
		if _, there := patch[key]; there {
			return def, shannon.Errorf(shannon.CodeInvalidRequest, "", "%s cannot be changed", key)
		}
	}
	out, err := json.Marshal(mergePatch(doc, patch))
	if err != nil {
		return def, err
	}
	for key := range patch {
		if key != strings.ToLower(key) {
			return def, shannon.Errorf(shannon.CodeInvalidRequest, "", "unknown key %s", key)
		}
	}
	var next shannon.Server
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&next); err != nil {
		return def, shannon.Errorf(shannon.CodeInvalidRequest, "", "read patch: %w", err)
	}
	return next, nil
}

func mergePatch(doc, patch map[string]any) map[string]any {
	if doc == nil {
		doc = map[string]any{}
	}
	for k, v := range patch {
		sub, isObject := v.(map[string]any)
		switch {
		case v == nil:
			delete(doc, k)
		case isObject:
			old, _ := doc[k].(map[string]any)
			doc[k] = mergePatch(old, sub)
		default:
			doc[k] = v
		}
	}
	return doc
}

func (f *fake) RemoveServer(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.find(name)
	if err != nil {
		return err
	}
	f.end(e)
	delete(f.servers, name)
	f.emit(shannon.EventRemoved, e, shannon.PriorityNormal, nil)
	if f.fault == "history goes with the server" {
		f.rows = slices.DeleteFunc(f.rows, func(r shannon.Transition) bool { return r.ServerID == e.def.ID })
	}
	return nil
}

// begin connects.
func (f *fake) begin(e *entry) error {
	now := time.Now()
	f.lastPID++
	fails := func(p *shannon.Error) error {
		e.status = shannon.Status{State: shannon.StateError, Since: now, Problem: shannon.ProblemOf(p), LastError: p.Message}
		return p
	}
	switch {
	case !e.def.Enabled:
		return shannon.Errorf(shannon.CodeDisabled, "", "%s is disabled", e.def.Name)
	case e.def.Command != fixture.Command:
		return fails(shannon.Errorf(shannon.CodeCommandNotFound, "", "there is no %s", e.def.Command))
	case e.def.Env["FIXTURE"] != "1":
		return fails(shannon.Errorf(shannon.CodeExited, "", "it exited"))
	}
	e.status = shannon.Status{
		State: shannon.StateConnected, Since: now, Healthy: true, Era: shannon.EraLegacy, Version: "2025-11-25",
		PID: f.lastPID, Tools: 3, ConnectedAt: &now,
	}
	f.rows = append(f.rows, shannon.Transition{
		ID: int64(len(f.rows) + 1), ServerID: e.def.ID, Server: e.def.Name, State: shannon.StateConnected, Cause: "connect",
		PID: f.lastPID, Era: shannon.EraLegacy, Version: "2025-11-25", ConnectedAt: &now,
	})
	e.lines = append(e.lines, shannon.LogLine{Time: now, Source: "stderr", Text: fixture.Stderr}, shannon.LogLine{Time: now, Source: "shannon", Text: "connected"})
	f.emit(shannon.EventConnected, e, shannon.PriorityHigh, map[string]any{"pid": f.lastPID})
	return nil
}

func (f *fake) disconnected(e *entry) {
	code := shannon.CodeDisconnected
	if !e.def.Enabled {
		code = shannon.CodeDisabled
	} else if e.status.State == "" {
		code = shannon.CodeIdle
	}
	e.status = shannon.Status{State: shannon.StateDisconnected, Since: time.Now(), Problem: &shannon.Problem{Code: code, Message: "not connected"}}
}

// end disconnects; false when nothing was connected.
func (f *fake) end(e *entry) bool {
	if e.status.State != shannon.StateConnected {
		return false
	}
	now := time.Now()
	for i := range f.rows {
		if r := &f.rows[i]; r.ServerID == e.def.ID && r.DisconnectedAt == nil {
			seconds := now.Sub(*r.ConnectedAt).Seconds()
			r.DisconnectedAt, r.Duration = &now, &seconds
		}
	}
	f.rows = append(f.rows, shannon.Transition{
		ID: int64(len(f.rows) + 1), ServerID: e.def.ID, Server: e.def.Name, State: shannon.StateDisconnected, Cause: "disconnect", ConnectedAt: &now,
	})
	f.disconnected(e)
	f.emit(shannon.EventDisconnected, e, shannon.PriorityNormal, nil)
	return true
}

func (f *fake) state(e *entry) shannon.Status {
	st := e.status
	st.Server, st.ServerID, st.Transport, st.Enabled = e.def.Name, e.def.ID, e.def.Transport, e.def.Enabled
	return st
}

func (f *fake) Connect(_ context.Context, name string) (shannon.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.find(name)
	if err != nil {
		return shannon.Status{}, err
	}
	if e.status.State != shannon.StateConnected || f.fault == "connect connects again" {
		err = f.begin(e)
	}
	return f.state(e), err
}

func (f *fake) Disconnect(_ context.Context, name string) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.find(name)
	if err != nil {
		return false, err
	}
	return f.end(e), nil
}

func (f *fake) Restart(ctx context.Context, name string) (shannon.Status, error) {
	if _, err := f.Disconnect(ctx, name); err != nil {
		return shannon.Status{}, err
	}
	return f.Connect(ctx, name)
}

func (f *fake) Status(_ context.Context, name string) (shannon.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.find(name)
	if err != nil {
		return shannon.Status{}, err
	}
	return f.state(e), nil
}

func (f *fake) Statuses(context.Context) ([]shannon.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []shannon.Status
	for _, e := range f.byName() {
		out = append(out, f.state(e))
	}
	return out, nil
}

func (f *fake) Summary(context.Context) (shannon.Summary, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := shannon.Summary{Phase: shannon.PhaseRunning, PID: 1, StartedAt: f.started, TotalServers: len(f.servers)}
	for _, e := range f.servers {
		if e.status.State == shannon.StateConnected {
			sum.ConnectedServers++
		}
	}
	return sum, nil
}

func (f *fake) Tools(ctx context.Context, server string) ([]shannon.Tool, error) {
	var out []shannon.Tool
	if server != "" {
		if _, err := f.Connect(ctx, server); err != nil {
			return nil, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.byName() {
		if (server == "" || e.def.Name == server) && e.status.State == shannon.StateConnected {
			for _, tool := range []string{fixture.Tool.Name, fixture.Fails.Name, fixture.Slow} {
				out = append(out, shannon.Tool{
					Server: e.def.Name, Name: tool, PublicName: e.def.PublicPrefix() + tool,
					Definition: fmt.Appendf(nil, `{"name": %q, "inputSchema":{}}`, tool),
				})
			}
		}
	}
	return out, nil
}

func (f *fake) live(name string) (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, err := f.find(name)
	if err == nil && e.status.State != shannon.StateConnected {
		err = shannon.Errorf(shannon.CodeServerDown, "", "%s is not connected", name)
	}
	if err != nil {
		return 0, err
	}
	return e.def.Timeout.Std(), nil
}

func (f *fake) CallTool(ctx context.Context, server, tool string, args json.RawMessage) (json.RawMessage, error) {
	if _, err := f.live(server); err != nil {
		return nil, err
	}
	if err := checkObject(args); err != nil {
		return nil, err
	}
	switch tool {
	case fixture.Slow:
		<-ctx.Done()
		return nil, ctx.Err()
	case fixture.Fails.Name:
		e := shannon.Errorf(shannon.CodeCallFailed, "", "no")
		if e.RPC = []byte(fixture.Fails.Out); f.fault == "error objects are lost" {
			e.RPC = nil
		}
		return nil, e
	case fixture.Tool.Name:
		if f.fault == "results are decoded" {
			var v any
			if err := json.Unmarshal([]byte(fixture.Tool.Out), &v); err != nil {
				return nil, err
			}
			return json.Marshal(v)
		}
		return json.RawMessage(fixture.Tool.Out), nil
	}
	return nil, shannon.Errorf(shannon.CodeUnknownTool, "", "no tool %q", tool)
}

func checkObject(text []byte) error {
	if len(text) > 0 && (!json.Valid(text) || bytes.TrimSpace(text)[0] != '{') {
		return shannon.Errorf(shannon.CodeInvalidRequest, "", "no object")
	}
	return nil
}

func (f *fake) Request(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error) {
	limit, err := f.live(server)
	if err != nil {
		return nil, err
	}
	if err := checkObject(params); err != nil {
		return nil, err
	}
	switch method {
	case "":
		return nil, shannon.Errorf(shannon.CodeInvalidRequest, "", "no method")
	case fixture.Request.Name:
		return json.RawMessage(fixture.Request.Out), nil
	case "tools/call":
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(limit):
			return nil, shannon.Errorf(shannon.CodeTimeout, "", "no answer")
		}
	}
	return nil, shannon.Errorf(shannon.CodeCallFailed, "", "no method %q", method)
}

func (f *fake) Notify(_ context.Context, server, _ string, params json.RawMessage) error {
	if _, err := f.live(server); err != nil {
		return err
	}
	return checkObject(params)
}

func (f *fake) History(_ context.Context, h shannon.HistoryFilter) ([]shannon.Transition, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []shannon.Transition
	for _, r := range slices.Backward(f.rows) {
		if (h.Server == "" || r.Server == h.Server || r.ServerID == h.Server) && (h.State == "" || r.State == h.State) &&
			!r.ConnectedAt.Before(h.Since) && len(out) < cmp.Or(h.Limit, 100) {
			out = append(out, r)
		}
	}
	return out, nil
}

func (f *fake) Events(ctx context.Context, filter shannon.EventFilter) iter.Seq2[shannon.Event, error] {
	return func(yield func(shannon.Event, error) bool) {
		next := filter.After // the number of the last event that was looked at
		for {
			f.mu.Lock()
			var missed uint64
			if next > filter.After && next < f.dropped {
				missed = f.dropped - next
			}
			next = max(next, f.dropped)
			all := slices.Clone(f.events[min(int(next-f.dropped), len(f.events)):])
			next += uint64(len(all))
			changed := f.changed
			f.mu.Unlock()
			if missed > 0 && f.fault != "nobody is told what was missed" {
				if !yield(shannon.Event{Name: shannon.EventLagged, Data: map[string]any{"missed": missed}}, nil) {
					return
				}
			}
			for _, e := range all {
				if f.fault != "events are not filtered" && !filter.Pass(&e) {
					continue
				}
				if !yield(e, nil) {
					return
				}
			}
			if !filter.Follow {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (f *fake) Logs(ctx context.Context, server string, l shannon.LogFilter) iter.Seq2[shannon.LogLine, error] {
	return func(yield func(shannon.LogLine, error) bool) {
		at := -1
		for {
			f.mu.Lock()
			e, err := f.find(server)
			if err != nil {
				f.mu.Unlock()
				yield(shannon.LogLine{}, err)
				return
			}
			if at < 0 {
				at = max(0, len(e.lines)-cmp.Or(l.Lines, 100))
			}
			lines := slices.Clone(e.lines[at:])
			at += len(lines)
			changed := f.changed
			f.mu.Unlock()
			for _, line := range lines {
				if !yield(line, nil) {
					return
				}
			}
			if !l.Follow {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}
}
