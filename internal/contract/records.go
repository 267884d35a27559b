package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
)

func testHistory(t *testing.T, s *suite) {
	if rows, err := s.m.History(s.ctx, shannon.HistoryFilter{}); err != nil || len(rows) != 0 {
		t.Errorf("a new manager has a history of %d rows, %v", len(rows), err)
	}
	st := s.connected(t, "a")
	s.connected(t, "b")
	if _, err := s.m.Disconnect(s.ctx, "a"); err != nil {
		t.Fatal(err)
	}
	id := s.get(t, "a").ID
	rows := s.history(t, shannon.HistoryFilter{Server: "a"})
	if len(rows) == 0 || rows[0].State != shannon.StateDisconnected || rows[0].Cause == "" {
		t.Fatalf("the newest row is not that of the disconnect: %s", text(t, rows))
	}
	for i, r := range rows {
		if r.Server != "a" || r.ServerID != id || (i > 0 && r.ID >= rows[i-1].ID) {
			t.Errorf("row %d is not one of a, newest first: %s", i, text(t, rows))
		}
	}
	s.checkRows(t, id, st)
}

// checkRows checks the rows of a connection that ended, of the server with that
// id, and of one of b that lives.
func (s *suite) checkRows(t *testing.T, id string, st shannon.Status) {
	t.Helper()
	up := s.history(t, shannon.HistoryFilter{Server: id, State: shannon.StateConnected})
	if len(up) != 1 || up[0].PID != st.PID || up[0].Era != st.Era || up[0].Version != st.Version {
		t.Fatalf("the row of the connection does not tell of it: %s", text(t, up))
	}
	if up[0].ConnectedAt == nil || up[0].DisconnectedAt == nil || up[0].Duration == nil || *up[0].Duration < 0 {
		t.Errorf("how long it lasted is not known: %s", text(t, up))
	}
	if up := s.history(t, shannon.HistoryFilter{Server: "b", State: shannon.StateConnected}); len(up) != 1 || up[0].DisconnectedAt != nil {
		t.Errorf("the row of a connection that lives: %s", text(t, up))
	}
}

func testHistoryFilter(t *testing.T, s *suite) {
	begin := time.Now().Add(-time.Second)
	s.connected(t, "a")
	s.connected(t, "b")
	if _, err := s.m.Disconnect(s.ctx, "a"); err != nil {
		t.Fatal(err)
	}
	all := s.history(t, shannon.HistoryFilter{})
	if recent := s.history(t, shannon.HistoryFilter{Since: begin}); len(all) < 3 || len(recent) != len(all) {
		t.Errorf("%d of %d rows began since the beginning", len(recent), len(all))
	}
	if none := s.history(t, shannon.HistoryFilter{Since: time.Now().Add(time.Hour)}); len(none) != 0 {
		t.Errorf("since the future there are %d rows", len(none))
	}
	if one := s.history(t, shannon.HistoryFilter{Limit: 1}); len(one) != 1 || one[0].ID != all[0].ID {
		t.Errorf("one row at most: %s", text(t, one))
	}
	if none := s.history(t, shannon.HistoryFilter{Server: "nobody"}); len(none) != 0 {
		t.Errorf("nobody has %d rows", len(none))
	}
}

func (s *suite) history(t *testing.T, f shannon.HistoryFilter) []shannon.Transition {
	t.Helper()
	rows, err := s.m.History(s.ctx, f)
	if err != nil {
		t.Fatalf("history: %v", err)
	}
	return rows
}

// collect reads the events that are kept.
func (s *suite) collect(t *testing.T, f shannon.EventFilter) []shannon.Event {
	t.Helper()
	var out []shannon.Event
	for e, err := range s.m.Events(s.ctx, f) {
		if err != nil {
			t.Fatalf("events: %v", err)
		}
		out = append(out, e)
	}
	return out
}

func eventNames(events []shannon.Event) []string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = e.Name
	}
	return out
}

// life makes the events that the following tests look for.
func (s *suite) life(t *testing.T) {
	t.Helper()
	s.connected(t, "a")
	if _, err := s.m.UpdateServer(s.ctx, "a", json.RawMessage(`{"title":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.m.Disconnect(s.ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.m.RemoveServer(s.ctx, "a"); err != nil {
		t.Fatal(err)
	}
}

func testEvents(t *testing.T, s *suite) {
	s.life(t)
	events := s.collect(t, shannon.EventFilter{})
	at := 0
	for _, name := range []string{
		shannon.EventAdded, shannon.EventConnected, shannon.EventUpdated, shannon.EventDisconnected, shannon.EventRemoved,
	} {
		i := slices.IndexFunc(events[at:], func(e shannon.Event) bool { return e.Name == name })
		if i < 0 {
			t.Fatalf("%s is not, or not in this order, among %v", name, eventNames(events))
		}
		e := events[at+i]
		if e.Data["name"] != "a" || e.Data["server_id"] == nil || e.Data["server_id"] == "" {
			t.Errorf("%s is about nobody: %v", name, e.Data)
		}
		at += i + 1
	}
	for i, e := range events {
		if e.Seq == 0 || (i > 0 && e.Seq <= events[i-1].Seq) {
			t.Errorf("event %d has the number %d", i, e.Seq)
		}
		if e.Category != shannon.CategoryMCP || e.Timestamp.IsZero() || e.Source == "" || e.Priority == "" {
			t.Errorf("event %d is not complete: %s", i, text(t, e))
		}
	}
}

func testEventFilter(t *testing.T, s *suite) {
	s.life(t)
	all := s.collect(t, shannon.EventFilter{})
	asked := 0
	tests := []struct {
		name string
		f    shannon.EventFilter
		pass func(e *shannon.Event) bool
	}{
		{"category", shannon.EventFilter{Category: shannon.CategoryMCP}, func(*shannon.Event) bool { return true }},
		{"another category", shannon.EventFilter{Category: "weather"}, func(*shannon.Event) bool { return false }},
		{"name", shannon.EventFilter{Name: shannon.EventConnected}, func(e *shannon.Event) bool { return e.Name == shannon.EventConnected }},
		{"priority", shannon.EventFilter{MinPriority: shannon.PriorityHigh}, func(e *shannon.Event) bool { return e.Priority.AtLeast(shannon.PriorityHigh) }},
		{"critical", shannon.EventFilter{MinPriority: shannon.PriorityCritical}, func(e *shannon.Event) bool { return e.Priority == shannon.PriorityCritical }},
		{"predicate", shannon.EventFilter{Match: func(e *shannon.Event) bool { asked++; return e.Seq%2 == 0 }}, func(e *shannon.Event) bool { return e.Seq%2 == 0 }},
		{"after", shannon.EventFilter{After: all[1].Seq}, func(e *shannon.Event) bool { return e.Seq > all[1].Seq }},
		{"after the last", shannon.EventFilter{After: all[len(all)-1].Seq}, func(*shannon.Event) bool { return false }},
	}
	for _, tt := range tests {
		var want []uint64
		for i := range all {
			if tt.pass(&all[i]) {
				want = append(want, all[i].Seq)
			}
		}
		var got []uint64
		for _, e := range s.collect(t, tt.f) {
			got = append(got, e.Seq)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: events %v, want %v", tt.name, got, want)
		}
	}
	if asked == 0 {
		t.Error("the predicate was not asked")
	}
	if !slices.Contains(eventNames(s.collect(t, shannon.EventFilter{MinPriority: shannon.PriorityHigh})), shannon.EventConnected) {
		t.Error("that a server is connected is not of high priority")
	}
}

func testEventsResume(t *testing.T, s *suite) {
	s.life(t)
	all := s.collect(t, shannon.EventFilter{})
	var got []shannon.Event
	for e, err := range s.m.Events(s.ctx, shannon.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, e); len(got) == 2 {
			break
		}
	}
	got = append(got, s.collect(t, shannon.EventFilter{After: got[1].Seq})...)
	if a, b := text(t, all), text(t, got); a != b {
		t.Errorf("in two parts they are others:\n%s\n%s", a, b)
	}
}

func testEventsFollow(t *testing.T, s *suite) {
	s.add(t, s.server("kept"))
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	got := make(chan string)
	ended := make(chan error, 1)
	go func() {
		var last error
		for e, err := range s.m.Events(ctx, shannon.EventFilter{Name: shannon.EventAdded, Follow: true}) {
			if last = err; err == nil {
				got <- fmt.Sprint(e.Data["name"])
			}
		}
		ended <- last
	}()
	next := func() (name string) {
		within(t, "an event", func() { name = <-got })
		return name
	}
	if name := next(); name != "kept" {
		t.Errorf("the first is %q, not what was kept", name)
	}
	for _, want := range []string{"new1", "new2"} {
		s.add(t, s.server(want))
		if name := next(); name != want {
			t.Errorf("the next is %q, want %q", name, want)
		}
	}
	cancel()
	within(t, "the end of following", func() {
		if err := <-ended; err != nil {
			t.Errorf("that the context ended is no error: %v", err)
		}
	})
	within(t, "leaving the loop", func() {
		for _, err := range s.m.Events(s.ctx, shannon.EventFilter{Follow: true}) {
			if err != nil {
				t.Errorf("events: %v", err)
			}
			break
		}
	})
}

// many is more than a manager keeps for a subscriber.
const many = 1500

func testEventsLagged(t *testing.T, s *suite) {
	s.add(t, s.server("busy"))
	var events []shannon.Event
	stuck, released := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range s.m.Events(ctx, shannon.EventFilter{Follow: true}) {
			if err != nil {
				t.Errorf("events: %v", err)
				return
			}
			if events = append(events, e); len(events) == 1 {
				close(stuck)
				<-released
			}
			if e.Name == shannon.EventAdded && e.Data["name"] == "last" {
				return
			}
		}
	}()
	within(t, "the first event", func() { <-stuck })
	within(t, "a manager that a slow subscriber does not delay", func() {
		for i := range many {
			if _, err := s.m.UpdateServer(s.ctx, "busy", fmt.Appendf(nil, `{"title":"%d"}`, i)); err != nil {
				t.Errorf("update: %v", err)
				return
			}
		}
	})
	s.add(t, s.server("last"))
	close(released)
	within(t, "the last event", func() { <-done })
	checkLagged(t, events)
}

// checkLagged checks that every gap in the numbers is told of.
func checkLagged(t *testing.T, events []shannon.Event) {
	t.Helper()
	var last, missed uint64
	lagged := 0
	for _, e := range events {
		if e.Name == shannon.EventLagged {
			lagged++
			if _, err := fmt.Sscan(fmt.Sprint(e.Data["missed"]), &missed); err != nil || missed == 0 {
				t.Errorf("it does not say how many were missed: %v", e.Data)
			}
			continue
		}
		if last > 0 && e.Seq != last+1+missed {
			t.Fatalf("event %d follows event %d, and %d were told as missed", e.Seq, last, missed)
		}
		last, missed = e.Seq, 0
	}
	if lagged != 1 {
		t.Errorf("a subscriber that missed events was told %d times", lagged)
	}
}

func testLogs(t *testing.T, s *suite) {
	s.connected(t, "one")
	var lines []shannon.LogLine
	eventually(t, "what the server wrote to its standard error", func() bool {
		lines = s.logs(t, shannon.LogFilter{})
		return slices.ContainsFunc(lines, func(l shannon.LogLine) bool {
			return l.Source == "stderr" && strings.Contains(l.Text, s.Stderr)
		})
	})
	for i, l := range lines {
		if l.Time.IsZero() || l.Source == "" || (i > 0 && l.Time.Before(lines[i-1].Time)) {
			t.Errorf("line %d: %v", i, l)
		}
	}
	if one := s.logs(t, shannon.LogFilter{Lines: 1}); len(one) != 1 {
		t.Errorf("one line at most: %v", one)
	}
}

func (s *suite) logs(t *testing.T, f shannon.LogFilter) []shannon.LogLine {
	t.Helper()
	var lines []shannon.LogLine
	for l, err := range s.m.Logs(s.ctx, "one", f) {
		if err != nil {
			t.Fatalf("logs: %v", err)
		}
		lines = append(lines, l)
	}
	return lines
}

func testLogsFollow(t *testing.T, s *suite) {
	s.connected(t, "one")
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	got, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() {
		var last error
		for l, err := range s.m.Logs(ctx, "one", shannon.LogFilter{Follow: true}) {
			if last = err; err == nil && strings.Contains(l.Text, s.Stderr) {
				got <- struct{}{}
			}
		}
		ended <- last
	}()
	within(t, "the line of the first start", func() { <-got })
	if _, err := s.m.Restart(s.ctx, "one"); err != nil {
		t.Fatal(err)
	}
	within(t, "the line of the second start", func() { <-got })
	cancel()
	within(t, "the end of following", func() {
		if err := <-ended; err != nil {
			t.Errorf("that the context ended is no error: %v", err)
		}
	})
}
