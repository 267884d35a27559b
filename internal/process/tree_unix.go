//go:build linux || darwin

package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Errors of starting a program that only this family of systems has.
const (
	errTooBig = unix.E2BIG
	errFormat = unix.ENOEXEC
)

// system is what the operating system knows of this process as an owner of children.
type system struct {
	self    int
	parent  int
	start   string // identity of self
	reaping bool
	scan    scanner

	mu   sync.Mutex
	mine map[int]struct{} // started by us and not reaped
}

func newSystem(reap bool) (*system, error) {
	s := &system{self: os.Getpid(), parent: os.Getppid(), mine: make(map[int]struct{})}
	p, err := readProc(s.self)
	if err != nil {
		return nil, fmt.Errorf("identify this process: %w", err)
	}
	s.start = identity(p.start)
	s.scan.since = p.start // no child of ours is older than we are
	if reap {
		s.reaping, err = becomeReaper()
	}
	return s, err
}

// startProcess runs start and takes its process into the table in one step, as seen
// from reapAdopted.
func (s *system) startProcess(mark string, start func() (*os.Process, error)) (*os.Process, *tree, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := start()
	if err != nil {
		return nil, nil, err
	}
	s.mine[p.Pid] = struct{}{}
	t := &tree{sys: s, mark: mark, known: make(map[int]uint64), forbidden: make(map[int]uint64)}
	t.root, err = readProc(p.Pid) // a child that is not reaped can be read
	if err != nil {
		t.root = proc{pid: p.Pid, ppid: s.self, pgid: p.Pid, start: s.scan.since}
	}
	t.known[t.root.pid] = t.root.start
	return p, t, nil
}

// killLeftovers kills, once, the processes of dead owners: those with a mark of theirs
// or recorded by pid and start time, and all their descendants. It returns how many it
// signalled and how many it may not signal. Whoever we descend from is spared.
func (s *system) killLeftovers(dead []record) (found, denied int) {
	procs, err := snapshot(0)
	if err != nil {
		return 0, 1
	}
	type name struct {
		pid   int
		start string
	}
	owners, names := make(map[string]bool), make(map[name]bool)
	for _, r := range dead {
		owners[r.Owner] = true
		names[name{r.PID, r.Start}] = true
	}
	spared := ancestors(procs, s.self)
	in := make(map[int]bool)
	for _, p := range procs {
		if (owners[p.owner()] || names[name{p.pid, identity(p.start)}]) && !spared[p.pid] {
			in[p.pid] = true
		}
	}
	descend(procs, in)
	for _, p := range procs {
		if !in[p.pid] || p.gone {
			continue
		}
		switch err := send(p, unix.SIGKILL); {
		case err == nil:
			found++
		case errors.Is(err, unix.EPERM):
			denied++
		}
	}
	return found, denied
}

// tree is one child and everything it started.
type tree struct {
	sys  *system
	root proc
	mark string

	mu        sync.Mutex
	reaped    bool           // from then on others may have the root's number
	known     map[int]uint64 // pid → start of members seen before; they stay members when their line breaks
	forbidden map[int]uint64 // members that we may not signal, of another user
}

func (t *tree) identity() string { return identity(t.root.start) }

// members returns those of the tree that live and may be signalled; t.mu is held.
func (t *tree) members() ([]proc, error) {
	procs, err := t.sys.scan.scan()
	if err != nil {
		return nil, err
	}
	in := t.belonging(procs)
	clear(t.known)
	var live []proc
	for _, p := range procs {
		if !in[p.pid] || p.start < t.root.start || p.pid == t.sys.self || p.pid == t.sys.parent || p.pid <= 1 {
			continue
		}
		t.known[p.pid] = p.start
		if start, ok := t.forbidden[p.pid]; !p.gone && (!ok || start != p.start) {
			live = append(live, p)
		}
	}
	return live, nil
}

// belonging returns the pids of the tree: known before, marked, in the group, or
// descending from one of these.
func (t *tree) belonging(procs []proc) map[int]bool {
	in := make(map[int]bool)
	group := false
	for _, p := range procs {
		start, known := t.known[p.pid]
		known = known && start == p.start
		if known || p.mark == t.mark {
			in[p.pid] = true
		}
		// A group's number is not given away while somebody is in it, be it the zombie
		// of its leader.
		group = group || (known && p.pgid == t.root.pid)
	}
	for _, p := range procs {
		if group && p.pgid == t.root.pid {
			in[p.pid] = true
		}
	}
	descend(procs, in)
	return in
}

// alive returns how many of the tree live that we may signal; at least one when that
// cannot be known.
func (t *tree) alive() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	live, err := t.members()
	if err != nil {
		return 1
	}
	return len(live)
}

// terminate sends SIGTERM to the tree and returns how many it found.
func (t *tree) terminate() int { return t.signal(unix.SIGTERM) }

// kill sends SIGKILL to the tree and returns how many it found.
func (t *tree) kill() int { return t.signal(unix.SIGKILL) }

func (t *tree) signal(sig syscall.Signal) (found int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	live, err := t.members()
	if err != nil {
		// No descriptor left to look with, say. The group can be reached blindly as long
		// as its leader is not reaped.
		if !t.reaped {
			_ = unix.Kill(-t.root.pid, sig)
		}
		return 1
	}
	for _, p := range live {
		switch err := send(p, sig); {
		case errors.Is(err, unix.EPERM):
			t.forbidden[p.pid] = p.start
		case !errors.Is(err, unix.ESRCH):
			found++
		}
	}
	return found
}

// denied returns how many of the tree live that we may not signal.
func (t *tree) denied() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for pid, start := range t.forbidden {
		if p, err := readProc(pid); err == nil && p.start == start && !p.gone {
			n++
		}
	}
	return n
}

// release gives back what the system holds for the tree: nothing here.
func (t *tree) release() {}

// findExecutable returns file if we may execute it.
func findExecutable(file string) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", reason(err)
	}
	if info.IsDir() {
		return "", unix.EISDIR
	}
	if info.Mode()&0o111 == 0 || unix.Access(file, unix.X_OK) != nil {
		return "", fs.ErrPermission
	}
	return file, nil
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return s.String()
}
