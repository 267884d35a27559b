package process_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon/internal/process"
)

// roleVariable makes this test binary play a part instead of running tests.
const roleVariable = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVariable); role {
	case "":
		goleak.VerifyTestMain(m)
	case "keeper":
		os.Exit(playKeeper())
	case "daemon":
		os.Exit(playDaemon())
	case "lock":
		os.Exit(playLock())
	default:
		fmt.Fprintln(os.Stderr, "no such role:", role)
		os.Exit(2)
	}
}

// self returns the command line and environment of a part, told what by name=value.
func self(role string, told ...string) (argv, env []string) {
	env = append(process.BaseEnv(os.Environ()), roleVariable+"="+role)
	return []string{executable()}, append(env, told...)
}

func executable() string {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return exe
}

func playKeeper() int {
	argv, env := self("daemon", "PT_DIR="+os.Getenv("PT_DIR"), "PT_TAG="+os.Getenv("PT_TAG"), "PT_EXIT="+os.Getenv("PT_EXIT"))
	code, err := process.Keep(argv, env)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	return code
}

// playDaemon starts twenty children of all kinds, says so in a file "ready" with its
// pid, and on SIGTERM closes its host and says so in a file "closed".
func playDaemon() int {
	dir, tag := os.Getenv("PT_DIR"), os.Getenv("PT_TAG")
	stop := make(chan os.Signal, 4)
	signal.Notify(stop, syscall.SIGTERM)
	kept, err := process.UnderKeeper()
	if err != nil {
		return 98
	}
	h, err := process.NewHost(process.Options{Dir: filepath.Join(dir, "run"), Reap: true, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return 97
	}
	ctx := context.Background()
	for i := range 20 {
		if _, err := h.Start(ctx, shell(kinds[i%len(kinds)].script, tag)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 96
		}
	}
	write(filepath.Join(dir, "ready"), fmt.Sprintf("%d %v", os.Getpid(), kept))
	select {
	case <-stop:
	case <-time.After(time.Minute):
		return 95
	}
	if err := h.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 94
	}
	write(filepath.Join(dir, "closed"), strconv.Itoa(len(stop)))
	code, _ := strconv.Atoi(os.Getenv("PT_EXIT"))
	return code
}

// playLock takes the lock named PT_DIR and keeps it until it is killed.
func playLock() int {
	if _, _, err := process.LockHome(os.Getenv("PT_DIR")); err != nil {
		return 1
	}
	fmt.Println("locked")
	<-time.After(time.Minute)
	return 0
}

// write makes a file in one step.
func write(path, text string) {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		panic(err)
	}
}
