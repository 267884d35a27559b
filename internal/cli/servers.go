package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shannon-mcp/shannon"
)

const (
	addExample = "shannon add everything -- npx -y @modelcontextprotocol/server-everything"
	setExample = "shannon set everything timeout=60 env.LEVEL=debug"
)

// addFlags are what can be said of a new server.
type addFlags struct {
	env, headers                     []string
	transport, cwd, title            string
	description, isolation, start    string
	prefix, timeout                  string
	disabled, noCheck, prefixChanged bool
}

func (a *app) addCommand() *cobra.Command {
	var f addFlags
	c := &cobra.Command{
		Use: "add NAME [flags] -- COMMAND ARGS… | NAME URL", Short: "Add a server: a command, or an address",
		Long: `Add a server. What comes after -- is the command that starts it; an address
means http unless -t says something else. A running daemon then connects to it,
and says how that went; the server stays also when that failed.

Values may refer to variables and are expanded when used: ${VAR},
${VAR:-default}, ${env:VAR}.`,
		Example: "  " + addExample + `
  shannon add files --cwd ~/notes -- npx -y @modelcontextprotocol/server-filesystem .
  shannon add github https://api.githubcopilot.com/mcp/ -H 'Authorization: Bearer ${GITHUB_TOKEN}'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			f.prefixChanged = c.Flags().Changed("prefix")
			dash := c.ArgsLenAtDash()
			return a.add(c.Context(), f.noCheck, func(s shannon.Server) (shannon.Server, error) { return f.server(s, args, dash) })
		},
	}
	fl := c.Flags()
	fl.StringArrayVarP(&f.env, "env", "e", nil, "environment variable `KEY=VALUE` of the command; may be repeated")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "HTTP header `'Name: value'`; may be repeated")
	fl.StringVarP(&f.transport, "transport", "t", "", "stdio, http, sse or websocket")
	fl.StringVar(&f.cwd, "cwd", "", "`FOLDER` in which the command runs")
	fl.StringVar(&f.title, "title", "", "a name for people")
	fl.StringVar(&f.description, "description", "", "what it is for")
	fl.StringVar(&f.prefix, "prefix", "", "what stands before the names of its tools, in place of NAME; '' for nothing")
	fl.StringVar(&f.isolation, "isolation", "", "who shares a process: auto, shared or session")
	fl.StringVar(&f.start, "start", "", "when it is started: eager or lazy")
	fl.StringVar(&f.timeout, "timeout", "", "`SECONDS` for connecting and listing")
	fl.BoolVar(&f.disabled, "disabled", false, "add it without using it")
	fl.BoolVar(&f.noCheck, "no-check", false, "do not connect now")
	return c
}

// server makes a server of arguments and flags. dash is how many arguments came
// before --, -1 without one.
func (f *addFlags) server(s shannon.Server, args []string, dash int) (shannon.Server, error) {
	plain, command := args, []string(nil)
	if dash >= 0 {
		plain, command = args[:dash], args[dash:]
	}
	if len(plain) == 0 {
		return s, usage("For example: "+addExample, "the server needs a name")
	}
	s.Name = plain[0]
	if f.transport != "" {
		var err error
		if s.Transport, err = parseTransport(f.transport); err != nil {
			return s, err
		}
	}
	if err := target(&s, plain[1:], command); err != nil {
		return s, err
	}
	if err := fits(&s, f); err != nil {
		return s, err
	}
	if err := f.details(&s); err != nil {
		return s, err
	}
	return s, s.Validate()
}

// target is what is started or reached: an address that stands after the name, or
// a command that stands after --.
func target(s *shannon.Server, plain, command []string) error {
	stdio := s.Transport == "" || s.Transport == shannon.TransportStdio
	switch {
	case len(plain) > 1, len(plain) == 1 && stdio && !strings.Contains(plain[0], "://"):
		return usage("For example: shannon add "+s.Name+" -- "+strings.Join(slices.Concat(plain, command), " "), "the command of the server comes after --")
	case len(plain) == 1 && len(command) > 0:
		return usage("Give one of them", "there are both an address and a command")
	case len(plain) == 1:
		s.Endpoint = plain[0]
		if s.Transport == "" {
			s.Transport = transportOf(s.Endpoint)
		}
		return nil
	}
	if s.Transport == "" {
		s.Transport = shannon.TransportStdio
	}
	if len(command) > 0 {
		s.Command, s.Args = command[0], command[1:]
	}
	return nil
}

// fits refuses what a server of that transport has no use for.
func fits(s *shannon.Server, f *addFlags) error {
	switch stdio := s.Transport == shannon.TransportStdio; {
	case stdio && s.Endpoint != "":
		return usage("Leave out -t stdio, or give a command after --", "a stdio server has a command, not an address")
	case !stdio && s.Command != "":
		return usage("Leave out -t, or give an address: shannon add "+s.Name+" https://example.com/mcp", "a server with transport %s has an address, not a command", s.Transport)
	case stdio && len(f.headers) > 0:
		return usage("Give the command variables with -e KEY=VALUE", "a stdio server takes no headers")
	case !stdio && (len(f.env) > 0 || f.cwd != ""):
		return usage("Give it headers with -H 'Name: value'", "a server with an address takes no environment and no folder")
	}
	return nil
}

func (f *addFlags) details(s *shannon.Server) (err error) {
	if s.Env, err = pairs(f.env, "=", "--env", "-e LEVEL=debug"); err != nil {
		return err
	}
	if s.Headers, err = pairs(f.headers, ":", "--header", "-H 'Authorization: Bearer ${TOKEN}'"); err != nil {
		return err
	}
	s.Cwd, s.Title, s.Description, s.Enabled = f.cwd, f.title, f.description, !f.disabled
	if f.prefixChanged {
		s.Prefix = &f.prefix
	}
	s.Isolation = cmp.Or(shannon.Isolation(f.isolation), s.Isolation)
	s.Start = cmp.Or(shannon.StartMode(f.start), s.Start)
	if f.timeout != "" {
		if s.Timeout, err = shannon.ParseDuration(f.timeout); err != nil {
			return usage("For example: --timeout 60", "--timeout: %w", err)
		}
	}
	return nil
}

func (a *app) addJSONCommand() *cobra.Command {
	var noCheck bool
	c := &cobra.Command{
		Use: "add-json NAME JSON|-", Short: "Add a server as clients' configurations have it",
		Long: `Add a server from JSON: an entry of mcpServers as AI clients have it, the whole
{"mcpServers": {…}} with one entry, or what shannon get NAME --json shows. - reads
stdin. A key that is not known is refused.`,
		Example: `  shannon add-json everything '{"command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything"]}'
  shannon add-json docs '{"type": "http", "url": "https://example.com/mcp"}'`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := a.readAll(c.Context(), args[1])
			if err != nil {
				return err
			}
			return a.add(c.Context(), noCheck, func(s shannon.Server) (shannon.Server, error) {
				s.Name = args[0]
				return parseEntry(s, text)
			})
		},
	}
	c.Flags().BoolVar(&noCheck, "no-check", false, "do not connect now")
	return c
}

// added is what add says in JSON.
type added struct {
	Server shannon.Server  `json:"server"`
	Status *shannon.Status `json:"status,omitempty"`
}

// add stores what fill makes of a server with the defaults, and connects it where
// a daemon runs.
func (a *app) add(ctx context.Context, noCheck bool, fill func(shannon.Server) (shannon.Server, error)) error {
	cfg, _, err := a.config(nil)
	if err != nil {
		return err
	}
	draft := shannon.NewServer("")
	draft.Timeout = cfg.ConnectionTimeout
	if draft, err = fill(draft); err != nil {
		return err
	}
	draft.Cwd = absolute(draft.Cwd)
	if draft.Cwd == "" && strings.ContainsRune(draft.Command, filepath.Separator) {
		draft.Command = absolute(draft.Command)
	}
	return a.with(ctx, func(m *access) error {
		s, err := m.AddServer(ctx, draft)
		if err != nil {
			return err
		}
		a.out.sayf("added %s", s.Name)
		result := added{Server: s}
		defer func() {
			if a.json {
				a.out.data(result)
			}
		}()
		switch {
		case !m.daemon:
			a.out.sayf("%s shannon serve starts the daemon, which connects to it", a.out.err.faint("next:"))
		case s.Enabled && !noCheck:
			status, err := m.Connect(ctx, s.Name)
			if err != nil {
				a.out.sayf("%s is stored and will be tried again; shannon rm %s removes it", s.Name, s.Name)
				return failed{err}
			}
			result.Status = &status
			if !a.json {
				a.out.printf("%s", a.connected(&status))
			}
		}
		return nil
	})
}

// absolute makes a path mean what it means here: a daemon runs in another folder.
func absolute(path string) string {
	if path == "" || strings.HasPrefix(path, "~") || strings.HasPrefix(path, "$") {
		return path // expanded when used
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// connected says how a connection was made.
func (a *app) connected(s *shannon.Status) painted {
	more := ""
	if s.Version != "" {
		more = fmt.Sprintf(" (%s %s)", s.Era, s.Version)
	}
	if s.Problem != nil { // it did not say what it offers, for example
		more += "; " + s.Problem.Message
	}
	took := (time.Duration(s.HandshakeMS) * time.Millisecond).String()
	if s.HandshakeMS < 1000 {
		took = fmt.Sprintf("%d ms", s.HandshakeMS)
	}
	return a.out.out.good("connected") + painted(safe(fmt.Sprintf(" in %s, %s%s", took, count(s.Tools, "tool"), more)))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (a *app) listCommand() *cobra.Command {
	var transport string
	var enabled, disabled bool
	c := &cobra.Command{
		Use: "ls", Aliases: []string{"list"}, Short: "List the servers",
		Example: "  shannon ls\n  shannon ls --transport http --enabled",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f := shannon.ServerFilter{}
			if transport != "" {
				var err error
				if f.Transport, err = parseTransport(transport); err != nil {
					return err
				}
			}
			if enabled && disabled {
				return usage("Give one of them, or none for all", "--enabled and --disabled are there at once")
			}
			if enabled || disabled {
				f.Enabled = &enabled
			}
			return a.list(c.Context(), f)
		},
	}
	c.Flags().StringVarP(&transport, "transport", "t", "", "only those reached by stdio, http, sse or websocket")
	c.Flags().BoolVar(&enabled, "enabled", false, "only those that are enabled")
	c.Flags().BoolVar(&disabled, "disabled", false, "only those that are not")
	return c
}

func (a *app) list(ctx context.Context, f shannon.ServerFilter) error {
	return a.with(ctx, func(m *access) error {
		servers, err := m.ListServers(ctx, f)
		if err != nil {
			return err
		}
		if a.json {
			a.out.data(servers)
			return nil
		}
		if len(servers) == 0 {
			a.out.sayf("There are no servers%s.", map[bool]string{true: " of that kind"}[f != shannon.ServerFilter{}])
			a.out.sayf("%s %s", a.out.err.faint("next:"), addExample)
			return nil
		}
		statuses, err := m.Statuses(ctx)
		if err != nil {
			return err
		}
		t := &table{head: []string{"NAME", "TRANSPORT", "STATE", "WHAT"}}
		for _, s := range servers {
			state := painted("")
			if i := slices.IndexFunc(statuses, func(st shannon.Status) bool { return st.ServerID == s.ID }); i >= 0 {
				state = a.state(&statuses[i])
			}
			t.add(s.Name, s.Transport, state, what(&s))
		}
		a.out.table(t)
		return nil
	})
}

// what says in short what a server is.
func what(s *shannon.Server) string {
	if s.Transport != shannon.TransportStdio {
		return s.Endpoint
	}
	return commandLine(s.Command, s.Args)
}

// commandLine writes a command so that a shell would read it back.
func commandLine(command string, args []string) string {
	words := append([]string{command}, args...)
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n'\"\\$`&|;<>()*?[]{}~#!") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

func (a *app) getCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show a server", Example: "  shannon get everything\n  shannon get everything --json",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(m *access) error {
				s, err := m.Server(c.Context(), args[0])
				if err != nil {
					return err
				}
				if a.json {
					a.out.data(s)
					return nil
				}
				a.showServer(&s)
				return nil
			})
		},
	}
}

func (a *app) showServer(s *shannon.Server) {
	requestTimeout, prefix, config := "", "", ""
	if s.RequestTimeout != nil {
		requestTimeout = s.RequestTimeout.String()
	}
	if s.Prefix != nil {
		prefix = fmt.Sprintf("%q", *s.Prefix)
	}
	if len(s.Config) > 0 {
		config = s.Config.String()
	}
	enabled := a.out.out.good("yes")
	if !s.Enabled {
		enabled = a.out.out.warn("no") + painted("; shannon enable "+s.Name+" changes that")
	}
	command := ""
	if s.Command != "" {
		command = commandLine(s.Command, s.Args)
	}
	a.out.fields(
		"name", a.out.out.bold(s.Name), "title", s.Title, "description", s.Description, "id", s.ID,
		"enabled", enabled, "transport", s.Transport,
		"command", command, "cwd", s.Cwd, "env", secrets(s.Env, "="),
		"endpoint", s.Endpoint, "headers", secrets(s.Headers, ": "), "config", config,
		"prefix", prefix, "isolation", s.Isolation, "start", s.Start,
		"timeout", s.Timeout, "request_timeout", requestTimeout,
		"retry_count", s.RetryCount, "retry_delay", s.RetryDelay, "health_check_interval", s.HealthCheckInterval,
		"created", moment(s.CreatedAt), "updated", moment(s.UpdatedAt),
	)
}

// secrets lists names; the values show themselves, or [hidden].
func secrets(m map[string]shannon.Secret, separator string) string {
	lines := make([]string, 0, len(m))
	for k, v := range m {
		lines = append(lines, k+separator+v.String())
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (a *app) setCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set NAME KEY=VALUE…", Short: "Change a server",
		Long: `Change a server. The keys are those of shannon get NAME --json; single variables
and headers are env.KEY and headers.NAME, a new name is name=NEW. An empty value
takes a value away; args, env, headers and config are JSON. prefix= means no
prefix at all, prefix=null the name again.`,
		Example: "  " + setExample + `
  shannon set everything name=all title='Everything server'
  shannon set github headers.Authorization='Bearer ${GITHUB_TOKEN}'
  shannon set files 'args=["-y", "@modelcontextprotocol/server-filesystem", "/tmp"]'`,
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			patch, err := parseChanges(args[1:])
			if err != nil {
				return err
			}
			return a.change(c.Context(), args[0], patch, "changed")
		},
	}
}

func (a *app) change(ctx context.Context, name string, patch []byte, done string) error {
	return a.with(ctx, func(m *access) error {
		s, err := m.UpdateServer(ctx, name, patch)
		if err != nil {
			return err
		}
		if a.json {
			a.out.data(s)
		}
		a.out.sayf("%s %s", done, s.Name)
		return nil
	})
}

func (a *app) enableCommand() *cobra.Command {
	return a.switchCommand("enable", "Use a server again", true)
}

func (a *app) disableCommand() *cobra.Command {
	return a.switchCommand("disable", "Stop using a server, and keep it", false)
}

func (a *app) switchCommand(name, short string, on bool) *cobra.Command {
	return &cobra.Command{
		Use: name + " NAME", Short: short, Example: "  shannon " + name + " everything",
		Args: cobra.ExactArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.change(c.Context(), args[0], fmt.Appendf(nil, `{"enabled":%t}`, on), name+"d")
		},
	}
}

func (a *app) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Aliases: []string{"remove"}, Short: "Remove a server; its history stays",
		Example: "  shannon rm everything", Args: cobra.ExactArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(m *access) error {
				if err := m.RemoveServer(c.Context(), args[0]); err != nil {
					return err
				}
				if a.json {
					a.out.data(map[string]string{"removed": args[0]})
				}
				a.out.sayf("removed %s", args[0])
				return nil
			})
		},
	}
}
