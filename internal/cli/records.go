package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shannon-mcp/shannon"
)

var states = []shannon.State{
	shannon.StateDisconnected, shannon.StateConnecting, shannon.StateConnected, shannon.StateReconnecting, shannon.StateError,
}

var priorities = []shannon.Priority{shannon.PriorityLow, shannon.PriorityNormal, shannon.PriorityHigh, shannon.PriorityCritical}

// oneOf checks the value of a flag that takes one of some words.
func oneOf[T ~string](flag, value string, words []T) (T, error) {
	if value == "" || slices.Contains(words, T(value)) {
		return T(value), nil
	}
	names := make([]string, len(words))
	for i, w := range words {
		names[i] = string(w)
	}
	return "", usage("Use one of "+strings.Join(names, ", "), "--%s cannot be %q", flag, value)
}

func (a *app) historyCommand() *cobra.Command {
	var state, from string
	var limit int
	c := &cobra.Command{
		Use: "history [SERVER]", Short: "Show what happened to connections, newest first",
		Long: `Show the ledger of connections, newest first, also of servers that were removed.
--since takes a time such as 2026-01-31T12:00:00Z, or how long ago: 90s, 2h, 7d.`,
		Example: "  shannon history\n  shannon history everything --since 2h --state error",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			f := shannon.HistoryFilter{Server: strings.Join(args, ""), Limit: limit}
			var err error
			if f.State, err = oneOf("state", state, states); err != nil {
				return err
			}
			if f.Since, err = parseSince(from, time.Now()); err != nil {
				return err
			}
			if limit < 0 {
				return usage("For example: --limit 20", "--limit cannot be %d", limit)
			}
			return a.with(c.Context(), func(m *access) error { return a.history(c.Context(), m, f) })
		},
	}
	c.Flags().StringVar(&state, "state", "", "only rows of this state")
	c.Flags().StringVar(&from, "since", "", "only rows that began at this `TIME` or later")
	c.Flags().IntVar(&limit, "limit", 0, "how many at most (default 100)")
	return c
}

// parseSince reads a time, or how long before now.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 15); err == nil {
			return now.Add(-time.Duration(n) * 24 * time.Hour), nil
		}
	}
	if d, err := shannon.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d.Std()), nil
	}
	return time.Time{}, usage("For example: --since 2h, or --since 2026-01-31T12:00:00Z", "--since cannot be %q", text)
}

func (a *app) history(ctx context.Context, m *access, f shannon.HistoryFilter) error {
	rows, err := m.History(ctx, f)
	if err != nil {
		return err
	}
	// The name of a server that is gone is known by its rows only.
	if len(rows) == 0 && f.Server != "" {
		if _, err := m.Server(ctx, f.Server); err != nil {
			return err
		}
	}
	if a.json {
		a.out.data(rows)
		return nil
	}
	if len(rows) == 0 {
		a.out.sayf("Nothing has happened yet.")
		return nil
	}
	t := &table{head: []string{"WHEN", "SERVER", "STATE", "CAUSE", "LASTED", "DETAIL"}}
	for i := range rows {
		r := &rows[i]
		lasted := ""
		if r.Duration != nil {
			lasted = ago(time.Duration(*r.Duration * float64(time.Second)))
		}
		when := r.ConnectedAt
		if when == nil {
			when = r.DisconnectedAt
		}
		t.add(since(when), cmp.Or(r.Server, r.ServerID), a.stateWord(r.State), r.Cause, lasted, detail(r))
	}
	a.out.table(t)
	return nil
}

func (a *app) stateWord(s shannon.State) painted {
	switch s {
	case shannon.StateConnected:
		return a.out.out.good(string(s))
	case shannon.StateError:
		return a.out.out.bad(string(s))
	case shannon.StateConnecting, shannon.StateReconnecting:
		return a.out.out.warn(string(s))
	default:
		return a.out.out.faint(string(s))
	}
}

// detail is what else a row of the ledger tells.
func detail(r *shannon.Transition) string {
	var parts []string
	if r.State == shannon.StateConnected && r.Version != "" {
		parts = append(parts, fmt.Sprintf("%s %s in %d ms", r.Era, r.Version, r.HandshakeMS))
	}
	if r.PID > 0 {
		parts = append(parts, fmt.Sprintf("pid %d", r.PID))
	}
	if r.Error != "" || r.Problem != "" {
		parts = append(parts, cmp.Or(r.Error, string(r.Problem)))
	}
	if r.Attempt > 0 {
		parts = append(parts, fmt.Sprintf("attempt %d", r.Attempt))
	}
	return strings.Join(parts, ", ")
}

func (a *app) eventsCommand() *cobra.Command {
	var f shannon.EventFilter
	var priority string
	c := &cobra.Command{
		Use: "events", Short: "Show the last events, or follow them",
		Long: `Show the last 1,000 events of the daemon; -f follows them, as lines of JSON with
--json. --after resumes behind an event.`,
		Example: "  shannon events -f\n  shannon events --name mcp_server_connected --priority high",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var err error
			if f.MinPriority, err = oneOf("priority", priority, priorities); err != nil {
				return err
			}
			if f.Follow {
				return a.needDaemon(c.Context(), "shannon events -f", func(m *access) error { return a.events(c.Context(), m, f) })
			}
			return a.with(c.Context(), func(m *access) error { return a.events(c.Context(), m, f) })
		},
	}
	c.Flags().BoolVarP(&f.Follow, "follow", "f", false, "go on with new events")
	c.Flags().StringVar(&f.Name, "name", "", "only events of this name")
	c.Flags().StringVar(&f.Category, "category", "", "only this category")
	c.Flags().StringVar(&priority, "priority", "", "only those as urgent or more so: low, normal, high or critical")
	c.Flags().Uint64Var(&f.After, "after", 0, "only those behind this number")
	return c
}

func (a *app) events(ctx context.Context, m *access, f shannon.EventFilter) error {
	if !m.daemon {
		a.out.sayf("No daemon runs, and events are its memory; shannon history shows what is written down.")
		return nil
	}
	for e, err := range m.Events(ctx, f) {
		if err != nil {
			return err
		}
		if a.json {
			a.out.item(e)
			continue
		}
		a.out.printf("%s %s %s %s", a.out.out.faint(fmt.Sprintf("%5d %s", e.Seq, e.Timestamp.Local().Format(time.TimeOnly))),
			a.priority(e.Priority), a.out.out.bold(e.Name), eventData(e.Data))
	}
	return ended(ctx)
}

// ended makes of the end of a followed stream, which is no error, the interrupt
// that it was.
func ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (a *app) priority(p shannon.Priority) painted {
	word := fmt.Sprintf("%-8s", p)
	switch p {
	case shannon.PriorityCritical:
		return a.out.out.bad(word)
	case shannon.PriorityHigh:
		return a.out.out.warn(word)
	default:
		return a.out.out.faint(word)
	}
}

// eventData shows the data of an event, the server first.
func eventData(data map[string]any) string {
	name, _ := data["name"].(string)
	words := []string{name}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if key == "name" || key == "server_id" {
			continue
		}
		value, ok := data[key].(string)
		if !ok {
			value = strings.TrimSpace(string(encode(data[key], "")))
		} else if strings.ContainsAny(value, " \n\t") {
			value = strconv.Quote(value)
		}
		words = append(words, key+"="+value)
	}
	return oneLine(strings.Join(words, " "))
}

func (a *app) logsCommand() *cobra.Command {
	var f shannon.LogFilter
	c := &cobra.Command{
		Use: "logs SERVER", Short: "Show what a server printed, or follow it",
		Example: "  shannon logs everything\n  shannon logs everything -f -n 20",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			if f.Lines < 0 {
				return usage("For example: -n 20", "--lines cannot be %d", f.Lines)
			}
			if f.Follow {
				return a.needDaemon(c.Context(), "shannon logs -f", func(m *access) error { return a.logs(c.Context(), m, args[0], f) })
			}
			return a.with(c.Context(), func(m *access) error { return a.logs(c.Context(), m, args[0], f) })
		},
	}
	c.Flags().BoolVarP(&f.Follow, "follow", "f", false, "go on with new lines")
	c.Flags().IntVarP(&f.Lines, "lines", "n", 0, "how many of the last lines (default 100)")
	return c
}

func (a *app) logs(ctx context.Context, m *access, server string, f shannon.LogFilter) error {
	none := true
	for l, err := range m.Logs(ctx, server, f) {
		if err != nil {
			return err
		}
		none = false
		if a.json {
			a.out.item(l)
			continue
		}
		source := a.out.out.faint(fmt.Sprintf("%-7s", l.Source))
		if l.Source == "stdout" {
			source = a.out.out.warn(fmt.Sprintf("%-7s", l.Source))
		}
		a.out.printf("%s %s %s", a.out.out.faint(l.Time.Local().Format(time.DateTime)), source, l.Text)
	}
	if none {
		a.out.sayf("%s has printed nothing.", server)
	}
	return ended(ctx)
}
