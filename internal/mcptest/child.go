package mcptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The variables by which a test binary learns that it is to be something else.
const (
	envScript = "MCPTEST_SCRIPT"
	envFork   = "MCPTEST_FORK"
)

// child is the process that a Server is, where it is one.
type child struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	exit   func(code int)
}

// Main makes the process a scripted server if its environment says so, and then
// does not return. It belongs at the beginning of TestMain.
func Main() {
	//nolint:forbidigo // a process that becomes the server begins here
	self, fork, script := child{os.Stdin, os.Stdout, os.Stderr, os.Exit}, os.Getenv(envFork), os.Getenv(envScript)
	switch {
	case fork != "":
		self.exit(self.forked(fork))
	case script != "":
		self.exit(self.read(script))
	}
}

// Command returns what to run to get a server with that script as a child
// process: this test binary, whose TestMain calls [Main].
func Command(t testing.TB, script Script) (command string, args []string, env map[string]string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("find the test binary: %v", err)
	}
	return self, nil, map[string]string{
		envScript: toJSON(script),
		"GORACE":  "atexit_sleep_ms=0", // else a binary with the race detector takes 1 s to exit
	}
}

// Serve is [Main] for a program of its own: it serves the script on its standard
// streams and exits.
func Serve(script Script) {
	//nolint:forbidigo // the program is the server
	self := child{os.Stdin, os.Stdout, os.Stderr, os.Exit}
	self.exit(self.serve(script))
}

func (p *child) read(text string) int {
	var script Script
	if err := json.Unmarshal([]byte(text), &script); err != nil {
		fmt.Fprintf(p.stderr, "mcptest: read script: %v\n", err)
		return 2
	}
	return p.serve(script)
}

func (p *child) serve(script Script) int {
	o := script.Child
	if o.IgnoreTerm {
		signal.Ignore(syscall.SIGTERM)
	}
	_, _ = io.WriteString(p.stderr, o.Stderr)
	_, _ = io.WriteString(p.stdout, o.Noise)
	if o.Exit != 0 && !exists(o.ExitUntil) {
		return o.Exit
	}
	wait(time.Duration(o.DelayMS) * time.Millisecond)
	s := newServer(script)
	s.child = p
	if o.Listen != "" {
		return p.listen(s, o.Listen)
	}
	if err := s.ServeStdio(p.stdin, p.stdout); err != nil {
		fmt.Fprintf(p.stderr, "mcptest: %v\n", err)
		return 1
	}
	if o.IgnoreEOF {
		wait(time.Hour)
	}
	return 0
}

// listen serves HTTP until stdin ends, so that the server goes with the test.
func (p *child) listen(s *Server, address string) int {
	l, err := net.Listen("tcp", address) //nolint:noctx // listening takes no time
	if err != nil {
		fmt.Fprintf(p.stderr, "mcptest: %v\n", err)
		return 1
	}
	fmt.Fprintf(p.stdout, "http://%s/mcp\n", l.Addr())
	h := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.calls.Go(func() {
		_, _ = io.Copy(io.Discard, p.stdin)
		s.halt()
		_ = h.Close()
	})
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		fmt.Fprintf(p.stderr, "mcptest: %v\n", err)
		return 1
	}
	s.Close()
	return 0
}

func exists(name string) bool {
	if name == "" {
		return false
	}
	_, err := os.Stat(name)
	return err == nil
}

func wait(d time.Duration) { <-time.After(d) }

// forkOptions are the arguments of the tool fork.
type forkOptions struct {
	N        int  `json:"n"`
	Stubborn bool `json:"stubborn"`
	Inherit  bool `json:"inherit"`
	MS       int  `json:"ms"` // how long they live; 60,000 when 0
}

// forkAway starts, for each grandchild, a child in a session of its own that
// starts the grandchild in one of its own, and exits: nothing links it to us
// but its ancestry, which the system has already rewritten.
func forkAway(o forkOptions) ([]int, error) {
	if o.MS == 0 {
		o.MS = 60_000
	}
	pids := make([]int, 0, o.N)
	for range max(o.N, 1) {
		cmd, err := detached("middle "+toJSON(o), o.Inherit)
		if err != nil {
			return nil, err
		}
		cmd.Stdout = nil // the pid comes that way
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("fork: %w", err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil {
			return nil, fmt.Errorf("read pid: %w", err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// detached returns this program as a process in a session of its own.
func detached(role string, inherit bool) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find myself: %w", err)
	}
	cmd := exec.Command(self)                        //nolint:noctx // it is meant to outlive everything
	cmd.Env = append(os.Environ(), envFork+"="+role) //nolint:forbidigo // the grandchild inherits, as forks do
	cmd.SysProcAttr = ownSession()
	if inherit {
		// Handed down in a place that nobody reads, so that only the pipe stays open.
		cmd.Stderr = os.Stderr                    //nolint:forbidigo // see above
		cmd.ExtraFiles = []*os.File{keptStdout()} // fd 3
	}
	return cmd, nil
}

// forked is what a process does that the tool fork started.
func (p *child) forked(role string) int {
	kind, options, _ := strings.Cut(role, " ")
	var o forkOptions
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		return 2
	}
	if kind == "leaf" {
		if o.Stubborn {
			signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
		}
		wait(time.Duration(o.MS) * time.Millisecond)
		return 0
	}
	cmd, err := detached("leaf "+options, o.Inherit)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintf(p.stderr, "mcptest: %v\n", err)
		return 1
	}
	fmt.Fprintln(p.stdout, cmd.Process.Pid)
	return 0
}

// keptStdout is the stdout to keep open: the server's own, which the process in
// between has as its file 3.
func keptStdout() *os.File {
	//nolint:forbidigo // see above
	if role := os.Getenv(envFork); role != "" {
		return os.NewFile(3, "kept")
	}
	return os.Stdout //nolint:forbidigo // see above
}
