package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
)

func record(t *testing.T, s *Store, row shannon.Transition) int64 {
	t.Helper()
	id, err := s.Record(t.Context(), row)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func history(t *testing.T, s *Store, f shannon.HistoryFilter) []shannon.Transition {
	t.Helper()
	rows, err := s.History(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func ids(rows []shannon.Transition) []int64 {
	out := []int64{}
	for _, r := range rows {
		out = append(out, r.ID)
	}
	return out
}

func TestRecordRoundTripAndClose(t *testing.T) {
	s := open(t, dbPath(t))
	at := time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC)
	full := shannon.Transition{
		ServerID: "a", Server: "git", State: shannon.StateError, Cause: "exit", Problem: shannon.CodeCrashLoop, Error: "died",
		Attempt: 3, Era: shannon.EraModern, Version: "2026-07-28", PID: 42, Command: "/bin/x", HandshakeMS: 17, ExitCode: new(0),
		Signal: "killed", Stderr: "a\nb", ConnectedAt: &at, NextRetry: new(at.Add(time.Minute)),
	}
	full.ID = record(t, s, full)
	other := shannon.Transition{ServerID: "b", State: shannon.StateConnected, ConnectedAt: new(at.Add(time.Second))}
	other.ID = record(t, s, other)
	if diff := cmp.Diff([]shannon.Transition{other, full}, history(t, s, shannon.HistoryFilter{})); diff != "" {
		t.Errorf("history: %s", diff)
	}
	next := shannon.Transition{ServerID: "a", State: shannon.StateConnecting, ConnectedAt: new(at.Add(1500 * time.Millisecond))}
	next.ID = record(t, s, next)
	full.DisconnectedAt, full.Duration = next.ConnectedAt, new(1.5)
	// The clock is set back.
	last := shannon.Transition{ServerID: "a", State: shannon.StateConnected, ConnectedAt: new(at.Add(-time.Hour))}
	last.ID = record(t, s, last)
	next.DisconnectedAt, next.Duration = last.ConnectedAt, new(0.0)
	if diff := cmp.Diff([]shannon.Transition{last, next, other, full}, history(t, s, shannon.HistoryFilter{})); diff != "" {
		t.Errorf("history: %s", diff)
	}
}

func TestRecordIsNowByDefault(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := Open(t.Context(), Options{Path: dbPath(t), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	record(t, s, shannon.Transition{ServerID: "a", State: shannon.StateConnecting})
	if got := history(t, s, shannon.HistoryFilter{})[0].ConnectedAt; got == nil || !got.Equal(now) {
		t.Errorf("began at %v", got)
	}
}

func TestHistoryFilter(t *testing.T) {
	s := open(t, dbPath(t))
	server := shannon.NewServer("now")
	server.ID, server.Transport = "a", shannon.TransportStdio
	if _, err := s.Insert(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rows := []shannon.Transition{
		{ServerID: "a", Server: "then", State: shannon.StateConnecting},
		{ServerID: "a", Server: "then", State: shannon.StateConnected},
		{ServerID: "b", Server: "other", State: shannon.StateConnecting},
		{ServerID: "a", Server: "now", State: shannon.StateError},
		{ServerID: "gone", Server: "now", State: shannon.StateError}, // an earlier holder of the name
	}
	for i := range rows {
		rows[i].ConnectedAt = new(at.Add(time.Duration(i) * time.Second))
		record(t, s, rows[i])
	}
	for name, tc := range map[string]struct {
		filter shannon.HistoryFilter
		want   []int64
	}{
		"all":               {shannon.HistoryFilter{}, []int64{5, 4, 3, 2, 1}},
		"limit":             {shannon.HistoryFilter{Limit: 2}, []int64{5, 4}},
		"name":              {shannon.HistoryFilter{Server: "now"}, []int64{5, 4, 2, 1}},
		"former name":       {shannon.HistoryFilter{Server: "then"}, []int64{4, 2, 1}},
		"id":                {shannon.HistoryFilter{Server: "b"}, []int64{3}},
		"id of removed":     {shannon.HistoryFilter{Server: "gone"}, []int64{5}},
		"unknown":           {shannon.HistoryFilter{Server: "nix"}, []int64{}},
		"state":             {shannon.HistoryFilter{State: shannon.StateConnecting}, []int64{3, 1}},
		"state and server":  {shannon.HistoryFilter{State: shannon.StateConnecting, Server: "then"}, []int64{1}},
		"since":             {shannon.HistoryFilter{Since: at.Add(2 * time.Second)}, []int64{5, 4, 3}},
		"since, fine":       {shannon.HistoryFilter{Since: at.Add(2*time.Second + 1)}, []int64{5, 4}},
		"since, other zone": {shannon.HistoryFilter{Since: at.Add(3 * time.Second).In(time.FixedZone("", 20*3600))}, []int64{5, 4}},
	} {
		if diff := cmp.Diff(tc.want, ids(history(t, s, tc.filter))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if _, err := s.Delete(t.Context(), "now"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{5, 4, 2, 1}, ids(history(t, s, shannon.HistoryFilter{Server: "now"}))); diff != "" {
		t.Errorf("after removal: %s", diff)
	}
}

func TestPrune(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	path := dbPath(t)
	pythonDB(t, path)
	s, err := Open(t.Context(), Options{Path: path, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before := len(history(t, s, shannon.HistoryFilter{Limit: 1000}))
	for i := range 150 { // one a day, the last one today; each ends the one before
		record(t, s, shannon.Transition{ServerID: "busy", State: shannon.StateConnected, ConnectedAt: new(now.AddDate(0, 0, i-149))})
	}
	for i := range 10 {
		record(t, s, shannon.Transition{ServerID: "quiet", State: shannon.StateConnected, ConnectedAt: new(now.AddDate(-1, 0, i))})
	}
	for _, tc := range []struct{ keepDays, deleted, left int }{
		{1000, 0, 160},
		{120, 28, 132}, // those that ended on days -148 to -121
		{30, 22, 110},  // all beyond the last 100 of each
		{0, 0, 110},
	} {
		n, err := s.Prune(t.Context(), time.Duration(tc.keepDays)*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		left := len(history(t, s, shannon.HistoryFilter{Limit: 1000})) - before
		if n != tc.deleted || left != tc.left {
			t.Errorf("keeping %d days: %d deleted and %d left, want %d and %d", tc.keepDays, n, left, tc.deleted, tc.left)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	s, err := Open(b.Context(), Options{Path: b.TempDir() + "/x.db"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if _, err := s.Record(b.Context(), shannon.Transition{ServerID: "a", State: shannon.StateConnected}); err != nil {
			b.Fatal(err)
		}
	}
}
