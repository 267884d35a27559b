package transport

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// exitLimit is how long a stream that has ended waits for its process to end, so
// that the error can say how. It is a little more than the second that a process
// whose stderr is held by others takes to be done.
const exitLimit = 1200 * time.Millisecond

// late is how long the answer to the probe may come behind that to initialize.
const late = 100 * time.Millisecond

// probeLimit is how long a server may be silent before it is sent initialize too.
func probeLimit(timeout time.Duration) time.Duration { return min(5*time.Second, timeout/3) }

// stdioPeer is a child process that speaks over its standard streams, in either era.
type stdioPeer struct {
	child  Child
	stream *wire.Stream
	dial   *dial
	own    []byte // our Implementation object
	hooks  Hooks

	info     atomic.Pointer[wire.Info]
	listener atomic.Pointer[listener] // nil where nothing is announced
	unlisten context.CancelFunc
	wg       sync.WaitGroup
	closing  sync.Once
	closed   chan struct{} // closed by Close
	ended    error
}

// dialStdio starts a server, once or twice: one that the probe has spoiled is
// started again for initialize alone. It ended, or is of both eras and speaks with
// one process the one that it was first spoken to in.
func (d *Dialer) dialStdio(ctx context.Context, dl *dial) (wire.Peer, error) {
	if d.start == nil {
		return nil, shannon.Errorf(shannon.CodeUnsupported, "", "this Shannon cannot start programs")
	}
	if dl.want.skip() == shannon.EraLegacy {
		p, err := d.spawn(ctx, dl, func(p *stdioPeer) error { return p.initialize(ctx, d, dl.want.Known) })
		if err == nil || !provesWrong(err) {
			return opened(p, err)
		}
	}
	limit := probeLimit(dl.Timeout)
	if dl.want.skip() == shannon.EraModern {
		limit = dl.Timeout / 2
	}
	found := legacyFinding
	p, err := d.spawn(ctx, dl, func(p *stdioPeer) (err error) {
		found, err = p.meet(ctx, d, limit)
		return err
	})
	if err != nil && ctx.Err() == nil && (spoiled(err) || found.answered && provesWrong(err)) {
		dl.hooks.remark("the server did not go on after server/discover; starting it again")
		p, err = d.spawn(ctx, dl, func(p *stdioPeer) error { return p.initialize(ctx, d, found.eras) })
	}
	return opened(p, err)
}

// spoiled tells whether the probe has broken the server.
func spoiled(err error) bool {
	code := shannon.CodeOf(err)
	return code == shannon.CodeExited || code == shannon.CodeConnectionLost
}

func opened(p *stdioPeer, err error) (wire.Peer, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// spawn starts the server and shakes hands; when that fails, it stops the server.
func (d *Dialer) spawn(ctx context.Context, dl *dial, shake func(*stdioPeer) error) (*stdioPeer, error) {
	p := &stdioPeer{dial: dl, own: d.info, hooks: dl.hooks, unlisten: func() {}, closed: make(chan struct{})}
	started, err := d.start.Start(ctx, Program{
		Command: dl.Command, Args: dl.Args, Dir: dl.Dir, Env: dl.Env,
		Stderr: func(line []byte) { p.log("stderr", line) },
	})
	if err != nil {
		return nil, err
	}
	p.child = started
	p.stream = wire.NewStream(started.Stdout(), started.Stdin(), wire.StreamOptions{
		MaxMessage: dl.MaxMessage, Notification: p.notification, Request: p.request, Noise: p.noise, Ended: p.exit,
	})
	err = shake(p)
	if err != nil {
		// The stream's end says more than the call that it ended. Where the call
		// was merely cut short, it has not ended.
		if reason := p.stream.Err(); reason != nil && ctx.Err() == nil {
			err = reason
		}
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exitLimit) // it must be stopped in any case
		defer cancel()
		_ = p.Close(stopCtx) // why it ended is in err
		return nil, err
	}
	info := *p.info.Load()
	info.PID, info.Command, info.Handshake = started.PID(), started.Path(), time.Since(dl.begun)
	p.info.Store(&info)
	p.listen(context.WithoutCancel(ctx), d.retry) // the peer outlives the dialling
	return p, nil
}

func (p *stdioPeer) log(source string, line []byte) {
	if p.hooks.Log != nil {
		p.hooks.Log(source, line)
	}
}

// meet finds out what the server speaks and shakes hands (2026-07-28,
// basic/transports/stdio, backward compatibility). A server that stays silent is
// sent initialize beside the probe: it may ignore what it does not know, or still be
// starting. It is not killed for that, since npx and uvx are silent while they
// download, and half a download left behind breaks the next start as well.
func (p *stdioPeer) meet(ctx context.Context, d *Dialer, limit time.Duration) (finding, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the probe, if it is still without an answer
	probed := make(chan probe, 1)
	p.wg.Go(func() { probed <- p.probe(ctx) })
	silence := time.NewTimer(limit)
	defer silence.Stop()
	select {
	case found := <-probed:
		return p.settle(ctx, d, found)
	case <-silence.C:
	case <-ctx.Done():
		return legacyFinding, context.Cause(ctx)
	}
	p.hooks.remark("the server has not answered server/discover so far; sending initialize too")
	err := p.initialize(ctx, d, legacyFinding.eras)
	// One that was starting has answered both, in this order.
	var found probe
	silence.Reset(late)
	select {
	case found = <-probed:
	case <-silence.C: // it ignores what it does not know
		return legacyFinding, err
	}
	if found.err != nil {
		return legacyFinding, err
	}
	if err == nil { // it was spoken to in the legacy era, and stays so
		info := *p.info.Load()
		info.Eras = found.eras
		p.info.Store(&info)
		return found.finding, nil
	}
	return p.settle(ctx, d, found)
}

// settle goes on from what the probe has found.
func (p *stdioPeer) settle(ctx context.Context, d *Dialer, found probe) (finding, error) {
	if found.err != nil {
		return legacyFinding, found.err
	}
	found.answered = true
	if choose(p.dial.want.Era, found.eras) == shannon.EraModern {
		p.info.Store(modernInfo(found.finding))
		return found.finding, nil
	}
	return found.finding, p.initialize(ctx, d, found.eras)
}

// probe is what came of server/discover.
type probe struct {
	finding
	err error
}

// probe asks the server which versions it speaks.
func (p *stdioPeer) probe(ctx context.Context) (found probe) {
	var reply wire.Reply
	if reply, found.err = p.call(ctx, discoverRequest(), modernVersion, nil); found.err == nil {
		found.finding, found.err = judge(reply)
	}
	return found
}

func (p *stdioPeer) initialize(ctx context.Context, d *Dialer, eras []shannon.Era) error {
	reply, err := p.call(ctx, d.initializeRequest(), "", nil)
	if err != nil {
		return err
	}
	info, err := legacyInfo(reply, eras)
	if err != nil {
		return err
	}
	p.info.Store(info)
	return p.Notify(ctx, "notifications/initialized", nil)
}

func (p *stdioPeer) listen(ctx context.Context, retry time.Duration) {
	info := p.info.Load()
	if info.Era != shannon.EraModern {
		return
	}
	l := newListener(info.Capabilities, &p.hooks)
	if l == nil {
		return
	}
	l.retry = retry
	l.call = func(ctx context.Context, r *wire.Request, _ wire.Sink) (wire.Reply, error) {
		reply, err := p.call(ctx, r, modernVersion, nil) // what it is notified of comes by p.notification
		if p.stream.Err() != nil {
			p.unlisten()
		}
		return reply, err
	}
	p.listener.Store(l)
	ctx, p.unlisten = context.WithCancel(ctx)
	p.wg.Go(func() { l.run(ctx) })
}

// Call implements [wire.Peer].
func (p *stdioPeer) Call(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	version := ""
	if info := p.info.Load(); info.Era == shannon.EraModern {
		version = info.Version
	}
	return p.call(ctx, r, version, sink)
}

func (p *stdioPeer) call(ctx context.Context, r *wire.Request, version string, sink wire.Sink) (wire.Reply, error) {
	return p.stream.Call(ctx, r, wire.Outgoing{Version: version, Info: p.own, Capabilities: noCapabilities}, sink)
}

// Notify implements [wire.Peer].
func (p *stdioPeer) Notify(ctx context.Context, method string, params []byte) error {
	return p.stream.Send(ctx, wire.AppendNotification(nil, method, params))
}

// Info implements [wire.Peer].
func (p *stdioPeer) Info() *wire.Info { return p.info.Load() }

// Done implements [wire.Peer].
func (p *stdioPeer) Done() <-chan struct{} { return p.stream.Done() }

// Close implements [wire.Peer].
func (p *stdioPeer) Close(ctx context.Context) error {
	p.closing.Do(func() {
		close(p.closed)
		p.unlisten()
		p.wg.Wait()
		p.stream.End(errClosed)
		p.child.Stop(ctx)
		p.stream.Wait()
		if err := p.stream.Err(); !errors.Is(err, errClosed) {
			p.ended = err
		}
	})
	return p.ended
}

// exit says why the stream has ended.
func (p *stdioPeer) exit(readErr error) error {
	timer := time.NewTimer(exitLimit)
	defer timer.Stop()
	select {
	case <-p.child.Done():
	case <-p.closed:
		return errClosed
	case <-timer.C:
		return shannon.Errorf(shannon.CodeConnectionLost, "Look at the server's log: shannon logs NAME",
			"the server closed its standard output or input but goes on running: %w", readErr)
	}
	e := p.child.Exit()
	during := ""
	if p.info.Load() == nil {
		during = " during the handshake"
	}
	said := ""
	if line := lastLine(e.Stderr); line != "" {
		said = "; it wrote: " + line
	}
	return &shannon.Error{Err: e, Problem: shannon.Problem{
		Code:    shannon.CodeExited,
		Message: e.Error() + during + said,
		Hint:    "See what it wrote: shannon logs NAME. Check its arguments and environment",
	}}
}

// lastLine returns the last line that says something.
func lastLine(text string) string {
	for _, line := range slices.Backward(strings.Split(text, "\n")) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// notification takes what the server sends unasked, or for no call that can be known.
func (p *stdioPeer) notification(e wire.Envelope) {
	if l := p.listener.Load(); l != nil && l.take(e) {
		return
	}
	p.hooks.notify(e)
}

// request answers a request of the server's own. In the modern era there must be
// none, and clients must not write responses (2026-07-28, basic/transports/stdio).
func (p *stdioPeer) request(e wire.Envelope) ([]byte, error) {
	if info := p.info.Load(); info != nil && info.Era == shannon.EraModern {
		p.hooks.remark("the server sent a request, which its protocol version forbids: " + e.Method)
		return nil, nil
	}
	return answer(e)
}

// answer answers a request of a legacy server: we declared no capability, so there
// is nothing but ping that it may ask.
func answer(e wire.Envelope) ([]byte, error) {
	if e.Method == "ping" {
		return []byte("{}"), nil
	}
	return nil, wire.Errorf(wire.CodeMethodNotFound, "this client does not offer %s", e.Method)
}

func (p *stdioPeer) noise(line []byte, why error) {
	if errors.Is(why, wire.ErrNobody) {
		p.dial.strays.Add(1)
	} else {
		p.dial.noise.Add(1)
	}
	if _, ok := errors.AsType[*wire.TooLargeError](why); ok && len(line) == 0 {
		p.hooks.remark("skipped " + why.Error())
		return
	}
	p.log("stdout", line)
}
