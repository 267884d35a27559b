package transport

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

const (
	defaultTimeout    = 30 * time.Second
	defaultMaxMessage = 10 << 20
	defaultRetry      = time.Second
)

// Options of a [Dialer].
type Options struct {
	Start Starter      // starts the children of stdio servers; see [Host]
	Log   *slog.Logger // nil discards
	// Name and Version are what we are called towards servers.
	Name, Version string
	// Transport makes HTTP requests; nil means one of the dialer's own. It must
	// not follow redirects nor decompress by itself.
	Transport http.RoundTripper
}

// Dialer reaches servers. Make it with [NewDialer].
type Dialer struct {
	start Starter
	log   *slog.Logger
	agent string // User-Agent
	info  []byte // our Implementation object
	rt    http.RoundTripper
	retry time.Duration // the first delay before a lost stream is opened again
}

// NewDialer returns a Dialer. It holds no resources but idle HTTP connections; see
// [Dialer.Close].
func NewDialer(o Options) *Dialer {
	d := &Dialer{start: o.Start, log: o.Log, rt: o.Transport, retry: defaultRetry}
	name, version := cmp.Or(o.Name, "shannon"), cmp.Or(o.Version, "dev")
	d.agent = name + "/" + version
	d.info = wire.AppendString([]byte(`{"name":`), name)
	d.info = append(wire.AppendString(append(d.info, `,"version":`...), version), '}')
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.rt == nil {
		d.rt = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ExpectContinueTimeout: time.Second,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   256,
			IdleConnTimeout:       90 * time.Second,
			DisableCompression:    true, // payloads pass as they are
		}
	}
	return d
}

// Close lets go of idle HTTP connections. Peers live on.
func (d *Dialer) Close() {
	if idle, ok := d.rt.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

// Target says where a server is and how it is reached.
type Target struct {
	Kind shannon.Transport

	Command string // stdio
	Args    []string
	Dir     string
	Env     []string // the complete environment

	URL    string // http
	Header http.Header

	Timeout    time.Duration // bounds the whole handshake; zero means 30 s
	MaxMessage int           // bytes of a message of the server; zero means 10 MiB
}

// Want says which era the peer should speak.
type Want struct {
	// Era is taken if the server speaks it; "" means the newest it speaks.
	Era shannon.Era
	// Known are the eras that the server spoke before; they spare the probe. When
	// they prove wrong, the server is probed after all.
	Known []shannon.Era
}

// skip returns the era to begin with, "" when the server is to be probed.
func (w Want) skip() shannon.Era {
	if len(w.Known) == 0 {
		return ""
	}
	return choose(w.Era, w.Known)
}

// Hooks take what belongs to no call. Nil ones are allowed.
type Hooks struct {
	// Notification takes list changes, updates, and log messages that belong to
	// no call.
	Notification func(wire.Envelope)
	// Log takes lines for the server's log. source is stderr, stdout (noise) or
	// shannon (our own remarks). The bytes are valid during the call only.
	Log func(source string, line []byte)
}

func (h *Hooks) notify(e wire.Envelope) {
	if h.Notification != nil {
		h.Notification(e)
	}
}

func (h *Hooks) remark(text string) {
	if h.Log != nil {
		h.Log("shannon", []byte(text))
	}
}

var (
	errHandshake = errors.New("the handshake took too long")
	errSilent    = errors.New("no answer to the probe")
	errClosed    = errors.New("the connection was closed")
)

// Dial reaches the server and shakes hands. The error is a [*shannon.Error], or
// why ctx ended; nothing is left running then. The peer's life is not bound to ctx.
func (d *Dialer) Dial(ctx context.Context, t Target, w Want, h Hooks) (wire.Peer, error) {
	t.Timeout = cmp.Or(t.Timeout, defaultTimeout)
	t.MaxMessage = cmp.Or(t.MaxMessage, defaultMaxMessage)
	reach := map[shannon.Transport]func(context.Context, *dial) (wire.Peer, error){
		shannon.TransportStdio: d.dialStdio,
		shannon.TransportHTTP:  d.dialHTTP,
	}[t.Kind]
	switch {
	case reach == nil && slices.Contains(shannon.Transports, t.Kind):
		return nil, shannon.Errorf(shannon.CodeUnsupported, "Reach the server by http or stdio: most servers offer one of these too",
			"this Shannon cannot reach servers by %s", t.Kind)
	case reach == nil:
		return nil, shannon.Errorf(shannon.CodeBadTransport, "Use stdio or http", "unknown transport %q", string(t.Kind))
	}
	limited, cancel := context.WithTimeoutCause(ctx, t.Timeout, errHandshake)
	defer cancel()
	dl := &dial{Target: t, want: w, hooks: h, begun: time.Now()}
	peer, err := reach(limited, dl)
	switch {
	case err == nil:
		d.log.Debug("reached a server", "transport", t.Kind, "era", peer.Info().Era, "version", peer.Info().Version)
		return peer, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case limited.Err() != nil:
		return nil, dl.timedOut()
	}
	return nil, err
}

// dial is one Dial under way.
type dial struct {
	Target
	want  Want
	hooks Hooks
	begun time.Time
	// Lines on stdout that are no messages, and replies to no request of ours.
	noise, strays atomic.Int64
}

func (dl *dial) timedOut() error {
	hint := "Give it more time (shannon set NAME timeout=60), or look at what it does: shannon logs NAME"
	switch {
	case dl.strays.Load() > 0:
		hint = "It sent replies whose id is that of no request: a bug of the server. " + hint
	case dl.noise.Load() > 0:
		hint = "It wrote text to its standard output that is no MCP message: check that the command starts an MCP server. " + hint
	}
	return &shannon.Error{Err: errHandshake, Problem: shannon.Problem{
		Code: shannon.CodeHandshakeTimeout, Message: fmt.Sprintf("the server did not finish the handshake within %s", dl.Timeout), Hint: hint,
	}}
}

// provesWrong tells whether a handshake failed in a way that a server of the other
// era fails in.
func provesWrong(err error) bool {
	switch shannon.CodeOf(err) {
	case shannon.CodeProtocolError, shannon.CodeExited, shannon.CodeUnsupported:
		return true
	}
	return errors.Is(err, errSilent)
}
