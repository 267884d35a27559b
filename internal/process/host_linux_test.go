package process_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	shannon "github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/process"
)

func TestHundredChildrenAtOnce(t *testing.T) {
	dir := t.TempDir()
	before := descriptors(t)
	h, err := process.NewHost(process.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	tag := newTag(t)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			c, err := h.Start(t.Context(), shell(kinds[i%len(kinds)].script, tag))
			if err != nil {
				t.Error(err)
				return
			}
			if i%2 == 0 { // Close stops the others
				c.Stop(t.Context())
			}
		})
	}
	all.Wait()
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if left := tagged(tag); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if z := zombies(os.Getpid()); len(z) > 0 {
		t.Errorf("zombies: %v", z)
	}
	if n := descriptors(t); n > before+2 { // the poller's own
		t.Errorf("%d descriptors before, %d after", before, n)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("records stay: %v", files)
	}
	if _, err := h.Start(t.Context(), shell("true", "")); shannon.CodeOf(err) != shannon.CodeSpawnFailed {
		t.Errorf("start after Close: %v", err)
	}
}

// run starts this test binary in a role, as a child of the test alone.
func run(t *testing.T, role, dir, tag string) *exec.Cmd {
	t.Helper()
	argv, env := self(role, "PT_DIR="+dir, "PT_TAG="+tag, "PT_EXIT=42")
	cmd := exec.CommandContext(t.Context(), argv[0])
	cmd.Env = env
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// ready waits for the daemon's children and returns its pid.
func ready(t *testing.T, dir, tag string) (daemon int, kept bool) {
	t.Helper()
	eventually(t, 10*time.Second, "daemon ready", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "ready"))
		if err == nil {
			_, err = fmt.Sscan(string(b), &daemon, &kept)
		}
		return err == nil
	})
	want := processes(20)
	eventually(t, 10*time.Second, "children started", settled(tag, want))
	return daemon, kept
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestNothingOutlivesTheDaemon(t *testing.T) {
	const promise = 2 * time.Second
	for name, tc := range map[string]struct {
		kill   func(keeper, daemon int) error
		code   int
		closed bool // the daemon stopped in order
	}{
		"kill -9 of the daemon": {func(_, d int) error { return syscall.Kill(d, syscall.SIGKILL) }, 128 + 9, false},
		"kill -9 of the keeper": {func(k, _ int) error { return syscall.Kill(k, syscall.SIGKILL) }, -1, true},
		"SIGTERM to the keeper": {func(k, _ int) error { return syscall.Kill(k, syscall.SIGTERM) }, 42, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, tag := t.TempDir(), newTag(t)
			keeper := run(t, "keeper", dir, tag)
			daemon, kept := ready(t, dir, tag)
			id, err := process.Identity(daemon)
			if err != nil {
				t.Fatal(err)
			}
			if !kept {
				t.Error("the daemon does not know its keeper")
			}
			if err := tc.kill(keeper.Process.Pid, daemon); err != nil {
				t.Fatal(err)
			}
			eventually(t, promise, "all gone", func() bool { return len(tagged(tag)) == 0 })
			_ = keeper.Wait()
			if code := keeper.ProcessState.ExitCode(); code != tc.code {
				t.Errorf("keeper exits with %d, want %d", code, tc.code)
			}
			if tc.closed {
				eventually(t, promise, "daemon closed", func() bool { return exists(filepath.Join(dir, "closed")) })
			}
			eventually(t, promise, "daemon ended", func() bool { return !process.Alive(daemon, id) })
		})
	}
}

func TestNextStartEndsWhatIsLeft(t *testing.T) {
	dir, tag := t.TempDir(), newTag(t)
	innocents := newTag(t)
	innocent := exec.CommandContext(t.Context(), "sleep", "8640."+innocents)
	innocent.Env = []string{"SHANNON_MARK=" + strings.Repeat("ab", 16) + ".1"}
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	keeper := run(t, "keeper", dir, tag)
	daemon, _ := ready(t, dir, tag)
	// Adopted ones are in sessions of their own.
	ours, _ := unix.Getsid(0)
	children := below(daemon, func(_, session string) bool { return session == strconv.Itoa(ours) })
	if len(children) != 20 {
		t.Errorf("%d children", len(children))
	}
	id, err := process.Identity(daemon)
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(keeper.Process.Pid, syscall.SIGKILL)
	_ = syscall.Kill(daemon, syscall.SIGKILL)
	_ = keeper.Wait()

	direct := func() (n int) {
		for _, pid := range tagged(tag) {
			if slices.Contains(children, pid) {
				n++
			}
		}
		return n
	}
	eventually(t, 2*time.Second, "direct children gone", func() bool { return direct() == 0 })
	eventually(t, 2*time.Second, "daemon dead", func() bool { return !process.Alive(daemon, id) })
	if len(tagged(tag)) == 0 {
		t.Error("nothing was left: the test proves nothing")
	}
	run := filepath.Join(dir, "run")
	write(filepath.Join(run, "child-garbage.json"), "{")
	write(filepath.Join(run, "child-"+strings.Repeat("ab", 16)+".1.json"), "")
	newHost(t, run)
	// An orphan that has dropped its mark cannot be told from a stranger.
	for _, pid := range tagged(tag) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); len(b) > 0 {
			t.Errorf("left after the next start: %d", pid)
		}
	}
	if len(tagged(innocents)) != 1 {
		t.Error("the innocent process was touched")
	}
	if files, _ := os.ReadDir(run); len(files) > 0 {
		t.Errorf("records stay: %v", files)
	}
	_ = innocent.Process.Kill()
	_ = innocent.Wait()
}

// TestOwnersLeaveEachOtherAlone: hosts that share a directory, in one process.
func TestOwnersLeaveEachOtherAlone(t *testing.T) {
	dir, tag := t.TempDir(), newTag(t)
	first := newHost(t, dir)
	c := start(t, first, shell("(setsid sleep 8640.TAG &); exec sleep 8640.TAG", tag))
	eventually(t, 5*time.Second, "started", settled(tag, 2))
	second, err := process.NewHost(process.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(tagged(tag)); n != 2 {
		t.Errorf("%d of 2 processes live", n)
	}
	if files, _ := os.ReadDir(dir); len(files) != 1 {
		t.Errorf("records: %v", files)
	}
	c.Stop(t.Context())
}

func TestDaemonReapsWhatItAdopts(t *testing.T) {
	dir, tag := t.TempDir(), newTag(t)
	cmd := run(t, "daemon", dir, tag)
	daemon, kept := ready(t, dir, tag)
	if kept || daemon != cmd.Process.Pid {
		t.Errorf("kept = %v, pid %d", kept, daemon)
	}
	adopted := 0
	for _, pid := range tagged(tag) {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(b), "trap \"\" TERM; sleep") && !strings.Contains(string(b), "setsid") {
			adopted++ // the shell of the double fork
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if adopted == 0 {
		t.Fatal("no adopted process found")
	}
	eventually(t, 2*time.Second, "no zombies", func() bool { return len(zombies(daemon)) == 0 })
	_ = syscall.Kill(daemon, syscall.SIGTERM)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 42 {
		t.Errorf("daemon exits with %d", code)
	}
	if left := tagged(tag); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestLockHome(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	argv, env := self("lock", "PT_DIR="+path)
	cmd := exec.CommandContext(t.Context(), argv[0])
	cmd.Env = env
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 7)); err != nil {
		t.Fatal(err)
	}
	_, holder, err := process.LockHome(path)
	if shannon.CodeOf(err) != shannon.CodeDaemonRunning || holder != cmd.Process.Pid {
		t.Errorf("holder = %d, %v; want %d", holder, err, cmd.Process.Pid)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	lock, holder, err := process.LockHome(path)
	if err != nil || holder != os.Getpid() {
		t.Fatalf("after the holder's death: %d, %v", holder, err)
	}
	if _, holder, err := process.LockHome(path); err == nil || holder != os.Getpid() {
		t.Errorf("locked twice: %d, %v", holder, err)
	}
	// A child must not keep it.
	h, tag := newHost(t, ""), newTag(t)
	start(t, h, shell("exec sleep 8640.TAG", tag))
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	lock, _, err = process.LockHome(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = lock.Close()
}

func TestIdentity(t *testing.T) {
	me, err := process.Identity(os.Getpid())
	if err != nil || !process.Alive(os.Getpid(), me) {
		t.Fatalf("identity = %q, %v", me, err)
	}
	for name, start := range map[string]string{"empty": "", "other": me + "0"} {
		if process.Alive(os.Getpid(), start) {
			t.Errorf("alive with %s start", name)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := process.Identity(cmd.Process.Pid)
	if err != nil || !process.Alive(cmd.Process.Pid, id) {
		t.Errorf("identity = %q, %v", id, err)
	}
	_ = cmd.Process.Kill()
	eventually(t, time.Second, "a zombie is not alive", func() bool { return !process.Alive(cmd.Process.Pid, id) })
	_ = cmd.Wait()
	if _, err := process.Identity(cmd.Process.Pid); !os.IsNotExist(err) && !strings.Contains(fmt.Sprint(err), "no such") {
		t.Errorf("identity of nobody: %v", err)
	}
}
