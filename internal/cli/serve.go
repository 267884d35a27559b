package cli

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/manager"
)

func (a *app) serveCommand() *cobra.Command {
	var demo bool
	c := &cobra.Command{
		Use: "serve", Short: "Run the daemon",
		Long: `Run the daemon: start the enabled servers and offer them at one address, until
SIGINT or SIGTERM. There is one daemon per home folder (SHANNON_HOME).

Clients on TCP need the token that shannon token show prints. An address that
other machines reach needs TLS too, unless --insecure-http says otherwise.`,
		Example: `  shannon serve
  shannon serve --listen 127.0.0.1:7427
  shannon serve --demo`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			flags := map[string]string{}
			for _, key := range []string{"listen", "no_auth", "tls_cert", "tls_key", "insecure_http"} {
				if f := c.Flags().Lookup(strings.ReplaceAll(key, "_", "-")); f.Changed {
					flags[key] = f.Value.String()
				}
			}
			if hosts, _ := c.Flags().GetStringSlice("allowed-host"); len(hosts) > 0 {
				flags["allowed_hosts"] = strings.Join(hosts, ",")
			}
			cfg, _, err := a.config(flags)
			if err != nil {
				return err
			}
			cfg.Demo = demo
			return a.serve(c.Context(), cfg)
		},
	}
	c.Flags().String("listen", "", "`HOST:PORT` of the TCP listener, or off (default "+manager.DefaultListen+")")
	c.Flags().StringSlice("allowed-host", nil, "`HOST` under which clients may call; may be repeated")
	c.Flags().Bool("no-auth", false, "ask for no token; on loopback only")
	c.Flags().String("tls-cert", "", "certificate, a PEM `FILE`")
	c.Flags().String("tls-key", "", "its key, a PEM `FILE`")
	c.Flags().Bool("insecure-http", false, "serve other machines without TLS")
	c.Flags().BoolVar(&demo, "demo", false, "add a small server that is part of Shannon, and call it in both protocol eras")
	return c
}

// serve is the keeper, or the daemon below it.
func (a *app) serve(ctx context.Context, cfg manager.Config) error {
	kept, err := manager.UnderKeeper()
	if err != nil {
		return err
	}
	if !kept && a.env.Executable != "" {
		code, err := manager.Keep(append([]string{a.env.Executable}, a.env.Args...), a.env.Environ)
		if !errors.Is(err, errors.ErrUnsupported) {
			return errors.Join(err, exitOf(code))
		}
	}
	if !slices.ContainsFunc(a.env.Environ, func(v string) bool { return strings.HasPrefix(v, "GOGC=") }) {
		// A relay keeps little and throws much away: collecting less often saves a
		// tenth of its time for some megabytes under load and none at rest.
		debug.SetGCPercent(300)
	}
	o := manager.Options{Log: newLog(a.env.Stderr, cfg), Version: a.env.Version, Environ: a.env.Environ, Reap: kept}
	if cfg.Demo {
		o.Demo = []string{a.env.Executable, demoServer}
	}
	var failure error
	serving, stop := context.WithCancel(ctx)
	defer stop()
	err = manager.Serve(serving, cfg, o, func(m *manager.Manager) {
		failure = a.ready(serving, m, cfg)
		if ctx.Err() != nil { // who is told to stop while it gets ready stops as at any time
			failure = nil
		}
		if failure != nil {
			stop()
		}
	})
	return errors.Join(failure, err)
}

func exitOf(code int) error {
	if code == exitDone {
		return nil
	}
	return exitError(code)
}

// ready tells that the daemon listens, and how to use it.
func (a *app) ready(ctx context.Context, m *manager.Manager, cfg manager.Config) error {
	s, err := m.Summary(ctx)
	if err != nil {
		return err
	}
	if cfg.Demo {
		if err := a.demo(ctx, m, &s, cfg); err != nil {
			return err
		}
	}
	url := endpoint(&s, cfg)
	if a.json {
		a.out.item(struct {
			Ready bool   `json:"ready"`
			URL   string `json:"url,omitempty"`
			shannon.Summary
		}{true, url, s})
		return nil
	}
	o := a.out.out
	a.out.printf("%s %s, pid %d, %s", o.good("Shannon is ready:"), o.bold(cmp.Or(url, s.Socket)), s.PID, count(s.TotalServers, "server"))
	for _, p := range s.Problems {
		a.out.printf("%s %s", o.warn(string(p.Code)+":"), p.Message)
		if p.Hint != "" {
			a.out.printf("  %s", o.faint(p.Hint))
		}
	}
	if s.TotalServers == 0 {
		a.out.printf("Add a server:        %s", addExample)
	}
	if url != "" {
		a.out.printf("Connect Claude Code: %s", a.claudeCommand(url, cfg))
	}
	return nil
}

// endpoint is the URL that clients on this machine use; "" where there is only
// the socket.
func endpoint(s *shannon.Summary, cfg manager.Config) string {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http"
	if cfg.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/mcp"
}

// claudeCommand connects Claude Code, as it must be typed here: with this program
// and this home, where they are not the usual ones.
func (a *app) claudeCommand(url string, cfg manager.Config) string {
	command := "claude mcp add --transport http shannon " + url
	if cfg.NoAuth {
		return command
	}
	show := commandLine(a.program(), []string{"token", "show"})
	if lookup(a.env.Environ, "SHANNON_HOME") != "" {
		show = "SHANNON_HOME=" + commandLine(cfg.Home, nil) + " " + show
	}
	return command + ` --header "Authorization: Bearer $(` + show + `)"`
}

// program is what to type to run this program.
func (a *app) program() string {
	own, err := os.Stat(a.env.Executable)
	if err != nil {
		return "shannon"
	}
	for _, dir := range filepath.SplitList(lookup(a.env.Environ, "PATH")) {
		path, err := exec.LookPath(filepath.Join(dir, "shannon"))
		if err != nil || dir == "" {
			continue
		}
		if found, err := os.Stat(path); err == nil && os.SameFile(found, own) {
			return "shannon"
		}
		break // another one comes first
	}
	return a.env.Executable
}

// took is a duration for people.
func took(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64) + " ms"
}
