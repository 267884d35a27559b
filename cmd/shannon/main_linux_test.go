package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shannon-mcp/shannon/internal/mcptest"
	"github.com/shannon-mcp/shannon/internal/process"
	"github.com/shannon-mcp/shannon/remote"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"shannon": main, "fakemcp": fakeMCP})
}

// fakeMCP is the scripted server of mcptest as a program.
func fakeMCP() {
	mcptest.Main()
	text := flag.String("script", "{}", "")
	listen := flag.String("listen", "", "")
	flag.Parse()
	var script mcptest.Script
	if err := json.Unmarshal([]byte(*text), &script); err != nil {
		fmt.Fprintln(os.Stderr, "fakemcp:", err)
		os.Exit(2)
	}
	if *listen != "" {
		script.Child.Listen = *listen
	}
	mcptest.Serve(script)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("SHANNON_HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("SHANNON_LISTEN", "127.0.0.1:0")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "ready": ready, "eventually": eventually, "interrupt": interrupt, "follow": follow,
			"freeze": freeze, "thaw": thaw, "hold": hold, "occupy": occupy, "alone": alone, "getenv": getenv,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// deadline is long for a machine that is busy; nothing waits so long otherwise.
const deadline = 20 * time.Second

func poll(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(deadline); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited too long: %s", what)
		}
	}
}

// exits CODE COMMAND… runs a command that must end with that code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s\n%s%s", code, args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

// ready waits until the daemon answers.
func ready(ts *testscript.TestScript, _ bool, _ []string) {
	poll(ts, "the daemon answers", func() bool {
		d, err := remote.ReadDaemon(ts.Getenv("SHANNON_HOME"))
		if err != nil {
			return false
		}
		c, err := net.Dial("unix", d.Socket)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// eventually TEXT COMMAND… runs a command until it prints the text.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, strings.Join(args, " "), func() bool {
		_ = ts.Exec(args[1], args[2:]...) // what it prints is looked at
		return strings.Contains(ts.ReadFile("stdout"), args[0])
	})
}

// interrupt TEXT COMMAND… runs a command, sends it SIGINT once a process whose
// command line holds the text runs below it, and expects code 130.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	c, out := start(ts, args[1:])
	poll(ts, "a process with "+args[0], func() bool { return len(processes(ts, args[0])) > 0 })
	time.Sleep(100 * time.Millisecond) // so that the call is under way, which cannot be seen from here
	interrupted(ts, c, out)
}

// follow TEXT COMMAND… runs a command that follows until it prints the text,
// prints another to the server early's stderr and waits for that too; then it
// sends SIGINT and expects code 130.
func follow(ts *testscript.TestScript, _ bool, args []string) {
	c, out := start(ts, args[1:])
	poll(ts, args[0], func() bool { return strings.Contains(out.String(), args[0]) })
	ts.Check(ts.Exec("shannon", "call", "early", "stderr", "--json-args", `{"text":"printed-later\n"}`))
	poll(ts, "what is printed later", func() bool { return strings.Contains(out.String(), "printed-later") })
	interrupted(ts, c, out)
}

// start runs a command beside the script.
func start(ts *testscript.TestScript, args []string) (*exec.Cmd, *output) {
	path, err := exec.LookPath(args[0])
	ts.Check(err)
	c, out := exec.Command(path, args[1:]...), &output{}
	c.Dir = ts.Getenv("WORK")
	c.Env = append(os.Environ(), "SHANNON_HOME="+ts.Getenv("SHANNON_HOME"), "SHANNON_LISTEN=127.0.0.1:0")
	c.Stdout, c.Stderr = out, out
	ts.Check(c.Start())
	return c, out
}

func interrupted(ts *testscript.TestScript, c *exec.Cmd, out *output) {
	ts.Check(c.Process.Signal(os.Interrupt))
	_ = c.Wait() // its code is looked at
	if code := c.ProcessState.ExitCode(); code != 130 {
		ts.Fatalf("exit code %d, want 130: %s", code, out)
	}
}

// output is what a command has printed so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// processes returns those of this test: they run in its directory.
func processes(ts *testscript.TestScript, text string) (found []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range dirs {
		dir, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(dir+"/", ts.Getenv("WORK")+"/") {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "cmdline"))
		if s := strings.ReplaceAll(string(line), "\x00", " "); strings.Contains(s, text) {
			found = append(found, filepath.Base(filepath.Dir(link))+" "+s)
		}
	}
	return found
}

// alone checks that nothing that the script started still runs.
func alone(ts *testscript.TestScript, _ bool, _ []string) {
	poll(ts, "no process is left", func() bool { return len(processes(ts, "")) == 0 })
}

func daemonPID(ts *testscript.TestScript) int {
	d, err := remote.ReadDaemon(ts.Getenv("SHANNON_HOME"))
	ts.Check(err)
	return d.PID
}

// freeze stops the daemon without ending it; thaw lets it go on.
func freeze(ts *testscript.TestScript, _ bool, _ []string) {
	pid := daemonPID(ts)
	ts.Check(syscall.Kill(pid, syscall.SIGSTOP))
	ts.Defer(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

func thaw(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(syscall.Kill(daemonPID(ts), syscall.SIGCONT))
}

// hold takes the home's lock without being a daemon.
func hold(ts *testscript.TestScript, _ bool, _ []string) {
	home := ts.Getenv("SHANNON_HOME")
	ts.Check(os.MkdirAll(home, 0o700))
	lock, _, err := process.LockHome(filepath.Join(home, "daemon.lock"))
	ts.Check(err)
	ts.Defer(func() { _ = lock.Close() })
}

// occupy listens on a port and puts its address into $TAKEN.
func occupy(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv("TAKEN", l.Addr().String())
}

// getenv NAME sets a variable to the last output, without the line break.
func getenv(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
