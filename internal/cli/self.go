package cli

import (
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/manager"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use: "config", Short: "Show every setting and where it comes from",
		Long: `Show every setting and where it comes from: a flag of shannon serve, over a variable,
over the file, over the default. The variable of log.level is SHANNON_LOG_LEVEL,
and so on; the file is config.toml in the home folder, or --config FILE, which may
also be YAML or JSON.`,
		Example: "  shannon config\n  SHANNON_LOG_LEVEL=debug shannon config --json", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, settings, err := a.config(nil)
			if err != nil {
				return err
			}
			if a.json {
				a.out.data(settings)
				return nil
			}
			t := &table{head: []string{"KEY", "VALUE", "FROM"}}
			for _, s := range settings {
				from := painted(safe(s.Origin))
				if s.Origin == "default" {
					from = a.out.out.faint(s.Origin)
				}
				t.add(s.Key, s.Value, from)
			}
			a.out.table(t)
			return nil
		},
	}
}

// token is what the token commands say in JSON.
type token struct {
	Token string `json:"token,omitempty"` // asked for, so it is shown
	Path  string `json:"path"`
}

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "token", Short: "Show or replace the token that TCP clients need",
		Example: "  shannon token show\n  shannon token rotate\n  shannon token path",
	}
	sub := func(name, short string, run func(home string) (token, error), show func(token) string) {
		c.AddCommand(&cobra.Command{
			Use: name, Short: short, Example: "  shannon token " + name, Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				cfg, _, err := a.config(nil)
				if err != nil {
					return err
				}
				if err := os.MkdirAll(cfg.Home, 0o700); err != nil {
					return shannon.Errorf(shannon.CodeInvalidConfig, "Set SHANNON_HOME to a folder that you may write to", "make home folder: %w", err)
				}
				t, err := run(cfg.Home)
				if err != nil {
					return err
				}
				if a.json {
					a.out.data(t)
				} else {
					a.out.printf("%s", show(t))
				}
				return nil
			},
		})
	}
	read := func(home string) (token, error) {
		text, path, err := manager.ReadToken(home)
		return token{text.Reveal(), path}, err
	}
	sub("show", "Print the token, making it where there is none", read, func(t token) string { return t.Token })
	sub("path", "Print the path of the file that holds it", func(home string) (token, error) {
		t, err := read(home)
		return token{Path: t.Path}, err
	}, func(t token) string { return t.Path })
	sub("rotate", "Replace the token and print the new one; the old one ends within a second", func(home string) (token, error) {
		if _, err := manager.RotateToken(home); err != nil {
			return token{}, err
		}
		return read(home)
	}, func(t token) string { return t.Token })
	return c
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Example: "  shannon version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				a.out.data(map[string]string{"version": a.env.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
				return nil
			}
			a.out.printf("shannon %s %s %s/%s", a.env.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use: demoServer, Short: "A small MCP server on stdin and stdout", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return manager.Demo(c.Context(), a.env.Stdin, a.env.Stdout)
		},
	}
}

// demoServer is the command of the demo server.
const demoServer = "demo-server"
