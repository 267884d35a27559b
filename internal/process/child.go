package process

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	defaultGrace = 2 * time.Second
	defaultTerm  = 2 * time.Second
	// holdLimit bounds the wait for a pipe's end after its process has ended: another
	// process may hold the pipe for ever.
	holdLimit = time.Second
)

// Spec says what to start.
type Spec struct {
	// Command is a name to look for in the PATH of Env, or a path; a relative one
	// starts at Dir.
	Command string
	Args    []string
	// Dir is the working directory; empty means ours.
	Dir string
	// Env is the complete environment. Of a name that comes twice, the last counts.
	Env []string
	// Grace is how long a stopped child may take to end after its stdin was closed,
	// Term how long after SIGTERM. Zero means 2 s, less than zero no wait. Windows has
	// no SIGTERM and no Term.
	Grace, Term time.Duration
	// Stderr gets every line without its end, cut at 64 KiB, from one goroutine, until
	// Stop returns. The bytes are valid during the call only. It must not block: while
	// it does, so does the child. Nil is allowed.
	Stderr func(line []byte)
}

// Exit says how a process ended.
type Exit struct {
	// Code is the exit code; -1 if a signal ended the process or nothing is known.
	Code int
	// Signal is the name of the signal that ended it, such as SIGKILL, or empty.
	Signal string
	// Stderr holds its last lines, at most 20 and 8 KiB.
	Stderr []string
}

// String says it in words, without the lines.
func (e Exit) String() string {
	switch {
	case e.Signal != "":
		return "ended by " + e.Signal
	case e.Code < 0:
		return "not known to have ended"
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// Child is a process that was started, and its tree.
type Child struct {
	host *Host
	path string
	mark string
	proc *os.Process
	tree *tree

	grace, term time.Duration
	stdin       *os.File
	stdout      *output
	stderr      *os.File
	lines       *lines

	stopOnce, hasteOnce sync.Once
	stopping            chan struct{} // closed by the first Stop
	haste               chan struct{} // closed when there is no time left
	drained             chan struct{} // closed when stderr has ended
	exited              chan struct{} // closed when the process itself was reaped
	done                chan struct{} // closed when exit is complete
	gone                chan struct{} // closed when nothing of the child is left
	exit                Exit          // written before done is closed
	left                int           // processes that could not be killed; written before gone is closed
}

func newChild(h *Host, path string, spec Spec, p *pipes) *Child {
	c := &Child{
		host: h, path: path, grace: spec.Grace, term: spec.Term,
		stdin: p.stdin.ours, stdout: newOutput(p.stdout.ours), stderr: p.stderr.ours, lines: &lines{emit: spec.Stderr},
		stopping: make(chan struct{}), haste: make(chan struct{}), drained: make(chan struct{}),
		exited: make(chan struct{}), done: make(chan struct{}), gone: make(chan struct{}),
	}
	if c.grace == 0 {
		c.grace = defaultGrace
	}
	if c.term == 0 {
		c.term = defaultTerm
	}
	return c
}

// PID is the number of the process itself.
func (c *Child) PID() int { return c.proc.Pid }

// Path is what the command resolved to.
func (c *Child) Path() string { return c.path }

// Stdin is the child's standard input. It supports deadlines but on Windows.
func (c *Child) Stdin() *os.File { return c.stdin }

// Stdout is the child's standard output. It ends with io.EOF when its writers are gone
// or Stop has ended. A reader that gives up before should close it, or Stop waits up to
// a second for it to take what is left.
func (c *Child) Stdout() io.ReadCloser { return c.stdout }

// Done is closed when the process itself has ended and its stderr too, or a second
// later if others hold that. The rest of its tree is then being ended; Stop waits for it.
func (c *Child) Done() <-chan struct{} { return c.done }

// Exit says how the process ended. Before Done it is "not known".
func (c *Child) Exit() Exit {
	select {
	case <-c.done:
		return c.exit
	default:
		return Exit{Code: -1}
	}
}

// Stop ends the child and returns when nothing of its tree is left: stdin is closed,
// after Grace the tree gets SIGTERM, after Term SIGKILL until none is found. When ctx
// ends it is killed at once. It releases the pipes, so it must be called also after
// Done. All callers wait for the same end.
func (c *Child) Stop(ctx context.Context) Exit {
	c.stopOnce.Do(func() { close(c.stopping) })
	select {
	case <-c.gone:
	case <-ctx.Done():
		c.hasteOnce.Do(func() { close(c.haste) })
		<-c.gone
	}
	return c.Exit()
}

// drain reads stderr to its end, come what may.
func (c *Child) drain() {
	defer close(c.drained)
	_, _ = io.Copy(c.lines, c.stderr) // ends with EOF or when own closes the pipe
	c.lines.end()
}

// watch waits for the process itself.
func (c *Child) watch() {
	state, err := c.tree.reap(c.proc)
	close(c.exited)
	select {
	case <-c.drained:
	case <-time.After(holdLimit):
	}
	c.exit = exitOf(state)
	c.exit.Stderr = c.lines.last()
	if err != nil {
		c.host.log.Warn("cannot learn how a child ended", "pid", c.PID(), "error", err)
	}
	close(c.done)
}

func exitOf(state *os.ProcessState) Exit {
	if state == nil {
		return Exit{Code: -1}
	}
	e := Exit{Code: state.ExitCode()}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = signalName(ws.Signal())
	}
	return e
}

// own goes through the child's life: it runs until it ends or is to be stopped; then
// its tree is ended, whoever began.
func (c *Child) own() {
	defer close(c.gone)
	select {
	case <-c.exited:
	case <-c.stopping:
		_ = c.stdin.Close()
		c.pause(c.exited, c.grace)
	}
	c.left = c.endTree()
	if c.left == 0 {
		<-c.done // at once: the process has been killed, if it had not ended before
		c.host.records.remove(c.mark)
	} else {
		c.host.log.Error("cannot kill all processes of a child", "command", c.path, "pid", c.PID(), "left", c.left)
	}
	_ = c.stderr.Close()
	<-c.drained
	<-c.stopping
	_ = c.stdin.Close()
	c.stdout.finish(c.haste)
	c.tree.release()
	c.host.forget(c)
}

// endTree does the rest of the ladder and returns how many processes it could not end.
func (c *Child) endTree() (left int) {
	if c.tree.terminate() > 0 {
		end := time.Now().Add(c.term)
		for wait := 2 * time.Millisecond; c.tree.alive() > 0 && time.Now().Before(end) && !c.hasty(); wait = min(2*wait, 100*time.Millisecond) {
			c.pause(nil, min(wait, time.Until(end)))
		}
	}
	rounds(killLimit, func() bool {
		left = c.tree.kill()
		return left == 0
	})
	return left + c.tree.denied()
}

func (c *Child) hasty() bool {
	select {
	case <-c.haste:
		return true
	default:
		return false
	}
}

// pause waits for d, but no longer than until ready is closed or there is no time left.
func (c *Child) pause(ready <-chan struct{}, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ready:
	case <-c.haste:
	case <-timer.C:
	}
}

// variable returns the last value of name in a list of NAME=value.
func variable(env []string, name string) (value string) {
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && sameName(k, name) {
			value = v
		}
	}
	return value
}
