package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shannon-mcp/shannon"
)

func (a *app) connectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "connect NAME", Short: "Connect to a server now",
		Long: `Connect to a server now, whatever the waiting time after failures. Without a
daemon the server is started to see whether it works, and stopped again.`,
		Example: "  shannon connect everything", Args: cobra.ExactArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(m *access) error {
				s, err := m.Connect(c.Context(), args[0])
				if err != nil {
					return err
				}
				a.linked(&s)
				if !m.daemon {
					a.out.sayf("It is stopped again, because no daemon runs: shannon serve")
				}
				return nil
			})
		},
	}
}

func (a *app) linked(s *shannon.Status) {
	if a.json {
		a.out.data(s)
		return
	}
	a.out.printf("%s", a.connected(s))
}

func (a *app) disconnectCommand() *cobra.Command {
	return &cobra.Command{
		Use: "disconnect NAME", Short: "Disconnect a server until it is connected again",
		Example: "  shannon disconnect everything", Args: cobra.ExactArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.needDaemon(c.Context(), c.CommandPath(), func(m *access) error {
				was, err := m.Disconnect(c.Context(), args[0])
				if err != nil {
					return err
				}
				if a.json {
					a.out.data(map[string]bool{"disconnected": was})
					return nil
				}
				if was {
					a.out.printf("disconnected")
				} else {
					a.out.printf("%s was not connected", args[0])
				}
				return nil
			})
		},
	}
}

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restart NAME", Short: "Disconnect a server and connect it again",
		Example: "  shannon restart everything", Args: cobra.ExactArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.needDaemon(c.Context(), c.CommandPath(), func(m *access) error {
				s, err := m.Restart(c.Context(), args[0])
				if err == nil {
					a.linked(&s)
				}
				return err
			})
		},
	}
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status [SERVER]", Short: "Show the state of the servers, or all about one",
		Example: "  shannon status\n  shannon status everything", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(m *access) error {
				if len(args) == 0 {
					return a.statuses(c.Context(), m)
				}
				s, err := m.Status(c.Context(), args[0])
				if err != nil {
					return err
				}
				if a.json {
					a.out.data(s)
					return nil
				}
				a.showStatus(&s)
				a.noDaemon(m)
				return nil
			})
		},
	}
}

// noDaemon says why nothing is connected.
func (a *app) noDaemon(m *access) {
	if !m.daemon {
		a.out.sayf("No daemon runs, so nothing is connected. %s shannon serve", a.out.err.faint("next:"))
	}
}

func (a *app) statuses(ctx context.Context, m *access) error {
	all, err := m.Statuses(ctx)
	if err != nil {
		return err
	}
	if a.json {
		a.out.data(all)
		return nil
	}
	if len(all) == 0 {
		a.out.sayf("There are no servers.")
		a.out.sayf("%s %s", a.out.err.faint("next:"), addExample)
		return nil
	}
	t := &table{head: []string{"NAME", "STATE", "SINCE", "TOOLS", "PROTOCOL", "PROBLEM"}}
	for i := range all {
		s := &all[i]
		tools, protocol, at := "", "", ""
		if s.State == shannon.StateConnected {
			tools, protocol = fmt.Sprint(s.Tools), strings.TrimSpace(string(s.Era)+" "+s.Version)
		}
		if m.daemon {
			at = since(&s.Since)
		}
		t.add(s.Server, a.state(s), at, tools, protocol, a.trouble(s))
	}
	a.out.table(t)
	a.noDaemon(m)
	return nil
}

// trouble is what is wrong with a server, in one line.
func (a *app) trouble(s *shannon.Status) string {
	if !wrong(s) {
		return ""
	}
	text := s.LastError
	if s.Problem != nil {
		text = cmp.Or(s.Problem.Message, text, string(s.Problem.Code))
	}
	if at := until(s.NextRetry); at != "" {
		text += "; next try " + at
	}
	return text
}

func (a *app) showStatus(s *shannon.Status) {
	problem, hint, attempts, errors, pid, handshake, tools := "", "", "", "", "", "", ""
	if s.Problem != nil {
		problem, hint = fmt.Sprintf("%s (%s)", s.Problem.Message, s.Problem.Code), s.Problem.Hint
	}
	if s.ReconnectAttempts > 0 {
		attempts = fmt.Sprint(s.ReconnectAttempts)
	}
	if s.ErrorCount > 0 {
		errors = fmt.Sprint(s.ErrorCount)
	}
	if s.PID > 0 {
		pid = fmt.Sprint(s.PID)
	}
	if s.State == shannon.StateConnected {
		handshake, tools = fmt.Sprintf("%d ms", s.HandshakeMS), fmt.Sprint(s.Tools)
	}
	state := a.state(s)
	if t := since(&s.Since); t != "" {
		state += painted(", since " + strings.TrimSuffix(t, " ago"))
	}
	eras := make([]string, len(s.Eras))
	for i, e := range s.Eras {
		eras[i] = string(e)
	}
	a.out.fields(
		"name", a.out.out.bold(s.Server), "state", state, "problem", problem, "hint", hint,
		"next try", until(s.NextRetry), "attempts", attempts, "failed checks", errors, "last error", lastError(s),
		"transport", s.Transport, "protocol", strings.TrimSpace(string(s.Era)+" "+s.Version), "speaks", strings.Join(eras, ", "),
		"server", s.ServerInfo, "tools", tools, "pid", pid, "command", s.Command, "handshake", handshake,
		"last ping", since(s.LastPing), "last seen", since(s.LastSeen),
	)
}

// lastError is the last error, where the problem does not say the same.
func lastError(s *shannon.Status) string {
	if s.Problem != nil && s.Problem.Message == s.LastError {
		return ""
	}
	return s.LastError
}

// home is what shannon alone says in JSON.
type home struct {
	Daemon   bool             `json:"daemon"`
	Summary  shannon.Summary  `json:"summary"`
	Statuses []shannon.Status `json:"statuses"`
	Next     string           `json:"next"`
}

// runHome says what runs, what is wrong and the next command.
func (a *app) runHome(c *cobra.Command, _ []string) error {
	ctx := c.Context()
	return a.with(ctx, func(m *access) error {
		h := home{Daemon: m.daemon}
		var err error
		if h.Summary, err = m.Summary(ctx); err != nil {
			return err
		}
		if h.Statuses, err = m.Statuses(ctx); err != nil {
			return err
		}
		h.Next = next(&h)
		if a.json {
			a.out.data(h)
			return nil
		}
		a.showHome(&h)
		return nil
	})
}

// next is the command that helps most now.
func next(h *home) string {
	bad := slices.IndexFunc(h.Statuses, func(s shannon.Status) bool { return wrong(&s) })
	switch {
	case len(h.Statuses) == 0 && h.Daemon, len(h.Statuses) == 0 && h.Summary.TotalServers == 0:
		return addExample
	case !h.Daemon:
		return "shannon serve"
	case bad >= 0:
		return "shannon status " + h.Statuses[bad].Server
	default:
		return "shannon tools"
	}
}

func (a *app) showHome(h *home) {
	o := a.out.out
	s := &h.Summary
	if h.Daemon {
		where := cmp.Or(s.Address, s.Socket)
		a.out.printf("%s %s runs on %s, pid %d, for %s", o.bold("Shannon"), s.Version, o.bold(where), s.PID, strings.TrimSuffix(since(&s.StartedAt), " ago"))
	} else {
		a.out.printf("%s %s: no daemon runs", o.bold("Shannon"), s.Version)
	}
	for _, p := range s.Problems {
		a.out.printf("%s %s", o.bad(string(p.Code)+":"), p.Message)
		if p.Hint != "" {
			a.out.printf("  %s", o.faint(p.Hint))
		}
	}
	tools, connected := 0, 0
	for i := range h.Statuses {
		if h.Statuses[i].State == shannon.StateConnected {
			connected++
			tools += h.Statuses[i].Tools
		}
	}
	line := count(len(h.Statuses), "server")
	if h.Daemon && len(h.Statuses) > 0 {
		line += fmt.Sprintf(", %d connected, %s", connected, count(tools, "tool"))
	}
	a.out.printf("%s", line)
	for i := range h.Statuses {
		st := &h.Statuses[i]
		if !wrong(st) {
			continue
		}
		a.out.printf("\n%s %s: %s", o.bad("✗"), o.bold(st.Server), a.trouble(st))
		if st.Problem != nil && st.Problem.Hint != "" {
			hint := st.Problem.Hint
			if a.out.width > 0 { // all of it is in shannon status
				hint = string(cut(painted(safe(hint)), a.out.width-2))
			}
			a.out.printf("  %s", o.faint(hint))
		}
	}
	a.out.printf("\n%s %s", o.faint("next:"), h.Next)
}
