//go:build linux || darwin

package process

import (
	"strconv"
	"strings"
	"sync"
)

// proc is a process as one scan saw it.
type proc struct {
	pid, ppid, pgid int
	start           uint64 // in the system's own unit; with the pid it names a process
	gone            bool   // a zombie: it only waits to be reaped
	exiting         bool   // gone, or on its way: it runs no code of its own any more
	mark            string // of the child whose tree it belongs to, where that can be read
}

// owner returns the first part of the mark.
func (p proc) owner() string {
	owner, _, _ := strings.Cut(p.mark, ".")
	return owner
}

// markIn finds the mark in an environment whose variables end with NUL.
func markIn(environ string) string {
	for kv := range strings.SplitSeq(environ, "\x00") {
		if mark, ok := strings.CutPrefix(kv, markVariable+"="); ok {
			return mark
		}
	}
	return ""
}

// identity returns the word for a start time that is on disk. It names the boot, since
// pids and start times begin anew with each.
func identity(start uint64) string { return bootID() + "/" + strconv.FormatUint(start, 10) }

// Identity returns what, with its pid, names a process for ever: a text that no other
// process of the same number has. The error is fs.ErrNotExist if there is none.
func Identity(pid int) (start string, err error) {
	p, err := readProc(pid)
	if err != nil {
		return "", err
	}
	return identity(p.start), nil
}

// Alive says whether the process that [Identity] named still runs. A zombie does not, nor
// one that is being taken down: its locks are free before the kernel is done with it.
func Alive(pid int, start string) bool {
	p, err := readProc(pid)
	return err == nil && !p.exiting && identity(p.start) == start
}

// scanner gives scans of all processes. Those who ask while one is under way share the
// next, so that ending a hundred children at once costs a few scans, not hundreds.
type scanner struct {
	since uint64 // marks are read of processes started since then

	running sync.Mutex
	mu      sync.Mutex
	next    *round
}

type round struct {
	done  chan struct{}
	procs []proc
	err   error
}

// scan returns the processes as they are after the call. The slice is shared.
func (s *scanner) scan() ([]proc, error) {
	s.mu.Lock()
	r := s.next
	lead := r == nil
	if lead {
		r = &round{done: make(chan struct{})}
		s.next = r
	}
	s.mu.Unlock()
	if lead {
		s.running.Lock()
		s.mu.Lock()
		s.next = nil // who comes from here on needs a later one
		s.mu.Unlock()
		r.procs, r.err = snapshot(s.since)
		s.running.Unlock()
		close(r.done)
	}
	<-r.done
	return r.procs, r.err
}

// descend adds to in, a set of pids, all descendants of its members.
func descend(procs []proc, in map[int]bool) {
	children := make(map[int][]int, len(procs))
	for _, p := range procs {
		children[p.ppid] = append(children[p.ppid], p.pid)
	}
	todo := make([]int, 0, len(in))
	for pid := range in {
		todo = append(todo, pid)
	}
	for len(todo) > 0 {
		pid := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, child := range children[pid] {
			if !in[child] {
				in[child] = true
				todo = append(todo, child)
			}
		}
	}
}

// ancestors returns pid and all above it.
func ancestors(procs []proc, pid int) map[int]bool {
	parent := make(map[int]int, len(procs))
	for _, p := range procs {
		parent[p.pid] = p.ppid
	}
	up := make(map[int]bool)
	for pid > 0 && !up[pid] {
		up[pid] = true
		pid = parent[pid]
	}
	return up
}
