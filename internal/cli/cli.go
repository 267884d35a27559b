package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shannon-mcp/shannon"
)

// Env is the outside world of a run.
type Env struct {
	Args    []string // without the program's name
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Environ []string
	// Executable is the path of this program, which starts itself anew as its own
	// keeper and as the demo server.
	Executable string
	Version    string
}

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnknown     = 3
	exitDaemon      = 4
	exitTimeout     = 5
	exitForbidden   = 6
	exitInterrupted = 130 // as shells have it for SIGINT
)

// Main runs a command line and returns its exit code. When ctx ends, the command
// stops everything that it started and returns 130.
func Main(ctx context.Context, env Env) int {
	a := newApp(env)
	root := a.root()
	root.SetArgs(env.Args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	if code, ok := errors.AsType[exitError](err); ok {
		return int(code)
	}
	if err != nil && ctx.Err() != nil {
		return exitInterrupted
	}
	if err != nil {
		a.fail(err)
	}
	return exitCode(err)
}

// exitError ends the run with a code and no further words.
type exitError int

func (exitError) Error() string { return "" }

// failed makes an error end with code 1, whatever its own would be.
type failed struct{ err error }

func (e failed) Error() string { return e.err.Error() }
func (e failed) Unwrap() error { return e.err }

// exitCode is the only place that makes an exit code of an error.
func exitCode(err error) int {
	if _, ok := errors.AsType[failed](err); ok {
		return exitFailed
	}
	switch shannon.CodeOf(err) {
	case "":
		return exitDone
	case shannon.CodeInvalidServer, shannon.CodeInvalidRequest, shannon.CodeInvalidConfig, shannon.CodeNameTaken:
		return exitUsage
	case shannon.CodeUnknownServer, shannon.CodeUnknownTool:
		return exitUnknown
	case shannon.CodeNoDaemon, shannon.CodeDaemonSilent:
		return exitDaemon
	case shannon.CodeTimeout, shannon.CodeHandshakeTimeout:
		return exitTimeout
	case shannon.CodeUnauthorized, shannon.CodeForbidden, shannon.CodeNeedsAuth:
		return exitForbidden
	default:
		return exitFailed
	}
}

// usage is the error of a command line that makes no sense.
func usage(hint, format string, args ...any) error {
	return shannon.Errorf(shannon.CodeInvalidRequest, hint, format, args...)
}

// app is one run.
type app struct {
	env  Env
	out  *printer
	json bool
	file string // of the configuration
}

func newApp(env Env) *app {
	a := &app{env: env}
	// Also errors of a command line that cannot be parsed keep to --json.
	own := env.Args
	if i := slices.Index(own, "--"); i >= 0 {
		own = own[:i]
	}
	a.json = slices.Contains(own, "--json")
	a.out = newPrinter(env)
	a.out.quiet = a.json
	return a
}

// fail tells of an error.
func (a *app) fail(err error) {
	p := shannon.ProblemOf(err)
	if a.json {
		problem := struct {
			shannon.Problem
			RPC        verbatim `json:"rpc,omitempty"`
			MayHaveRun bool     `json:"may_have_run,omitempty"`
		}{Problem: *p}
		if e, ok := errors.AsType[*shannon.Error](err); ok {
			problem.RPC, problem.MayHaveRun = e.RPC, e.MayHaveRun
		}
		a.out.problemJSON(problem)
		return
	}
	a.out.sayf("%s %s", a.out.err.bad("shannon:"), p.Message)
	if e, ok := errors.AsType[*shannon.Error](err); ok && e.MayHaveRun {
		a.out.sayf("The request was sent, so it may have run.")
	}
	if p.Hint != "" {
		a.out.sayf("%s %s", a.out.err.faint("hint:"), p.Hint)
	}
}

const rootLong = `Shannon runs your MCP servers, keeps them alive, and offers them all at one
address to every AI client.

Alone, shannon says what runs, what is wrong and what to do next.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no such server or tool,
4 a daemon is needed or silent, 5 timed out, 6 not allowed, 130 interrupted.`

const (
	groupServers = "servers"
	groupUse     = "use"
	groupDaemon  = "daemon"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "shannon", Short: "Manage MCP servers", Long: rootLong,
		Example: `  shannon serve
  shannon add everything -- npx -y @modelcontextprotocol/server-everything
  shannon call everything echo message=hello`,
		SilenceErrors: true, SilenceUsage: true,
		RunE: a.runHome,
	}
	root.PersistentFlags().BoolVar(&a.json, "json", a.json, "data as JSON on stdout, errors as JSON on stderr")
	root.PersistentFlags().StringVar(&a.file, "config", "", "configuration `FILE`: .toml, .yaml or .json (default config.toml in the home folder)")
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(
		&cobra.Group{ID: groupServers, Title: "Servers:"},
		&cobra.Group{ID: groupUse, Title: "Use them:"},
		&cobra.Group{ID: groupDaemon, Title: "Shannon itself:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupServers, a.addCommand(), a.addJSONCommand(), a.listCommand(), a.getCommand(), a.setCommand(), a.removeCommand(),
		a.enableCommand(), a.disableCommand(), a.connectCommand(), a.disconnectCommand(), a.restartCommand())
	add(groupUse, a.toolsCommand(), a.callCommand(), a.requestCommand(), a.statusCommand(), a.historyCommand(), a.eventsCommand(), a.logsCommand())
	add(groupDaemon, a.serveCommand(), a.configCommand(), a.tokenCommand(), a.versionCommand())
	root.SetCompletionCommandGroupID(groupDaemon)
	root.SetHelpCommandGroupID(groupDaemon)
	root.AddCommand(a.demoCommand())
	root.InitDefaultCompletionCmd(a.env.Args...)
	checkArgs(root)
	return root
}

// checkArgs makes what cobra finds wrong with arguments an error of ours.
func checkArgs(c *cobra.Command) {
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		if c.HasSubCommands() && len(args) > 0 {
			return unknownCommand(c, args[0])
		}
		if check == nil {
			check = cobra.NoArgs
		}
		if err := check(c, args); err != nil {
			if _, ok := errors.AsType[*shannon.Error](err); ok {
				return err
			}
			return usage(exampleOf(c), "%s takes %s", c.CommandPath(), wants(c))
		}
		return nil
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.RunE = func(c *cobra.Command, _ []string) error {
			return usage(exampleOf(c), "%s needs one of its commands", c.CommandPath())
		}
	}
	for _, sub := range c.Commands() {
		checkArgs(sub)
	}
}

func unknownCommand(c *cobra.Command, word string) error {
	names := []string{}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	hint := c.CommandPath() + " --help shows all commands"
	if near, ok := shannon.Nearest(word, names); ok {
		hint = "Did you mean " + c.CommandPath() + " " + near + "?"
	}
	return usage(hint, "%q is no command of %s", word, c.CommandPath())
}

// wants says what arguments a command takes.
func wants(c *cobra.Command) string {
	_, args, _ := strings.Cut(c.Use, " ")
	if args == "" {
		return "no arguments"
	}
	return args
}

// exampleOf is the first example of a command, as a hint.
func exampleOf(c *cobra.Command) string {
	first, _, _ := strings.Cut(strings.TrimSpace(c.Example), "\n")
	if first == "" {
		return c.CommandPath() + " --help"
	}
	return "For example: " + first
}

func flagError(c *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	hint := exampleOf(c)
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok {
		names := []string{}
		c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		word := e.GetSpecifiedName()
		if near, ok := shannon.Nearest(word, names); ok && e.GetSpecifiedShortnames() == "" {
			return usage("Did you mean --"+near+"?", "%s has no flag --%s", c.CommandPath(), word)
		}
		if c.Name() == "add" {
			hint = "What belongs to the command of the server comes after --: " + addExample
		}
		dashes := "--"
		if e.GetSpecifiedShortnames() != "" {
			dashes = "-"
		}
		return usage(hint, "%s has no flag %s%s", c.CommandPath(), dashes, word)
	}
	return usage(hint, "%w", err)
}
