package process

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawnAttributes: a group of its own, so that a terminal's signals and group kills
// reach it apart from us, and death with the spawner's thread.
func spawnAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// becomeReaper makes orphaned descendants ours instead of init's.
func becomeReaper() (bool, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return false, fmt.Errorf("become child subreaper: %w", err)
	}
	return true, nil
}

// reapAdopted reaps orphans that fell to us, until stop.
func (s *system) reapAdopted(stop <-chan struct{}) {
	if !s.reaping {
		return
	}
	dead := make(chan os.Signal, 1) // one is enough: each round looks at all
	signal.Notify(dead, unix.SIGCHLD)
	defer signal.Stop(dead)
	for {
		s.reapZombies()
		select {
		case <-dead:
		case <-stop:
			s.reapZombies()
			return
		}
	}
}

// reapZombies reaps the zombies below us that we did not start. The table is consulted
// under the lock that startProcess and reap hold, so an exit that somebody waits for is
// never taken away.
func (s *system) reapZombies() {
	procs, err := snapshot(math.MaxUint64) // without marks
	if err != nil {
		return
	}
	for _, p := range procs {
		if p.ppid != s.self || !p.gone {
			continue
		}
		s.mu.Lock()
		if _, ok := s.mine[p.pid]; !ok {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil) // ECHILD: it was one of ours, reaped meanwhile
		}
		s.mu.Unlock()
	}
}

// killAdopted kills, once, every descendant of this process, and says whether there
// was none.
func (s *system) killAdopted() bool {
	procs, err := snapshot(math.MaxUint64)
	return err != nil || killBelow(procs, s.self) == 0
}

// killBelow sends SIGKILL to every descendant of pid and returns how many there were.
func killBelow(procs []proc, pid int) (found int) {
	in := map[int]bool{pid: true}
	descend(procs, in)
	for _, p := range procs {
		if in[p.pid] && p.pid != pid && !p.gone && send(p, unix.SIGKILL) == nil {
			found++
		}
	}
	return found
}

// reap waits for the process and reaps it. Its tree is looked at in between, while the
// zombie still holds its number and its group.
func (t *tree) reap(p *os.Process) (*os.ProcessState, error) {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break // any other error will come back from Wait
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.members() // they are remembered
	t.sys.mu.Lock()
	defer t.sys.mu.Unlock()
	state, err := p.Wait() // at once
	delete(t.sys.mine, p.Pid)
	t.reaped = true
	if err != nil {
		return nil, fmt.Errorf("wait for process: %w", err)
	}
	return state, nil
}
