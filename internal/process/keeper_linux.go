package process

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Keep is the life of the keeper, a process that does nothing else: it starts argv as
// its only child, the daemon, in a group of its own, passes SIGTERM, SIGINT and SIGHUP
// on to it, and when it has died kills every process that fell to the keeper, until
// there is none. It returns the daemon's exit code, or 128 and the number of the signal
// that ended it. argv[0] is a path. The daemon reads from the null device and writes to
// our stdout and stderr. When the keeper dies, the daemon gets SIGTERM, possibly several
// times: the kernel sends it as often as the daemon changes parents, which it does from
// thread to thread of a dying keeper. So a second SIGTERM must not mean haste.
//
// Elsewhere than on Linux the error is errors.ErrUnsupported: the caller then is the
// daemon itself.
func Keep(argv, env []string) (exitCode int, err error) {
	// The parent-death signal of the daemon hangs on the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := becomeReaper(); err != nil {
		return 0, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, fmt.Errorf("start daemon: %w", err)
	}
	defer func() { _ = null.Close() }()

	signals := make(chan os.Signal, 8)
	// What we were started to ignore (nohup, a background job) stays ignored.
	signal.Notify(signals, slices.DeleteFunc([]os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP}, signal.Ignored)...)
	defer signal.Stop(signals)
	daemon, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
		Env:   environment(env, keeperVariable, strconv.Itoa(os.Getpid())),
		Files: []*os.File{null, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGTERM},
	})
	if err != nil {
		return 0, fmt.Errorf("start daemon: %w", err)
	}
	var forwarding sync.WaitGroup
	ended := make(chan struct{})
	forwarding.Go(func() {
		for {
			select {
			case s := <-signals:
				_ = daemon.Signal(s) // it has just ended
			case <-ended:
				return
			}
		}
	})
	exitCode, err = reapUntil(daemon.Pid)
	close(ended)
	forwarding.Wait()
	_ = daemon.Release()
	killOrphans()
	return exitCode, err
}

// reapUntil reaps whatever dies below us, until pid has.
func reapUntil(pid int) (exitCode int, err error) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait for daemon: %w", err)
		case got == pid && ws.Exited():
			return ws.ExitStatus(), nil
		case got == pid && ws.Signaled():
			return 128 + int(ws.Signal()), nil
		}
	}
}

// killOrphans kills and reaps all that is below us, for as long as there is something
// that can be killed: a keeper has nothing better to do.
func killOrphans() {
	for idle, wait := 0, time.Millisecond; idle < 3; wait = min(2*wait, 100*time.Millisecond) {
		idle++
		for {
			pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
			if errors.Is(err, unix.ECHILD) {
				return
			}
			if pid == 0 {
				break
			}
			idle = 0
		}
		if procs, err := snapshot(math.MaxUint64); err != nil || killBelow(procs, os.Getpid()) > 0 {
			idle = 0
		}
		<-time.After(wait)
	}
}

// UnderKeeper is called by the daemon before anything else. It says whether a keeper
// watches over this process; [ErrKeeperGone] means that there was one, and that the
// daemon should end, since the signal that tells of its death may have come too early.
// The parent-death signal itself was set by [Keep].
func UnderKeeper() (bool, error) {
	value, ok := os.LookupEnv(keeperVariable)
	if !ok {
		return false, nil
	}
	_ = os.Unsetenv(keeperVariable) // children must not think it theirs; fails for bad names only
	if pid, err := strconv.Atoi(value); err != nil || pid != os.Getppid() {
		return false, ErrKeeperGone
	}
	return true, nil
}
