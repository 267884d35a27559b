package manager

import (
	"context"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/store"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// maxEventParams is how large the parameters of a notification may be that stand
// in its event.
const maxEventParams = 16 << 10

// observer is what the manager is to its units.
type observer Manager

// Transition writes the ledger and tells of it.
func (o *observer) Transition(s *shannon.Server, t shannon.Transition) {
	m := (*Manager)(o)
	if t.ServerID != demoID {
		// The row must be written also when the manager is being closed.
		ctx := context.WithoutCancel(m.life)
		m.ledger.do(func() error {
			_, err := m.store.Record(ctx, t)
			return err
		})
	}
	m.o.Log.Info("server changed state", "server", t.Server, "state", t.State, "cause", t.Cause, "problem", t.Problem, "err", t.Error, "attempt", t.Attempt, "pid", t.PID)
	if e, ok := transitionEvent(&t); ok {
		e.Data["transport"] = s.Transport
		m.timed(&t, e.Data)
		m.events.emit(e)
	}
	if t.State == shannon.StateDisconnected || t.State == shannon.StateConnected {
		m.rebuild()
	}
}

// timed keeps since when a server is connected, and tells how long it was.
func (m *Manager) timed(t *shannon.Transition, data map[string]any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	began, was := m.up[t.ServerID]
	switch {
	case t.State == shannon.StateConnected:
		m.up[t.ServerID] = time.Now()
	case was:
		delete(m.up, t.ServerID)
		data["duration"] = time.Since(began).Seconds()
	}
}

// transitionEvent gives the event for a transition, where it has one.
func transitionEvent(t *shannon.Transition) (shannon.Event, bool) {
	e := shannon.Event{Priority: shannon.PriorityHigh, Data: map[string]any{"server_id": t.ServerID, "name": t.Server, "cause": t.Cause}}
	switch t.State {
	case shannon.StateConnected:
		e.Name = shannon.EventConnected
		e.Data["era"], e.Data["version"], e.Data["handshake_ms"] = t.Era, t.Version, t.HandshakeMS
		if t.PID != 0 {
			e.Data["pid"] = t.PID
		}
	case shannon.StateError:
		e.Name = shannon.EventConnectionFailed
	case shannon.StateDisconnected:
		e.Name, e.Priority = shannon.EventDisconnected, shannon.PriorityNormal
	case shannon.StateReconnecting:
		if t.Error == "" { // an attempt begins; what it is for was told before
			return e, false
		}
		e.Name = shannon.EventDisconnected
	default:
		return e, false
	}
	if t.Error != "" {
		e.Data["error"], e.Data["code"], e.Data["attempt"] = t.Error, t.Problem, t.Attempt
	}
	if t.NextRetry != nil {
		e.Data["next_retry"] = t.NextRetry
	}
	if t.ExitCode != nil {
		e.Data["exit_code"] = *t.ExitCode
	}
	if t.Signal != "" {
		e.Data["signal"] = t.Signal
	}
	return e, true
}

// Offers remembers what a server offers and puts it into the catalog.
func (o *observer) Offers(s *shannon.Server, eras []shannon.Era, tools [][]byte) {
	m := (*Manager)(o)
	if s.ID != demoID {
		memory := store.Memory{ServerID: s.ID, DefinitionHash: s.DefinitionHash(), Eras: eras, Tools: tools, At: time.Now()}
		ctx := context.WithoutCancel(m.life)
		m.ledger.do(func() error { return m.store.Remember(ctx, memory) })
	}
	m.rebuild()
}

// Notification tells of a server's notification. It is called by the goroutine
// that reads from the server.
func (o *observer) Notification(s *shannon.Server, e wire.Envelope) {
	m := (*Manager)(o)
	m.gateway.Forward(s.ID, e)
	data := map[string]any{"server_id": s.ID, "name": s.Name, "method": excerpt(e.Method)}
	// Clients get the bytes as they are; an event is for whoever may listen, and a
	// thousand of them are kept.
	if params := e.Get(wire.FieldParams); len(params) <= maxEventParams {
		if p := m.dialer.hush(s).json(params); p != nil {
			data["params"] = rawJSON(p)
		}
	}
	m.events.emit(shannon.Event{Name: shannon.EventNotification, Priority: shannon.PriorityLow, Data: data})
}

// Log takes a line for a server's log, from which the dialer took its secrets.
func (o *observer) Log(s *shannon.Server, source string, line []byte) {
	m := (*Manager)(o)
	if err := m.logs.write(s.Name, source, string(line)); err != nil {
		m.o.Log.Warn("a log line was lost", "server", s.Name, "err", err)
	}
}
