package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/manager"
	"github.com/shannon-mcp/shannon/remote"
)

const (
	// patience is how long a daemon that holds the home may be silent.
	patience = 2 * time.Second
	// poll is how often it is looked for.
	poll = 50 * time.Millisecond
	// farewell bounds the end of an embedded manager, whose servers get time to end.
	farewell = 15 * time.Second
)

// access is the one way in: the client of a daemon, or of a manager that this
// command embeds.
type access struct {
	*remote.Client
	daemon bool
	close  func() error
}

// config loads the configuration.
func (a *app) config(flags map[string]string) (manager.Config, []manager.Setting, error) {
	return manager.LoadConfig(flags, a.env.Environ, a.file)
}

// with runs do on the manager. It is the daemon's where one runs, and else one
// that is embedded, starts nothing by itself, and is closed at the end.
func (a *app) with(ctx context.Context, do func(*access) error) (err error) {
	cfg, settings, err := a.config(nil)
	if err != nil {
		return err
	}
	c, err := findDaemon(ctx, cfg.Home)
	if err != nil {
		return err
	}
	m := &access{Client: c, daemon: true}
	if c == nil {
		if m, err = a.embed(ctx, cfg, settings); err != nil {
			return err
		}
	} else {
		m.close = c.Close
	}
	defer func() { err = errors.Join(err, m.close()) }()
	return do(m)
}

// needDaemon is with for what makes sense with a daemon only.
func (a *app) needDaemon(ctx context.Context, what string, do func(*access) error) error {
	cfg, _, err := a.config(nil)
	if err != nil {
		return err
	}
	c, err := findDaemon(ctx, cfg.Home)
	if err != nil {
		return err
	}
	if c == nil {
		return shannon.Errorf(shannon.CodeNoDaemon, "Start it with: shannon serve", "no daemon runs, which %s needs", what)
	}
	defer func() { _ = c.Close() }() // it has only to let go of connections
	return do(&access{Client: c, daemon: true})
}

// findDaemon returns a client of the home's daemon, nil where none runs. One that
// is just starting or ending, or that is stuck, holds the home and answers nobody:
// it is waited for, and then [shannon.CodeDaemonSilent].
func findDaemon(ctx context.Context, home string) (*remote.Client, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		c, err := remote.Connect(ctx, home)
		if err == nil || shannon.CodeOf(err) != shannon.CodeNoDaemon {
			return c, err
		}
		holder, err := manager.Holder(home)
		if err != nil || holder == 0 {
			return nil, err
		}
		select {
		case <-time.After(poll):
		case <-deadline.C:
			return nil, shannon.Errorf(shannon.CodeDaemonSilent, "If that does not change, end that process and start it again: shannon serve",
				"the daemon (pid %d) holds %s and does not answer", holder, home)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// embed opens a manager in this process.
func (a *app) embed(ctx context.Context, cfg manager.Config, settings []manager.Setting) (*access, error) {
	cfg.Passive = true
	log := slog.New(slog.DiscardHandler)
	if slices.ContainsFunc(settings, func(s manager.Setting) bool { return s.Key == "log.level" && s.Origin != "default" }) {
		log = newLog(a.env.Stderr, cfg)
	}
	m, err := manager.Open(ctx, cfg, manager.Options{Log: log, Version: a.env.Version, Environ: a.env.Environ})
	if err != nil {
		return nil, err
	}
	stop := func() error {
		// Also an interrupted command stops what it has started.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		return m.Close(ctx)
	}
	c := remote.Embed(ctx, m.Handler())
	return &access{Client: c, close: func() error { return errors.Join(c.Close(), stop()) }}, nil
}

// newLog logs for people, or for machines where the configuration says so.
func newLog(w io.Writer, cfg manager.Config) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(strings.ToUpper(cfg.Log.Level))) // the configuration was checked
	o := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// readAll reads an argument that is "-" from stdin. It does not wait for stdin
// when ctx ends; the reading then ends with the process.
func (a *app) readAll(ctx context.Context, text string) ([]byte, error) {
	if text != "-" {
		return []byte(text), nil
	}
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(a.env.Stdin)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, shannon.Errorf(shannon.CodeInvalidRequest, "", "read stdin: %w", r.err)
		}
		return r.text, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// serverNames completes the name of a server, of which only a running daemon is
// asked: completion never starts anything, nor makes a file.
func (a *app) serverNames(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	cfg, _, err := a.config(nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	if _, err := os.Stat(filepath.Join(cfg.Home, remote.DaemonFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	m, err := remote.Connect(ctx, cfg.Home)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer func() { _ = m.Close() }()
	servers, err := m.ListServers(ctx, shannon.ServerFilter{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]string, len(servers))
	for i := range servers {
		names[i] = servers[i].Name
		if t := servers[i].Title; t != "" {
			names[i] += "\t" + oneLine(t)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
