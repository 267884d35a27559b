package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/auth"
	"github.com/shannon-mcp/shannon/internal/process"
	"github.com/shannon-mcp/shannon/remote"
)

const (
	lockFile      = "daemon.lock"
	drain         = 10 * time.Second // what calls under way get at the end
	maxSocketPath = 100              // longer ones do not fit everywhere
)

func pid() int { return os.Getpid() }

// Keep runs argv as the only child of this process and, when it has ended,
// whatever it left behind with it. It returns the child's exit code. On systems
// that have no such thing it returns [errors.ErrUnsupported] at once.
func Keep(argv, env []string) (exitCode int, err error) { return process.Keep(argv, env) }

// UnderKeeper is called first by a process that [Keep] started. false means that
// the keeper is gone already.
func UnderKeeper() (bool, error) { return process.UnderKeeper() }

// ReadToken returns the bearer token of a home folder, making it where there is
// none, and the file that holds it.
func ReadToken(home string) (token shannon.Secret, path string, err error) {
	t, err := auth.OpenTokens(home)
	if err != nil {
		return "", "", err
	}
	return t.Token(), t.Path(), nil
}

// RotateToken replaces the bearer token of a home folder; a running daemon takes
// the new one.
func RotateToken(home string) (shannon.Secret, error) {
	t, err := auth.OpenTokens(home)
	if err != nil {
		return "", err
	}
	if err := t.Rotate(); err != nil {
		return "", err
	}
	return t.Token(), nil
}

// Serve is a daemon: it makes this process the only one of its home folder, opens
// a manager, serves until ctx ends, and closes it, each in bounded time. ready is
// called once everything listens; it may be nil. That another process is the
// daemon already is [shannon.CodeDaemonRunning].
func Serve(ctx context.Context, cfg Config, o Options, ready func(*Manager)) error {
	cfg.SetDefaults()
	unlock, err := lock(cfg.Home)
	if err != nil {
		return err
	}
	tcp, err := bind(ctx, &cfg) // before anything is started that a refusal would have to stop
	if err != nil {
		return errors.Join(err, unlock())
	}
	m, err := Open(ctx, cfg, o)
	if err != nil {
		return errors.Join(err, tcp.close(), unlock())
	}
	err = m.serve(ctx, tcp, ready)
	// ctx has ended, or a listener broke; the servers are to be stopped all the same.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	return errors.Join(err, m.Close(closing), unlock())
}

// lock makes this process the daemon of a home folder.
func lock(home string) (unlock func() error, err error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, shannon.Errorf(shannon.CodeInvalidConfig, "Set SHANNON_HOME to a folder that you may write to", "the home folder cannot be made: %w", err)
	}
	held, holder, err := process.LockHome(filepath.Join(home, lockFile))
	switch {
	case shannon.CodeOf(err) == shannon.CodeDaemonRunning:
		return nil, shannon.Errorf(shannon.CodeDaemonRunning, "shannon status shows it; kill "+strconv.Itoa(holder)+" ends it",
			"a daemon with pid %d runs in %s already", holder, home)
	case err != nil:
		return nil, fmt.Errorf("lock home folder: %w", err)
	}
	return held.Close, nil
}

// serve listens and serves until ctx ends or a listener breaks.
func (m *Manager) serve(ctx context.Context, tcp bound, ready func(*Manager)) error {
	listeners, err := m.listen(ctx, tcp)
	if err != nil {
		return err
	}
	// Who reaches the socket may read the file: it is there first.
	if err := m.announce(); err != nil {
		return errors.Join(err, closeAll(listeners), m.unannounce())
	}
	servers := make([]*http.Server, len(listeners))
	failed := make(chan error, len(listeners))
	var wg sync.WaitGroup
	for i, l := range listeners {
		s := m.httpServer(l.gate.Wrap(m.Handler()))
		servers[i] = s
		wg.Go(func() {
			var err error
			if l.cert != "" {
				err = s.ServeTLS(l, l.cert, l.key)
			} else {
				err = s.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
		})
	}
	if ready != nil {
		m.phase.Store(shannon.PhaseReady)
		ready(m)
	}
	m.phase.Store(shannon.PhaseRunning)
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	m.phase.Store(shannon.PhaseStopping) // not ready any more
	err = errors.Join(err, m.hangUp(ctx, servers))
	wg.Wait()
	return errors.Join(err, m.unannounce())
}

// hangUp ends the connections: streams at once, calls when they are done or the
// time to drain is over.
func (m *Manager) hangUp(ctx context.Context, servers []*http.Server) error {
	// ctx has ended; that is why we are here.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	m.end()
	err := m.edge.Close(ctx)
	for _, s := range servers {
		if e := s.Shutdown(ctx); e != nil {
			err = errors.Join(err, s.Close())
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		m.o.Log.Warn("calls were cut off, because they did not end in time", "limit", drain)
		return nil
	}
	return err
}

// listener is an open listener with what guards it.
type listener struct {
	net.Listener
	gate      *auth.Gate
	cert, key string
}

func (m *Manager) listen(ctx context.Context, tcp bound) ([]listener, error) {
	var all []listener
	fail := func(err error) ([]listener, error) { return nil, errors.Join(err, closeAll(all)) }
	if l := m.take(tcp); l != nil {
		all = append(all, *l)
	}
	path, err := socketPath(m.cfg.Home)
	if err != nil {
		return fail(err)
	}
	// We hold the home's lock: whatever is at the path is a dead daemon's.
	_ = os.Remove(path)
	var lc net.ListenConfig
	socket, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return fail(fmt.Errorf("listen on socket: %w", err))
	}
	all = append(all, listener{Listener: socket, gate: &auth.Gate{Local: true, Deny: denyProblem, Hosts: []string{"shannon"}}})
	if err := os.Chmod(path, 0o600); err != nil {
		return fail(fmt.Errorf("guard socket: %w", err))
	}
	m.mu.Lock()
	m.socket = path
	m.mu.Unlock()
	return all, nil
}

// closeAll closes listeners that never served.
func closeAll(listeners []listener) (err error) {
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	return err
}

// bound is a TCP listener, or why there is none.
type bound struct {
	net.Listener       // nil where there is none
	taken        error // the default port is taken, which is a problem but ends nothing
}

func (b *bound) close() error {
	if b.Listener == nil {
		return nil
	}
	return b.Close()
}

// bind opens the TCP listener.
func bind(ctx context.Context, c *Config) (bound, error) {
	if c.Listen == "off" {
		return bound{}, nil
	}
	if err := auth.CheckListen(c.Listen, auth.ListenOptions{NoAuth: c.NoAuth, TLS: c.TLSCert != "", InsecureHTTP: c.InsecureHTTP}); err != nil {
		return bound{}, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err == nil {
		return bound{Listener: l}, nil
	}
	taken := portTaken(c.Listen, err)
	if c.ListenChosen || shannon.CodeOf(taken) != shannon.CodePortTaken {
		return bound{}, taken
	}
	return bound{taken: taken}, nil
}

// take makes a TCP listener this manager's; nil where there is none.
func (m *Manager) take(tcp bound) *listener {
	c := &m.cfg
	m.mu.Lock()
	defer m.mu.Unlock()
	if tcp.taken != nil {
		m.problems = append(m.problems, *shannon.ProblemOf(tcp.taken))
		m.o.Log.Warn("socket only", "problem", shannon.CodePortTaken, "err", tcp.taken)
	}
	if tcp.Listener == nil {
		return nil
	}
	m.address = tcp.Addr().String()
	hosts := append([]string{c.Listen, m.address}, c.AllowedHosts...)
	gate := &auth.Gate{Tokens: m.tokens, NoAuth: c.NoAuth, Hosts: hosts, Deny: denyProblem}
	return &listener{tcp.Listener, gate, c.TLSCert, c.TLSKey}
}

// portTaken says who holds an address, where it can be known.
func portTaken(address string, err error) error {
	if !process.AddressInUse(err) {
		return shannon.Errorf(shannon.CodeInvalidConfig, "Give host:port of this machine, such as 127.0.0.1:7426", "cannot listen on %s: %w", address, err)
	}
	who := "another program"
	if _, port, e := net.SplitHostPort(address); e == nil {
		if n, e := strconv.Atoi(port); e == nil {
			if holder, name, ok := process.PortHolder(n); ok {
				who = fmt.Sprintf("%s (pid %d)", name, holder)
			}
		}
	}
	return shannon.Errorf(shannon.CodePortTaken, "End that program, or choose another port: shannon serve --listen 127.0.0.1:7427",
		"the address %s is taken by %s", address, who)
}

func (m *Manager) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(m.o.Log.Handler(), slog.LevelDebug),
	}
}

// socketPath is where the socket of a home folder is: in it, unless the path is
// too long for a socket.
func socketPath(home string) (string, error) {
	abs, err := filepath.Abs(home)
	if err != nil {
		return "", fmt.Errorf("find home folder: %w", err)
	}
	if path := filepath.Join(abs, "shannon.sock"); len(path) <= maxSocketPath {
		return path, nil
	}
	dir, err := process.RuntimeDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the socket: %w", err)
	}
	return filepath.Join(dir, "shannon-"+shortHash(abs)+".sock"), nil
}

// announce tells clients where the daemon is.
func (m *Manager) announce() error {
	start, err := process.Identity(pid())
	if err != nil {
		m.o.Log.Debug("start time unknown", "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return remote.Daemon{PID: pid(), Start: start, Socket: m.socket, Address: m.address, Version: m.o.Version}.Write(m.cfg.Home)
}

func (m *Manager) unannounce() error {
	m.mu.Lock()
	socket := m.socket
	m.mu.Unlock()
	return errors.Join(ignoreMissing(os.Remove(filepath.Join(m.cfg.Home, remote.DaemonFile))), ignoreMissing(os.Remove(socket)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// endpointOf is the path at which a server's own endpoint is.
func endpointOf(name string) string { return "/servers/" + name + "/mcp" }

// principal tells the edge who was admitted.
func principal(r *http.Request) string { return auth.Principal(r.Context()) }
