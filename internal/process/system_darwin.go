package process

import (
	"fmt"
	"os"
	"syscall"
)

// spawnAttributes: a group of its own, so that a terminal's signals and group kills
// reach it apart from us.
func spawnAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// becomeReaper does nothing: orphans always go to launchd.
func becomeReaper() (bool, error) { return false, nil }

func (s *system) reapAdopted(<-chan struct{}) {}

func (s *system) killAdopted() bool { return true }

// reap waits for the process and reaps it.
func (t *tree) reap(p *os.Process) (*os.ProcessState, error) {
	state, err := p.Wait()
	t.mu.Lock()
	t.reaped = true
	t.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("wait for process: %w", err)
	}
	return state, nil
}
