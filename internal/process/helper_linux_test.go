package process_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon/internal/process"
)

// kinds of children. TAG stands for a text that is in the command line of every
// process; count is how many processes the tree has.
var kinds = []struct {
	name, script string
	count        int
}{
	{"plain", "exec sleep 8640.TAG", 1},
	{"wrapper", "sleep 8640.TAG; true", 2},
	{"ignores SIGTERM and stdin", "trap '' TERM HUP INT; while :; do sleep 8640.TAG; done", 2},
	{"grandchildren", "sh -c 'sleep 8640.TAG & sleep 8640.TAG; true' & wait", 4},
	{"new session", "setsid sleep 8640.TAG & exec sleep 8640.TAG", 2},
	{"double fork", "(setsid sh -c 'trap \"\" TERM; sleep 8640.TAG; sleep 8640.TAG' &); exec sleep 8640.TAG", 3},
	{"grandchild without environment", "env -i setsid sleep 8640.TAG & exec sleep 8640.TAG", 2},
	{"stopped", "sleep 8640.TAG & kill -STOP $!; kill -STOP $$", 2},
}

func processes(times int) (n int) {
	for i := range times {
		n += kinds[i%len(kinds)].count
	}
	return n
}

// newTag gives digits that no other process has in its command line.
func newTag(t *testing.T) string {
	t.Helper()
	tag := fmt.Sprintf("%015d", rand.Uint64N(1e15))
	t.Cleanup(func() {
		for _, pid := range tagged(tag) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return tag
}

func shell(script, tag string) process.Spec {
	return process.Spec{
		Command: "sh", Args: []string{"-c", strings.ReplaceAll(script, "TAG", tag)}, Env: process.BaseEnv(os.Environ()),
		Grace: 50 * time.Millisecond, Term: 100 * time.Millisecond,
	}
}

// tagged returns all living processes with the tag in their command line.
func tagged(tag string) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(tag)) && pid != os.Getpid() {
			pids = append(pids, pid) // a zombie has no command line
		}
	}
	return pids
}

// settled gives a condition for eventually: there are so many processes with the tag,
// and for a while they have neither forked nor become another program.
func settled(tag string, count int) func() bool {
	var last string
	same := 0
	return func() bool {
		var now strings.Builder
		pids := tagged(tag)
		for _, pid := range pids {
			b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			fmt.Fprintf(&now, "%d %s\n", pid, b)
		}
		if same++; now.String() != last || len(pids) != count {
			last, same = now.String(), 0
		}
		return same >= 4
	}
}

// below returns the children of a process that match, given their state and session.
func below(ppid int, match func(state, session string) bool) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) > 3 && fields[1] == strconv.Itoa(ppid) && match(fields[0], fields[3]) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// zombies returns the dead that wait below a process.
func zombies(ppid int) []int {
	return below(ppid, func(state, _ string) bool { return state == "Z" })
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// eventually polls until ok, for at most limit.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v not: %s", limit, what)
		}
	}
}

func newHost(t *testing.T, dir string) *process.Host {
	t.Helper()
	h, err := process.NewHost(process.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func start(t *testing.T, h *process.Host, spec process.Spec) *process.Child {
	t.Helper()
	c, err := h.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
