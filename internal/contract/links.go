package contract

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
)

func testConnect(t *testing.T, s *suite) {
	st := s.connected(t, "one")
	checkConnected(t, "one", st)
	again := s.connect(t, "one")
	if again.PID != st.PID || !again.ConnectedAt.Equal(*st.ConnectedAt) {
		t.Errorf("connecting again made another connection: pid %d, then %d", st.PID, again.PID)
	}
	seen, err := s.m.Status(s.ctx, "one")
	if err != nil {
		t.Fatal(err)
	}
	checkConnected(t, "one", seen)
	if seen.PID != st.PID {
		t.Errorf("the status is that of pid %d, not %d", seen.PID, st.PID)
	}
	if _, err := s.m.UpdateServer(s.ctx, "one", json.RawMessage(`{"title":"x"}`)); err != nil {
		t.Fatal(err)
	}
	if after := s.connect(t, "one"); after.PID != st.PID {
		t.Error("a change of the title made the connection anew")
	}
	if _, err := s.m.UpdateServer(s.ctx, "one", json.RawMessage(`{"env":{"ADDED":"x"}}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a connection with the new definition", func() bool {
		st2, err := s.m.Status(s.ctx, "one")
		return err == nil && st2.State == shannon.StateConnected && st2.PID != st.PID
	})
}

func checkConnected(t *testing.T, name string, st shannon.Status) {
	t.Helper()
	if st.State != shannon.StateConnected || st.Problem != nil || !st.Healthy || !st.Enabled {
		t.Errorf("not plainly connected: %s", text(t, st))
	}
	if st.Server != name || st.ServerID == "" || st.Transport != shannon.TransportStdio || st.PID <= 0 ||
		st.Era == "" || st.Version == "" || st.Tools == 0 {
		t.Errorf("something is not known: %s", text(t, st))
	}
	if st.ConnectedAt == nil || st.Since.IsZero() || time.Since(st.Since) > time.Hour {
		t.Fatalf("since when is not known: %s", text(t, st))
	}
}

func testConnectRefuses(t *testing.T, s *suite) {
	s.add(t, s.server("disabled"))
	_, err := s.m.Connect(s.ctx, "disabled")
	wantCode(t, "a disabled server", err, shannon.CodeDisabled)
	_, err = s.m.Restart(s.ctx, "disabled")
	wantCode(t, "restart of a disabled server", err, shannon.CodeDisabled)

	missing := s.server("missing")
	missing.Command, missing.Enabled, missing.Start = "shannon-contract-no-such-command", true, shannon.StartLazy
	s.add(t, missing)
	_, err = s.m.Connect(s.ctx, "missing")
	wantCode(t, "a command that is not there", err, shannon.CodeCommandNotFound)
	st, err := s.m.Status(s.ctx, "missing")
	if err != nil || st.State == shannon.StateConnected || st.Problem == nil || st.Problem.Code != shannon.CodeCommandNotFound ||
		st.LastError == "" || st.Healthy {
		t.Errorf("its status does not say so: %s, %v", text(t, st), err)
	}
}

func testDisconnect(t *testing.T, s *suite) {
	s.connected(t, "one")
	for _, want := range []bool{true, false} {
		was, err := s.m.Disconnect(s.ctx, "one")
		if err != nil || was != want {
			t.Errorf("disconnect: %v, %v; want %v", was, err, want)
		}
		st, err := s.m.Status(s.ctx, "one")
		if err != nil || st.State != shannon.StateDisconnected || st.Healthy || st.PID != 0 ||
			st.Problem == nil || st.Problem.Code != shannon.CodeDisconnected {
			t.Errorf("afterwards: %s, %v", text(t, st), err)
		}
	}
	if _, err := s.m.CallTool(s.ctx, "one", s.Tool.Name, json.RawMessage(s.Tool.In)); err == nil {
		t.Error("a call connected a server that the user had disconnected")
	}
	checkConnected(t, "one", s.connect(t, "one"))
}

func testRestart(t *testing.T, s *suite) {
	first := s.connected(t, "one")
	second, err := s.m.Restart(s.ctx, "one")
	if err != nil {
		t.Fatal(err)
	}
	checkConnected(t, "one", second)
	if first.PID == second.PID {
		t.Error("it is the same process")
	}
	if _, err := s.m.Disconnect(s.ctx, "one"); err != nil {
		t.Fatal(err)
	}
	third, err := s.m.Restart(s.ctx, "one")
	if err != nil {
		t.Fatalf("restart of a disconnected server: %v", err)
	}
	checkConnected(t, "one", third)
}

func testStatus(t *testing.T, s *suite) {
	if all, err := s.m.Statuses(s.ctx); err != nil || len(all) != 0 {
		t.Errorf("a new manager has %d states, %v", len(all), err)
	}
	s.add(t, s.server("b"))
	s.connected(t, "a")
	s.add(t, s.server("c"))
	all, err := s.m.Statuses(s.ctx)
	if err != nil || len(all) != 3 || all[0].Server != "a" || all[1].Server != "b" || all[2].Server != "c" {
		t.Fatalf("not every connection, by name: %s, %v", text(t, all), err)
	}
	checkConnected(t, "a", all[0])
	one, err := s.m.Status(s.ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range []shannon.Status{all[1], one} {
		if st.State != shannon.StateDisconnected || st.Enabled || st.Problem == nil || st.Problem.Code != shannon.CodeDisabled {
			t.Errorf("a disabled server: %s", text(t, st))
		}
	}
}

func testSummary(t *testing.T, s *suite) {
	s.add(t, s.server("b"))
	s.connected(t, "a")
	sum, err := s.m.Summary(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if sum.TotalServers != 2 || sum.ConnectedServers != 1 || sum.PID <= 0 || sum.StartedAt.IsZero() || sum.Phase != shannon.PhaseRunning {
		t.Errorf("summary: %s", text(t, sum))
	}
}
