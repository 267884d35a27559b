package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
)

// ago says how long something lasts or has been, in one unit.
func ago(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Second:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d d", int(d.Hours()/24))
	}
}

// since says how long ago t was.
func since(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	if d := time.Since(*t); d >= time.Second {
		return ago(d) + " ago"
	}
	return "now"
}

// until says when t will be.
func until(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return "in " + ago(time.Until(*t)+time.Second-1)
}

// moment is a time on the clock of who reads it, and how long ago that was.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05") + " (" + since(&t) + ")"
}

// state is the state of a server in a word or two, coloured.
func (a *app) state(s *shannon.Status) painted {
	o := a.out.out
	switch {
	case !s.Enabled:
		return o.faint("disabled")
	case s.State == shannon.StateConnected && s.Healthy:
		return o.good("connected")
	case s.State == shannon.StateConnected:
		return o.warn("connected, unproven")
	case s.State == shannon.StateConnecting:
		return o.warn("connecting")
	case s.State == shannon.StateReconnecting:
		return o.warn("reconnecting")
	case s.State == shannon.StateError:
		if s.Problem != nil {
			return o.bad("error: " + string(s.Problem.Code))
		}
		return o.bad("error")
	case s.Problem != nil && s.Problem.Code == shannon.CodeIdle:
		return o.faint("idle")
	case s.Problem != nil && s.Problem.Code == shannon.CodeDisconnected:
		return o.faint("disconnected")
	case s.Problem != nil:
		return o.warn(strings.ReplaceAll(string(s.Problem.Code), "_", " "))
	}
	return o.faint("disconnected")
}

// wrong tells whether a server's state needs a person.
func wrong(s *shannon.Status) bool {
	if !s.Enabled || s.Problem == nil {
		return s.Enabled && s.State == shannon.StateError
	}
	switch s.Problem.Code {
	case shannon.CodeIdle, shannon.CodeDisconnected, shannon.CodeDisabled:
		return false
	}
	return true
}
