package process

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	shannon "github.com/shannon-mcp/shannon"
)

// markVariable names the environment variable that every child carries and passes
// on. Its value is the owner's random number, a dot, and the child's number.
const markVariable = "SHANNON_MARK"

// killLimit bounds how long SIGKILL is repeated: a process that hangs in the kernel
// dies only when the kernel lets it.
const killLimit = 5 * time.Second

// Options of a [Host].
type Options struct {
	// Dir is where records of running children are kept, made with mode 0700 if
	// missing. Without it, what outlives a killed owner is not found at the next start.
	Dir string
	// Log gets what nobody can be told otherwise; nil discards it.
	Log *slog.Logger
	// Reap says that this whole process belongs to the host: it becomes a child
	// subreaper, adopted orphans are reaped, and Close ends every descendant of the
	// process. Then nothing else in the process may start children, because a zombie
	// that the host did not start counts as adopted. Linux only, ignored elsewhere.
	Reap bool
}

// Host starts children and owns them. Make it with [NewHost], end it with Close.
type Host struct {
	log     *slog.Logger
	sys     *system
	records records
	owner   string

	jobs chan func()   // run on the spawner's thread
	quit chan struct{} // closed when every child has ended
	wg   sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	count    uint64
	children map[*Child]struct{}

	closeOnce sync.Once
	closeErr  error
}

// NewHost first kills what children of dead owners left behind, as far as their
// records lie in o.Dir, and is then ready to start children. Owners that live, of
// this process or another, are left alone.
func NewHost(o Options) (*Host, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("make directory for records of children: %w", err)
		}
	}
	sys, err := newSystem(o.Reap)
	if err != nil {
		return nil, err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, says its documentation
	h := &Host{
		log: o.Log, sys: sys, records: records{dir: o.Dir}, owner: hex.EncodeToString(random[:]),
		jobs: make(chan func()), quit: make(chan struct{}), children: make(map[*Child]struct{}),
	}
	h.endLeftovers()
	h.wg.Go(h.spawn)
	h.wg.Go(func() { sys.reapAdopted(h.quit) })
	return h, nil
}

// endLeftovers kills the children of dead owners and removes their records. A record
// stays as long as something of it could not be killed.
func (h *Host) endLeftovers() {
	dead := h.records.dead()
	if len(dead) == 0 {
		return
	}
	killed, left := 0, 0
	rounds(killLimit, func() bool {
		found, rest := h.sys.killLeftovers(dead)
		killed, left = killed+found, rest
		return found == 0
	})
	if killed > 0 || left > 0 {
		h.log.Warn("ended processes that a dead owner left behind", "signals", killed, "left", left)
	}
	if left == 0 {
		for _, r := range dead {
			h.records.remove(r.Mark)
		}
	}
}

// rounds calls clean until it has reported true twice in a row, or the limit is over.
// Twice, because a scan misses a process that is just being started.
func rounds(limit time.Duration, clean func() bool) {
	end := time.Now().Add(limit)
	for n, wait := 0, 2*time.Millisecond; time.Now().Before(end); wait = min(2*wait, 100*time.Millisecond) {
		if clean() {
			n++
			wait = 2 * time.Millisecond
		} else {
			n = 0
		}
		if n == 2 {
			return
		}
		<-time.After(wait)
	}
}

// spawn runs jobs on a thread of its own. The parent-death signal fires when the
// thread that forked ends, so this one lives until the last child is gone.
func (h *Host) spawn() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		select {
		case job := <-h.jobs:
			job()
		case <-h.quit:
			return
		}
	}
}

// Start starts a child. Its life is not bound to ctx, which only bounds the wait for
// the start itself. The error is a [*shannon.Error] with code command_not_found or
// spawn_failed. Whoever started a child must call [Child.Stop] in the end, also when it
// ended by itself.
func (h *Host) Start(ctx context.Context, spec Spec) (*Child, error) {
	path, err := LookPath(spec.Command, variable(spec.Env, "PATH"), spec.Dir)
	if err != nil {
		return nil, err
	}
	if err := checkDir(spec.Dir); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, shannon.Errorf(shannon.CodeSpawnFailed, "", "start %s: %w", spec.Command, err)
	}
	var child *Child
	started := make(chan struct{})
	job := func() {
		defer close(started)
		child, err = h.fork(path, spec)
	}
	select {
	case h.jobs <- job:
		<-started
		return child, err
	case <-h.quit:
		return nil, errClosed(spec.Command)
	case <-ctx.Done():
		return nil, shannon.Errorf(shannon.CodeSpawnFailed, "", "start %s: %w", spec.Command, ctx.Err())
	}
}

func errClosed(command string) error {
	return shannon.Errorf(shannon.CodeSpawnFailed, "Shannon is stopping.", "start %s: the host of child processes is closed", command)
}

// fork starts the process; on the spawner's thread. The lock is held throughout, so
// that Close sees either no child or a whole one.
func (h *Host) fork(path string, spec Spec) (*Child, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosed(spec.Command)
	}
	h.count++
	mark := h.owner + "." + strconv.FormatUint(h.count, 10)
	p, err := openPipes()
	if err != nil {
		return nil, spawnError(err, path, spec)
	}
	// Recorded before it exists: of a child that is killed with us right after the
	// fork, the mark alone finds what it left.
	r := record{Owner: h.owner, OwnerPID: h.sys.self, OwnerStart: h.sys.start, Mark: mark, Command: spec.Command}
	h.record(r)
	proc, tree, err := h.sys.startProcess(mark, func() (*os.Process, error) {
		return os.StartProcess(path, append([]string{spec.Command}, spec.Args...), &os.ProcAttr{
			Dir: spec.Dir, Env: environment(spec.Env, markVariable, mark), Files: p.theirs(), Sys: spawnAttributes(),
		})
	})
	p.closeTheirs()
	if err != nil {
		p.closeOurs()
		h.records.remove(mark)
		return nil, spawnError(err, path, spec)
	}
	r.PID, r.Start = proc.Pid, tree.identity()
	h.record(r)
	c := newChild(h, path, spec, p)
	c.mark, c.proc, c.tree = mark, proc, tree
	h.children[c] = struct{}{}
	h.wg.Go(c.drain)
	h.wg.Go(c.watch)
	h.wg.Go(c.own)
	return c, nil
}

// record keeps a record of a child. A full disk must not keep servers from starting,
// as records are the last line of defence, not the first.
func (h *Host) record(r record) {
	if err := h.records.write(r); err != nil {
		h.log.Warn("cannot record child", "command", r.Command, "error", err)
	}
}

// forget takes a child that has ended out of the table.
func (h *Host) forget(c *Child) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.children, c)
}

// Close stops every child, each by its own ladder, all at once, and waits. When ctx
// ends, the rest is killed at once. Further calls give the first one's result. The
// error says that something could not be killed.
func (h *Host) Close(ctx context.Context) error {
	h.closeOnce.Do(func() { h.closeErr = h.close(ctx) })
	return h.closeErr
}

func (h *Host) close(ctx context.Context) error {
	h.mu.Lock()
	h.closed = true
	children := make([]*Child, 0, len(h.children))
	for c := range h.children {
		children = append(children, c)
	}
	h.mu.Unlock()

	var stops sync.WaitGroup
	for _, c := range children {
		stops.Go(func() { c.Stop(ctx) })
	}
	stops.Wait()
	if h.sys.reaping {
		rounds(killLimit, h.sys.killAdopted)
	}
	close(h.quit)
	var stuck []error
	for _, c := range children {
		if c.left > 0 {
			stuck = append(stuck, fmt.Errorf("%d processes of %s (pid %d) could not be killed", c.left, c.path, c.PID()))
		}
	}
	if len(stuck) > 0 {
		// Whoever watches a process that does not die would have to be waited for in vain.
		return fmt.Errorf("close host: %w", errors.Join(stuck...))
	}
	h.wg.Wait()
	return nil
}
