// Package manager is Shannon itself: the embeddable daemon. It is the composition
// root, the only package that knows all others, and the public façade:
//
//	m, err := manager.Open(ctx, manager.Config{}, manager.Options{})
//	defer m.Close(ctx)
//
// A [Manager] keeps one supervised unit per stored server, derives the catalog
// from what they offer, writes the ledger, numbers events, and serves the
// endpoints ([Manager.Handler], [Manager.Serve]). It has no package-level state:
// several live in one process. It must not decide anything that another package
// decides: restarts are the supervisor's, routes the gateway's, names the catalog's.
//
// All methods may be called concurrently. Changes of the registry are made one
// after the other; everything that is read on the way of a call is immutable and
// swapped whole.
package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/auth"
	"github.com/shannon-mcp/shannon/internal/catalog"
	"github.com/shannon-mcp/shannon/internal/edge"
	"github.com/shannon-mcp/shannon/internal/gateway"
	"github.com/shannon-mcp/shannon/internal/process"
	"github.com/shannon-mcp/shannon/internal/store"
	"github.com/shannon-mcp/shannon/internal/supervisor"
	"github.com/shannon-mcp/shannon/internal/transport"
	"github.com/shannon-mcp/shannon/internal/wire"
	"github.com/shannon-mcp/shannon/remote"
)

// Options are what a manager is given by the program that it runs in.
type Options struct {
	Log     *slog.Logger // nil discards
	Version string       // of the program, shown to clients and servers
	// Environ is what references in definitions and the children's environment
	// are taken from; nil means this process's.
	Environ []string
	// Demo is the command of a server that is offered but never stored, nil for none.
	Demo []string
	// Reap tells that this process is there for the manager alone, so that orphans
	// which fall to it may be reaped.
	Reap bool
}

// databaseFile is the name of the database in a home folder; the Python manager
// called it so.
const databaseFile = "mcp_servers.db"

// defaultHome is the name of the home folder, unless another is chosen; homeFiles
// are what we put there beside the database and its backups.
const defaultHome = ".shannon-mcp"

var homeFiles = []string{lockFile, remote.DaemonFile, remote.SocketFile, "token", "log", "run"}

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.Environ == nil {
		o.Environ = os.Environ() //nolint:forbidigo // what nil is documented to mean
	}
}

// roster is who is supervised, immutable.
type roster struct {
	byID   map[string]*supervisor.Unit
	byName map[string]*supervisor.Unit
}

// Manager manages servers. It satisfies [shannon.Manager].
type Manager struct {
	cfg     Config
	o       Options
	started time.Time
	self    *wire.Client // who Shannon is when it calls for itself

	store   *store.Store
	host    *process.Host
	dialer  *dialer
	gateway *gateway.Gateway
	edge    *edge.Server
	events  *hub
	logs    *logBook
	ledger  *queue
	tokens  *auth.Tokens

	phase  atomic.Value // shannon.Phase
	roster atomic.Pointer[roster]
	change sync.Mutex // held while the registry changes; see alter
	closed bool       // the registry does not change any more
	build  sync.Mutex // held while the catalog is computed

	mu       sync.Mutex
	problems []shannon.Problem    // of the manager itself
	up       map[string]time.Time // since when servers are connected, by id
	address  string
	socket   string

	life   context.Context //nolint:containedctx // of the units; ended by Close
	stop   context.CancelFunc
	ending chan struct{} // closed when the end begins
	end    func()        // closes it, once
	once   sync.Once     // of Close
	ended  error         // of Close
}

var _ shannon.Manager = (*Manager)(nil)

// Open opens the home folder, migrating its database where needed, and takes up
// the enabled servers, all at once and without waiting for them, unless cfg says
// Passive. ctx bounds the opening, not the manager's life, which [Manager.Close] ends.
func Open(ctx context.Context, cfg Config, o Options) (*Manager, error) {
	cfg.SetDefaults()
	o.setDefaults()
	m := &Manager{cfg: cfg, o: o, started: time.Now().UTC(), events: newHub(), up: map[string]time.Time{}, ending: make(chan struct{})}
	m.phase.Store(shannon.PhaseInitializing)
	m.end = sync.OnceFunc(func() { close(m.ending) })
	// The units outlive the call that opened them.
	m.life, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := m.open(ctx); err != nil {
		m.stop()
		return nil, errors.Join(err, m.release(ctx))
	}
	return m, nil
}

func (m *Manager) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(m.cfg.Home, 0o700); err != nil {
		return shannon.Errorf(shannon.CodeInvalidConfig, "Set SHANNON_HOME to a folder that you may write to", "the home folder cannot be made: %w", err)
	}
	if err := guard(m.cfg.Home); err != nil {
		return err
	}
	if m.store, err = store.Open(ctx, store.Options{Path: filepath.Join(m.cfg.Home, databaseFile), Log: m.o.Log}); err != nil {
		return err
	}
	m.ledger = newQueue(m.o.Log)
	if m.logs, err = newLogBook(filepath.Join(m.cfg.Home, "log")); err != nil {
		return err
	}
	if m.tokens, err = auth.OpenTokens(m.cfg.Home); err != nil {
		return err
	}
	if m.host, err = process.NewHost(process.Options{Dir: filepath.Join(m.cfg.Home, "run"), Log: m.o.Log, Reap: m.o.Reap}); err != nil {
		return err
	}
	self := wire.AppendString(append(wire.AppendString([]byte(`{"name":"shannon","title":`), "Shannon"), `,"version":`...), m.o.Version)
	self = append(self, '}')
	m.self = &wire.Client{Info: self, Capabilities: []byte("{}"), Principal: "shannon", Affinity: "shannon"}
	m.dialer = &dialer{
		environ: m.o.Environ, maxMessage: int(m.cfg.MaxMessageSize), flaws: m.flaws,
		transports: transport.NewDialer(transport.Options{
			Start: transport.Host{Host: m.host}, Log: m.o.Log, Name: "shannon", Version: m.o.Version,
		}),
	}
	m.gateway = gateway.New(m.upstream, self)
	m.edge = edge.New(edge.Options{
		Log: m.o.Log, MaxMessage: int(m.cfg.MaxMessageSize), MaxSessions: m.cfg.Limits.Sessions,
		Principal: principal,
	})
	return m.takeUp(ctx)
}

// guard keeps others out of a home folder that somebody else made, such as the
// Python manager or mkdir. One that holds other things than ours serves other ends
// as well, and is left as it is.
func guard(home string) error {
	info, err := os.Stat(home)
	if err != nil {
		return fmt.Errorf("find home folder: %w", err)
	}
	inside, err := os.ReadDir(home)
	if err != nil {
		return fmt.Errorf("read home folder: %w", err)
	}
	foreign := slices.ContainsFunc(inside, func(e os.DirEntry) bool {
		return !strings.HasPrefix(e.Name(), databaseFile) && !strings.HasPrefix(e.Name(), "config.") && !slices.Contains(homeFiles, e.Name())
	})
	if (foreign && filepath.Base(home) != defaultHome) || info.Mode()&os.ModeSticky != 0 || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(home, 0o700); err != nil { //nolint:gosec // it is a folder
		return fmt.Errorf("guard home folder: %w", err)
	}
	return nil
}

// takeUp starts a unit for every server.
func (m *Manager) takeUp(ctx context.Context) error {
	servers, err := m.store.Servers(ctx)
	if err != nil {
		return err
	}
	known, err := m.store.Recall(ctx)
	if err != nil {
		return err
	}
	if len(m.o.Demo) > 0 {
		servers = append(servers, m.demo())
	}
	m.phase.Store(shannon.PhaseReady)
	r := &roster{map[string]*supervisor.Unit{}, map[string]*supervisor.Unit{}}
	// Units tell of themselves as soon as they are started; the catalog waits for all.
	m.build.Lock()
	for i := range servers {
		u := m.start(servers[i], known)
		r.byID[servers[i].ID], r.byName[servers[i].Name] = u, u
	}
	m.roster.Store(r)
	m.build.Unlock()
	m.rebuild()
	if _, err := m.store.Prune(ctx, m.cfg.History.Retention.Std()); err != nil {
		m.o.Log.Warn("old history could not be removed", "err", err)
	}
	m.phase.Store(shannon.PhaseRunning)
	return nil
}

func (m *Manager) start(s shannon.Server, known map[string]store.Memory) *supervisor.Unit {
	o := supervisor.Options{
		Dialer: m.dialer, Observer: (*observer)(m), Log: m.o.Log, Client: m.self, Passive: m.cfg.Passive,
		RequestTimeout: max(0, m.cfg.RequestTimeout.Std()), Jitter: rand.Float64,
	}
	if k, ok := known[s.ID]; ok && k.DefinitionHash == s.DefinitionHash() {
		o.Known = &supervisor.Known{Eras: k.Eras, Tools: k.Tools}
	}
	return supervisor.Start(m.life, s, o)
}

// demoID is the id of the server that is not stored.
const demoID = "demo"

func (m *Manager) demo() shannon.Server {
	s := shannon.NewServer("demo")
	s.ID, s.Title, s.Transport = demoID, "Shannon's demo server", shannon.TransportStdio
	s.Command, s.Args = m.o.Demo[0], m.o.Demo[1:]
	s.CreatedAt, s.UpdatedAt = m.started, m.started
	return s
}

// unit finds a supervised server by name.
func (m *Manager) unit(name string) (*supervisor.Unit, error) {
	r := m.roster.Load()
	if u := r.byName[name]; u != nil {
		return u, nil
	}
	names := make([]string, 0, len(r.byName))
	for n := range r.byName {
		names = append(names, n)
	}
	return nil, unknownServer(name, names)
}

func unknownServer(name string, names []string) error {
	hint := "shannon ls shows all servers"
	if near, ok := shannon.Nearest(name, names); ok {
		hint = "Did you mean \"" + near + "\"?"
	}
	return shannon.Errorf(shannon.CodeUnknownServer, hint, "there is no server %q", name)
}

func (m *Manager) upstream(id string) gateway.Upstream {
	if u := m.roster.Load().byID[id]; u != nil {
		return u
	}
	return nil
}

// rebuild computes the catalog from what the units know.
func (m *Manager) rebuild() {
	m.build.Lock()
	defer m.build.Unlock()
	r := m.roster.Load()
	if r == nil {
		return // still starting; the start ends with a rebuild
	}
	var parts []catalog.Part
	for id, u := range r.byID {
		s := u.Snapshot()
		gone := s.Status.Problem != nil && s.Status.Problem.Code == shannon.CodeDisconnected
		if s.Server.Enabled && s.Listed && !gone {
			parts = append(parts, catalog.Part{ServerID: id, Server: s.Server.Name, Prefix: s.Server.PublicPrefix(), Tools: s.Tools})
		}
	}
	next := catalog.Build(parts, m.cfg.MaxName)
	same := slices.EqualFunc(m.gateway.Catalog().Tools(), next.Tools(), func(a, b catalog.Tool) bool {
		return a.ServerID == b.ServerID && a.Name == b.Name && a.Public == b.Public && string(a.Offered) == string(b.Offered)
	})
	if same {
		return
	}
	m.gateway.SetCatalog(next)
	for _, c := range next.Conflicts() {
		m.o.Log.Warn("a tool has another public name than it should", "server", c.Server, "tool", c.Tool, "wanted", c.Wanted, "public", c.Public, "reason", c.Reason)
	}
	m.events.emit(shannon.Event{Name: shannon.EventToolsChanged, Data: map[string]any{"tools": len(next.Tools())}})
}

// Close stops in order and in bounded time: clients' calls are given the time
// that ctx leaves, then every server's process ends, then the files are closed.
// It waits for all of it. Calling it again returns what the first call returned.
func (m *Manager) Close(ctx context.Context) error {
	m.once.Do(func() {
		m.phase.Store(shannon.PhaseStopping)
		m.end()
		err := m.edge.Close(ctx)
		m.change.Lock() // a server that is being added is there now, or never will be
		m.closed = true
		m.change.Unlock()
		var wg sync.WaitGroup
		for _, u := range m.roster.Load().byID {
			wg.Go(func() { u.Close("stop") })
		}
		wg.Wait()
		m.stop()
		m.ended = errors.Join(err, m.release(ctx))
		m.phase.Store(shannon.PhaseStopped)
	})
	return m.ended
}

// release closes what open has opened.
func (m *Manager) release(ctx context.Context) error {
	var errs []error
	if m.dialer != nil {
		m.dialer.transports.Close()
	}
	if m.host != nil {
		errs = append(errs, m.host.Close(ctx))
	}
	m.events.close()
	if m.ledger != nil {
		m.ledger.close()
	}
	if m.logs != nil {
		errs = append(errs, m.logs.close())
	}
	if m.store != nil {
		errs = append(errs, m.store.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close manager: %w", err)
	}
	return nil
}
