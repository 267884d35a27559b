package manager

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/supervisor"
)

// rawJSON marks bytes that are JSON already.
type rawJSON = json.RawMessage

// AddServer stores a server and takes it up; see [shannon.Servers].
func (m *Manager) AddServer(ctx context.Context, s shannon.Server) (shannon.Server, error) {
	if err := s.Validate(); err != nil {
		return s, err
	}
	unlock, err := m.alter()
	if err != nil {
		return s, err
	}
	defer unlock()
	if m.roster.Load().byName[s.Name] != nil || s.ID == demoID {
		return s, shannon.Errorf(shannon.CodeNameTaken, "Choose another name, or change that server: shannon set "+s.Name+" …", "there is a server %q already", s.Name)
	}
	if s, err = m.store.Insert(ctx, s); err != nil {
		return s, err
	}
	m.emit(shannon.EventAdded, &s, map[string]any{"transport": s.Transport}) // before what comes of it
	m.enroll(func(r *roster) {
		u := m.start(s, nil)
		r.byID[s.ID], r.byName[s.Name] = u, u
	})
	m.rebuild() // it may have been connected before it was enrolled
	return s, nil
}

// alter is called by who changes the registry. Nothing changes while a manager is
// being closed.
func (m *Manager) alter() (unlock func(), err error) {
	m.change.Lock()
	if m.closed {
		m.change.Unlock()
		return nil, shannon.Errorf(shannon.CodeServerDown, "", "the manager is closed")
	}
	return m.change.Unlock, nil
}

// enroll replaces the roster by a changed copy. m.change is held.
func (m *Manager) enroll(change func(*roster)) {
	old := m.roster.Load()
	r := &roster{maps.Clone(old.byID), maps.Clone(old.byName)}
	change(r)
	m.roster.Store(r)
}

func (m *Manager) emit(name string, s *shannon.Server, more map[string]any) {
	data := map[string]any{"server_id": s.ID, "name": s.Name}
	maps.Copy(data, more)
	m.events.emit(shannon.Event{Name: name, Data: data})
}

// Server returns a server; see [shannon.Servers].
func (m *Manager) Server(_ context.Context, name string) (shannon.Server, error) {
	u, err := m.unit(name)
	if err != nil {
		return shannon.Server{}, err
	}
	return u.Snapshot().Server, nil
}

// ListServers returns servers by name; see [shannon.Servers].
func (m *Manager) ListServers(_ context.Context, f shannon.ServerFilter) ([]shannon.Server, error) {
	servers := []shannon.Server{}
	for _, u := range m.units() {
		if s := u.Snapshot().Server; f.Match(&s) {
			servers = append(servers, s)
		}
	}
	return servers, nil
}

// units returns the supervised servers by name.
func (m *Manager) units() []*supervisor.Unit {
	r := m.roster.Load()
	units := make([]*supervisor.Unit, 0, len(r.byName))
	for _, name := range slices.Sorted(maps.Keys(r.byName)) {
		units = append(units, r.byName[name])
	}
	return units
}

// UpdateServer changes a server; see [shannon.Servers].
func (m *Manager) UpdateServer(ctx context.Context, name string, patch json.RawMessage) (shannon.Server, error) {
	unlock, err := m.alter()
	if err != nil {
		return shannon.Server{}, err
	}
	defer unlock()
	u, err := m.unit(name)
	if err != nil {
		return shannon.Server{}, err
	}
	old := u.Snapshot().Server
	if old.ID == demoID {
		return old, shannon.Errorf(shannon.CodeInvalidRequest, "It ends with the daemon", "the demo server cannot be changed")
	}
	before, after, err := m.store.Update(ctx, old.ID, func(s *shannon.Server) error {
		id, created := s.ID, s.CreatedAt
		if err := s.Patch(patch); err != nil {
			return err
		}
		s.ID, s.CreatedAt = id, created
		return s.Validate()
	})
	if err != nil {
		return old, err
	}
	if before.Name != after.Name {
		m.rename(u, before.Name, after.Name)
	}
	// It is stored; who asked for it may have gone, but it must be in force as well.
	if err := u.Update(context.WithoutCancel(ctx), after); err != nil {
		return after, err
	}
	m.rebuild()
	m.emit(shannon.EventUpdated, &after, map[string]any{"fields": changedFields(patch)})
	return after, nil
}

// rename moves what goes by the server's name.
func (m *Manager) rename(u *supervisor.Unit, from, to string) {
	m.enroll(func(r *roster) {
		delete(r.byName, from)
		r.byName[to] = u
	})
	m.edge.Drop(endpointOf(from))
	if err := m.logs.rename(from, to); err != nil {
		m.o.Log.Warn("the log was not renamed", "server", to, "err", err)
	}
}

func changedFields(patch []byte) []string {
	var fields map[string]json.RawMessage
	// It was applied, so it is an object.
	_ = json.Unmarshal(patch, &fields)
	return slices.Sorted(maps.Keys(fields))
}

// RemoveServer removes a server; see [shannon.Servers].
func (m *Manager) RemoveServer(ctx context.Context, name string) error {
	unlock, err := m.alter()
	if err != nil {
		return err
	}
	defer unlock()
	u, err := m.unit(name)
	if err != nil {
		return err
	}
	s := u.Snapshot().Server
	if s.ID == demoID {
		return shannon.Errorf(shannon.CodeInvalidRequest, "It ends with the daemon", "the demo server cannot be removed")
	}
	if _, err := m.store.Delete(ctx, name); err != nil {
		return err
	}
	m.enroll(func(r *roster) {
		delete(r.byID, s.ID)
		delete(r.byName, s.Name)
	})
	m.rebuild()
	m.edge.Drop(endpointOf(name))
	u.Close("removed")
	if err := m.logs.rest(name); err != nil {
		m.o.Log.Warn("the log was not closed", "server", name, "err", err)
	}
	m.emit(shannon.EventRemoved, &s, nil)
	return nil
}
