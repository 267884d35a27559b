package manager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/credentials"
	"github.com/shannon-mcp/shannon/internal/process"
	"github.com/shannon-mcp/shannon/internal/transport"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// minSecret is how long a value must be to be hidden: a shorter one is no secret,
// and hiding it would make the log unreadable.
const minSecret = 8

// hush hides the secrets of a definition in what its server says.
type hush struct{ *strings.Replacer }

// hush returns what hides the secrets of s: its variables and headers, and what
// its references stand for, unless every child sees that anyway.
func (d *dialer) hush(s *shannon.Server) hush {
	var secrets []string
	note := func(text string) {
		_, token, _ := strings.Cut(text, " ") // of "Bearer …"
		for _, secret := range append(strings.Split(text, "\n"), text, token) {
			if secret = strings.TrimSpace(secret); len(secret) >= minSecret {
				quoted := wire.AppendString(nil, secret) // as it stands in messages
				secrets = append(secrets, secret, string(quoted[1:len(quoted)-1]))
			}
		}
	}
	seen := process.BaseEnv(d.environ)
	look := func(name string) (string, bool) {
		value, ok := d.lookup(name)
		if ok && !slices.Contains(seen, name+"="+value) {
			note(value)
		}
		return value, ok
	}
	add := func(text string) {
		text, _ = credentials.Expand(text, d.lookup) // an error leaves what could be expanded
		note(text)
	}
	for _, text := range append([]string{s.Command, s.Cwd, s.Endpoint}, s.Args...) {
		_, _ = credentials.Expand(text, look)
	}
	for _, v := range s.Env {
		add(v.Reveal())
	}
	for _, v := range s.Headers {
		add(v.Reveal())
	}
	add(apiKey(s.Config))
	// The longest first, because one may begin as another.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	pairs := make([]string, 0, 2*len(secrets))
	for _, secret := range secrets {
		pairs = append(pairs, secret, shannon.Hidden)
	}
	return hush{strings.NewReplacer(pairs...)}
}

// err hides secrets in an error's text and in what is known of a process's end.
// Codes, and what others look for in the chain, stay.
func (h hush) err(err error) error {
	e, ok := errors.AsType[*shannon.Error](err)
	if !ok {
		return err // a context's: it says nothing of the server
	}
	hushed := *e
	// Cut after that: half a secret would not be found.
	hushed.Message, hushed.Hint = excerpt(h.Replace(e.Error())), h.Replace(e.Hint)
	hushed.RPC = h.json(e.RPC)
	if exit, ok := errors.AsType[*wire.Exit](err); ok {
		x := *exit
		x.Stderr = h.Replace(x.Stderr)
		hushed.Err = &x
	} else if r, ok := errors.AsType[*transport.RetryAfter](err); ok {
		hushed.Err = later{e.Err, r.Delay}
	}
	return &hushed
}

// json hides secrets in a JSON text. Where that would break it, the secret was a
// number, and nothing is shown.
func (h hush) json(text []byte) []byte {
	hushed := []byte(h.Replace(string(text)))
	if !json.Valid(hushed) {
		return nil
	}
	return hushed
}

// maxQuote is how much of what a server says goes into errors, states and events,
// which are kept.
const maxQuote = 1000

// excerpt returns text, or where it is long its beginning.
func excerpt(text string) string {
	if len(text) <= maxQuote {
		return text
	}
	return strings.ToValidUTF8(text[:maxQuote], "") + "…"
}

// later tells the supervisor when the vendor wants to be asked again.
type later struct {
	error
	delay time.Duration
}

func (l later) Unwrap() error             { return l.error }
func (l later) RetryAfter() time.Duration { return l.delay }

// discreet is a peer whose errors keep the secrets of its definition.
type discreet struct {
	wire.Peer
	hush hush
}

// Call implements [wire.Peer].
func (d *discreet) Call(ctx context.Context, r *wire.Request, sink wire.Sink) (wire.Reply, error) {
	reply, err := d.Peer.Call(ctx, r, sink)
	if err != nil {
		err = d.hush.err(err)
	}
	return reply, err
}

// Notify implements [wire.Peer].
func (d *discreet) Notify(ctx context.Context, method string, params []byte) error {
	if err := d.Peer.Notify(ctx, method, params); err != nil {
		return d.hush.err(err)
	}
	return nil
}

// Close implements [wire.Peer].
func (d *discreet) Close(ctx context.Context) error {
	if err := d.Peer.Close(ctx); err != nil {
		return d.hush.err(err)
	}
	return nil
}

// Discreet gives an error that quotes the server without the secrets.
func (d *discreet) Discreet(err error) error { return d.hush.err(err) }
