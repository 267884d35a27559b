package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	shannon "github.com/shannon-mcp/shannon"
)

// Lock is held on a file until Close, or until this process dies in whatever way.
// Children do not inherit it.
type Lock struct{ f *os.File }

// LockHome takes the lock file that makes a process the only daemon of a home; it is
// made if missing, and never removed, since another might just be locking it. If
// another process, or another part of this one, holds it, the error has code
// daemon_running and holder is its pid, 0 if it has not said so yet.
func LockHome(path string) (lock *Lock, holder int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("open lock: %w", err)
	}
	if err := tryLock(f); err != nil {
		defer func() { _ = f.Close() }()
		if !errors.Is(err, errLocked) {
			return nil, 0, fmt.Errorf("lock %s: %w", path, err)
		}
		holder := readHolder(f)
		return nil, holder, shannon.Errorf(shannon.CodeDaemonRunning, "Use it, or stop it first.", "another Shannon runs on this home (pid %d)", holder)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, 0, fmt.Errorf("write lock: %w", err)
	}
	return &Lock{f}, os.Getpid(), nil
}

func readHolder(f *os.File) int {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0) // EOF always; what is no number is nobody
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}

// Close gives the lock back.
func (l *Lock) Close() error {
	_ = l.f.Truncate(0) // a pid that stays behind would mislead only for a moment
	if err := l.f.Close(); err != nil {
		return fmt.Errorf("close lock: %w", err)
	}
	return nil
}
