package manager

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/credentials"
	"github.com/shannon-mcp/shannon/internal/process"
	"github.com/shannon-mcp/shannon/internal/supervisor"
	"github.com/shannon-mcp/shannon/internal/transport"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// dialer makes of a definition what a transport needs: references expanded,
// credentials in place, the environment complete; and sees to it that nothing of
// that comes back in logs and errors.
type dialer struct {
	transports *transport.Dialer
	environ    []string
	maxMessage int
	// flaws says by id what is wrong with stored definitions. What could not be read
	// of one is empty in it, and a server must not be started with half of its arguments.
	flaws func(context.Context) map[string]shannon.Problem
}

// Dial implements [supervisor.Dialer].
func (d *dialer) Dial(ctx context.Context, s *shannon.Server, want shannon.Era, known []shannon.Era, h supervisor.Hooks) (wire.Peer, error) {
	if flaw, ok := d.flaws(ctx)[s.ID]; ok {
		return nil, &shannon.Error{Problem: flaw}
	}
	target, err := d.target(s)
	if err != nil {
		return nil, err
	}
	hush := d.hush(s)
	peer, err := d.transports.Dial(ctx, target, transport.Want{Era: want, Known: known}, transport.Hooks{
		Notification: h.Notification,
		Log:          func(source string, line []byte) { h.Log(source, []byte(hush.Replace(string(line)))) },
	})
	if err != nil {
		return nil, hush.err(err)
	}
	return &discreet{peer, hush}, nil
}

func (d *dialer) target(s *shannon.Server) (transport.Target, error) {
	t := transport.Target{Kind: s.Transport, Timeout: s.Timeout.Std(), MaxMessage: d.maxMessage}
	if err := s.Validate(); err != nil {
		return t, err
	}
	x := expander{env: d.lookup}
	if s.Transport == shannon.TransportStdio {
		t.Command = x.expand(s.Command)
		for _, a := range s.Args {
			t.Args = append(t.Args, x.expand(a))
		}
		t.Dir = home(x.expand(s.Cwd))
		t.Env = process.BaseEnv(d.environ)
		for k, v := range s.Env {
			t.Env = append(t.Env, k+"="+x.expand(v.Reveal()))
		}
		return t, x.err
	}
	t.URL = x.expand(s.Endpoint)
	t.Header = http.Header{}
	if key := apiKey(s.Config); key != "" {
		t.Header.Set("Authorization", "Bearer "+x.expand(key))
	}
	for k, v := range s.Headers {
		t.Header.Set(k, x.expand(v.Reveal()))
	}
	return t, x.err
}

// home expands a leading ~.
func home(dir string) string {
	if rest, ok := strings.CutPrefix(dir, "~"); ok && (rest == "" || rest[0] == '/') {
		if h, err := os.UserHomeDir(); err == nil {
			return filepath.Join(h, rest)
		}
	}
	return dir
}

// apiKey is config's api_key, which the Python manager sent as a bearer token.
func apiKey(config []byte) string {
	var c map[string]json.RawMessage
	var key string
	if json.Unmarshal(config, &c) != nil || json.Unmarshal(c["api_key"], &key) != nil {
		return ""
	}
	return key
}

// lookup finds a variable in the environment that the manager was given.
func (d *dialer) lookup(name string) (string, bool) {
	for _, entry := range slices.Backward(d.environ) {
		if k, v, ok := strings.Cut(entry, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// expander expands several texts and keeps the first error.
type expander struct {
	env credentials.Lookup
	err error
}

func (x *expander) expand(text string) string {
	out, err := credentials.Expand(text, x.env)
	if err != nil && x.err == nil {
		x.err = err
	}
	return out
}
