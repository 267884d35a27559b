package supervisor

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// TestSilentServer: a server that stays silent may be one that the probe has broken,
// so every other attempt begins without it.
func TestSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) {
				return nil, shannon.Errorf(shannon.CodeHandshakeTimeout, "", "not within 30 s")
			}
		})
		time.Sleep(20 * time.Second)
		r.mu.Lock()
		got := slices.Clone(r.known[:4])
		r.mu.Unlock()
		for i, known := range got {
			if plain := slices.Equal(known, legacyOnly); plain != (i%2 == 1) {
				t.Errorf("attempt %d begins with %v", i+1, known)
			}
		}
	})
}

func TestEagerStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		st := r.wantState(shannon.StateConnected, "")
		now := time.Now().UTC()
		want := shannon.Status{
			Server: "fake", ServerID: "id-1", Transport: shannon.TransportStdio, Enabled: true,
			State: shannon.StateConnected, Since: now, Healthy: true, Era: shannon.EraLegacy, Eras: legacyOnly,
			Version: "2025-11-25", ServerInfo: "fake 1.0", PID: 42, Command: "/bin/fake", HandshakeMS: 5, Tools: 1,
			ConnectedAt: &now, LastSeen: &now,
		}
		if d := cmp.Diff(want, st); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		r.wantRows(0, "connecting start", "connected start")
		if row := r.row(1); row.Era != shannon.EraLegacy || row.Version == "" || row.PID != 42 || row.Command == "" || row.HandshakeMS != 5 || row.NextRetry != nil {
			t.Errorf("the row says too little: %+v", row)
		}
		if d := cmp.Diff([][]string{{"one"}}, r.offers); d != "" {
			t.Errorf("offers: %s", d)
		}
	})
}

func TestTakenUp(t *testing.T) {
	known := &Known{Eras: both, Tools: [][]byte{[]byte(`{"name":"remembered"}`)}}
	tests := []struct {
		name    string
		change  func(*shannon.Server, *Options)
		state   shannon.State
		problem shannon.Code
		tools   int
	}{
		{"eager", func(_ *shannon.Server, o *Options) { o.Known = known }, shannon.StateConnected, "", 1},
		{"lazy and known", func(s *shannon.Server, o *Options) { s.Start, o.Known = shannon.StartLazy, known }, shannon.StateDisconnected, shannon.CodeIdle, 1},
		{"lazy and never seen", func(s *shannon.Server, _ *Options) { s.Start = shannon.StartLazy }, shannon.StateConnected, "", 1},
		{"passive", func(_ *shannon.Server, o *Options) { o.Passive = true }, shannon.StateDisconnected, "", 0},
		{"passive and known", func(_ *shannon.Server, o *Options) { o.Passive, o.Known = true, known }, shannon.StateDisconnected, "", 1},
		{"disabled", func(s *shannon.Server, _ *Options) { s.Enabled = false }, shannon.StateDisconnected, shannon.CodeDisabled, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := server()
				var o Options
				tt.change(&s, &o)
				r := rigFor(t, s, func(_ *rig, to *Options) { to.Known, to.Passive = o.Known, o.Passive })
				if st := r.wantState(tt.state, tt.problem); st.Tools != tt.tools {
					t.Errorf("%d tools, want %d", st.Tools, tt.tools)
				}
				time.Sleep(time.Hour)
				r.wantState(tt.state, tt.problem)
				if tt.state == shannon.StateDisconnected {
					if n := r.dialled(); n != 0 {
						t.Errorf("it was started %d times without need", n)
					}
				} else if o.Known != nil && len(r.known[0]) != 2 {
					t.Error("the dialer was not told what is known")
				}
				_, err := r.call("")
				if !s.Enabled {
					wantCode(t, err, shannon.CodeDisabled)
				} else if err != nil {
					t.Errorf("a call does not start it: %v", err)
				}
			})
		})
	}
}

// TestFirstFailureIsRetried is what was wrong in the Python manager as number 13:
// a server whose first connect failed was never tried again.
func TestFirstFailureIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) { r.dial = refuse })
		for i, delay := range []time.Duration{1, 2, 4, 8} {
			st := r.wantState(shannon.StateError, shannon.CodeUnreachable)
			if want := time.Now().Add(delay * time.Second); st.NextRetry == nil || !st.NextRetry.Equal(want) {
				t.Errorf("next retry at %v, want %v", st.NextRetry, want)
			}
			if st.ReconnectAttempts != i+1 || st.LastError == "" || st.ConnectedAt != nil || !st.Since.Equal(time.Now()) {
				t.Errorf("attempt %d: %+v", i+1, st)
			}
			time.Sleep(delay*time.Second - 1)
			if r.dialled() != i+1 {
				t.Errorf("%d dials before the delay has passed, want %d", r.dialled(), i+1)
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
		}
		r.reach(func(context.Context, shannon.Era) (*peer, error) { return newPeer(shannon.EraLegacy, legacyOnly), nil })
		time.Sleep(16 * time.Second)
		if st := r.wantState(shannon.StateConnected, ""); st.LastError != "" || st.NextRetry != nil {
			t.Errorf("left over: %+v", st)
		}
		r.wantRows(0, "connecting start", "error start unreachable", "reconnecting retry", "error retry unreachable",
			"reconnecting retry", "error retry unreachable", "reconnecting retry", "error retry unreachable",
			"reconnecting retry", "error retry unreachable", "reconnecting retry", "connected retry")
	})
}

func TestParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusal := shannon.Errorf(shannon.CodeNeedsAuth, "", "wants credentials")
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) { return nil, refusal }
		})
		if st := r.wantState(shannon.StateError, shannon.CodeNeedsAuth); st.NextRetry != nil {
			t.Errorf("it will be tried again: %v", st.NextRetry)
		}
		time.Sleep(48 * time.Hour)
		for range 5 { // what was refused is refused, whoever calls
			_, err := r.call("")
			wantCode(t, err, shannon.CodeServerDown)
			time.Sleep(time.Minute)
		}
		if n := r.dialled(); n != 1 {
			t.Errorf("%d dials of a server that wants credentials", n)
		}
		_, err := r.Connect(t.Context())
		wantCode(t, err, shannon.CodeNeedsAuth)
		r.reach(func(context.Context, shannon.Era) (*peer, error) { return newPeer(shannon.EraLegacy, legacyOnly), nil })
		s := server()
		s.Env = map[string]shannon.Secret{"TOKEN": "x"}
		if err := r.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		r.wantState(shannon.StateConnected, "")
	})
}

func TestRetryAfterIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusal := shannon.Errorf(shannon.CodeQuota, "", "too many: %w", vendor{time.Hour})
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) { return nil, refusal }
		})
		for range 59 {
			_, err := r.call("")
			wantCode(t, err, shannon.CodeServerDown)
			time.Sleep(time.Minute)
		}
		if n := r.dialled(); n != 1 {
			t.Errorf("%d dials before the vendor's time", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := r.dialled(); n != 2 {
			t.Errorf("%d dials after the vendor's time", n)
		}
	})
}

func TestCrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		for i := range 5 {
			r.wantState(shannon.StateConnected, "")
			r.last().crash()
			want := shannon.CodeExited
			if i == 4 {
				want = shannon.CodeCrashLoop
			}
			st := r.wantState(shannon.StateReconnecting, want)
			time.Sleep(time.Until(*st.NextRetry))
		}
		row := r.row(2)
		if row.Cause != "exit" || row.ExitCode == nil || *row.ExitCode != 3 || row.Stderr != "oops" || row.PID != 42 || row.NextRetry == nil {
			t.Errorf("the row of an exit says too little: %+v", row)
		}
		// A connection that lasts proves that the trouble has passed.
		time.Sleep(stable)
		r.last().crash()
		if st := r.wantState(shannon.StateReconnecting, shannon.CodeExited); st.ReconnectAttempts != 1 {
			t.Errorf("%d attempts", st.ReconnectAttempts)
		}
	})
}

// TestCrashLoopDespiteHealth lets a server answer a health check each time before
// it crashes.
func TestCrashLoopDespiteHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server()
		s.HealthCheckInterval = shannon.Seconds(1)
		r := rigFor(t, s, nil)
		for range 6 {
			time.Sleep(5 * time.Second)
			r.last().crash()
			synctest.Wait()
			st := r.Status()
			time.Sleep(time.Until(*st.NextRetry))
			synctest.Wait()
		}
		r.last().crash()
		r.wantState(shannon.StateReconnecting, shannon.CodeCrashLoop)
	})
}

// TestDayOfFailures counts what a unit really does in the two days after it began.
func TestDayOfFailures(t *testing.T) {
	for name, up := range map[string]time.Duration{"at once": 0, "when it looks cured": stable} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := server()
				s.RetryDelay = 0
				r := rigFor(t, s, func(r *rig, _ *Options) {
					r.dial = func(context.Context, shannon.Era) (*peer, error) {
						p := newPeer(shannon.EraLegacy, legacyOnly)
						time.AfterFunc(up, p.crash)
						return p, nil
					}
				})
				time.Sleep(24 * time.Hour)
				first := r.dialled()
				time.Sleep(24 * time.Hour)
				if second := r.dialled() - first; first > 301 || second > 300 || second < 200 {
					t.Errorf("%d and %d attempts", first, second)
				}
			})
		})
	}
}

func TestCallDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server()
		s.RetryDelay = shannon.Seconds(60)
		r := rigFor(t, s, func(r *rig, _ *Options) { r.dial = refuse })
		began := time.Now()
		_, err := r.call("") // the one that may try
		wantCode(t, err, shannon.CodeServerDown)
		if n := r.dialled(); n != 2 {
			t.Errorf("%d dials, want one for the first call", n)
		}
		_, err = r.call("")
		e := wantCode(t, err, shannon.CodeServerDown)
		next := r.Status().NextRetry
		if next == nil || !strings.Contains(e.Hint, next.Format(time.RFC3339)) || e.MayHaveRun {
			t.Errorf("the error does not say when it is tried again (%v): %+v", next, e)
		}
		if time.Since(began) != 0 {
			t.Error("a call during backoff waits")
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 39 { // 39 s
					_, _ = r.call("")
					time.Sleep(time.Second)
				}
			})
		}
		wg.Wait()
		if n := r.dialled(); n != 2+3 {
			t.Errorf("%d dials in 39 s of calls, want one in 10 s", n-2)
		}
	})
}

// TestCallWaitsForAnAttempt makes sure that a call that waited for an attempt that
// fails gets that failure, and does not make one of its own on top.
func TestCallWaitsForAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) {
				time.Sleep(20 * time.Second)
				return nil, errRefused
			}
		})
		began := time.Now()
		_, err := r.call("")
		wantCode(t, err, shannon.CodeServerDown)
		if d := time.Since(began); d != 20*time.Second || r.dialled() != 1 {
			t.Errorf("%d dials after %s", r.dialled(), d)
		}
	})
}

// TestConcurrentConnects is what was wrong in the Python manager as number 18:
// connect looked at the connection before it took its lock.
func TestConcurrentConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server()
		s.Enabled = false
		r := rigFor(t, s, func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) {
				time.Sleep(time.Second)
				return newPeer(shannon.EraModern, both, "one"), nil
			}
		})
		_, err := r.Connect(t.Context())
		wantCode(t, err, shannon.CodeDisabled)
		_, err = r.Restart(t.Context())
		wantCode(t, err, shannon.CodeDisabled)
		r.wantState(shannon.StateDisconnected, shannon.CodeDisabled)
		if err := r.Update(t.Context(), server()); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if st, err := r.Connect(t.Context()); err != nil || st.State != shannon.StateConnected {
					t.Errorf("connect: %+v %v", st, err)
				}
			})
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 25 * time.Millisecond)
				if _, err := r.call(""); err != nil {
					t.Error(err)
				}
				if _, err := r.Info(t.Context(), shannon.EraModern); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := r.dialled(); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

// TestNeedSeesWhatIsThere posts, as a call does whose snapshot is stale, for a peer
// that has come meanwhile.
func TestNeedSeesWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		for _, era := range []shannon.Era{"", shannon.EraLegacy, shannon.EraModern} {
			if err := r.post(t.Context(), func(l *loop) {
				if a, err := l.need(era, false); a != nil || err != nil {
					t.Errorf("%q: %v %v", era, a, err)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := r.dialled(); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

func TestConnectTriesNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server()
		s.RetryDelay = shannon.Seconds(60)
		r := rigFor(t, s, func(r *rig, _ *Options) { r.dial = refuse })
		st, err := r.Connect(t.Context())
		wantCode(t, err, shannon.CodeUnreachable)
		if r.dialled() != 2 || st.State != shannon.StateError || st.NextRetry == nil {
			t.Errorf("%d dials, %+v", r.dialled(), st)
		}
		r.reach(func(context.Context, shannon.Era) (*peer, error) { return newPeer(shannon.EraLegacy, legacyOnly), nil })
		st, err = r.Connect(t.Context())
		if err != nil || st.State != shannon.StateConnected || st.NextRetry != nil || st.LastError != "" || st.Problem != nil {
			t.Errorf("%+v %v", st, err)
		}
		time.Sleep(time.Hour)
		if n := r.dialled(); n != 3 {
			t.Errorf("%d dials: the retry was not called off", n)
		}
		r.wantRows(2, "reconnecting connect", "error connect unreachable", "reconnecting connect", "connected connect")
	})
}

func TestDisconnectStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		p := r.last()
		p.slow = 3 * time.Second
		began := time.Now()
		if was, err := r.Disconnect(t.Context()); !was || err != nil {
			t.Errorf("%v %v", was, err)
		}
		if time.Since(began) != p.slow || p.closes.Load() != 1 {
			t.Error("Disconnect returned before the peer was gone")
		}
		st := r.wantState(shannon.StateDisconnected, shannon.CodeDisconnected)
		if st.PID != 0 || st.ConnectedAt != nil || st.Healthy || st.Era != "" {
			t.Errorf("left over: %+v", st)
		}
		time.Sleep(time.Hour)
		_, err := r.call("")
		wantCode(t, err, shannon.CodeServerDown)
		wantCode(t, r.Notify(t.Context(), "", "x", nil), shannon.CodeServerDown)
		if was, err := r.Disconnect(t.Context()); was || err != nil {
			t.Errorf("again: %v %v", was, err)
		}
		s := server()
		s.Timeout = shannon.Seconds(5)
		s.Args = []string{"changed"}
		if err := r.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r.wantState(shannon.StateDisconnected, shannon.CodeDisconnected)
		if n := r.dialled(); n != 1 {
			t.Errorf("%d dials of a server that was disconnected", n)
		}
		if _, err := r.Connect(t.Context()); err != nil {
			t.Error(err)
		}
		r.wantState(shannon.StateConnected, "")
		r.wantRows(0, "connecting start", "connected start", "disconnected disconnect disconnected_by_user",
			"connecting connect", "connected connect")
	})
}

func TestDisconnectDuringBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) { r.dial = refuse })
		if was, err := r.Disconnect(t.Context()); was || err != nil {
			t.Errorf("%v %v", was, err)
		}
		if st := r.wantState(shannon.StateDisconnected, shannon.CodeDisconnected); st.NextRetry != nil || st.ReconnectAttempts != 0 {
			t.Errorf("left over: %+v", st)
		}
		time.Sleep(time.Hour)
		if n := r.dialled(); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

// TestDisconnectWhileDialing gives up an attempt and waits until nothing is left of
// it; who waited for it is told.
func TestDisconnectWhileDialing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(ctx context.Context, _ shannon.Era) (*peer, error) {
				<-ctx.Done()
				time.Sleep(2 * time.Second) // the process takes its time to end
				ended = true
				return nil, context.Cause(ctx)
			}
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := r.Connect(t.Context())
			wantCode(t, err, shannon.CodeCanceled)
		})
		wg.Go(func() {
			_, err := r.call("")
			wantCode(t, err, shannon.CodeServerDown)
		})
		synctest.Wait()
		if _, err := r.Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !ended {
			t.Error("Disconnect returned while the attempt was under way")
		}
		wg.Wait()
		r.wantState(shannon.StateDisconnected, shannon.CodeDisconnected)
		r.wantRows(0, "connecting start", "disconnected disconnect disconnected_by_user")
	})
}

// TestLatePeer lets a dial succeed although it was given up: the peer must not stay.
func TestLatePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(ctx context.Context, _ shannon.Era) (*peer, error) {
				<-ctx.Done()
				return newPeer(shannon.EraLegacy, legacyOnly), nil
			}
		})
		if _, err := r.Disconnect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := r.last().closes.Load(); n != 1 {
			t.Errorf("the late peer was closed %d times", n)
		}
		r.wantState(shannon.StateDisconnected, shannon.CodeDisconnected)
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		first := r.last()
		first.slow = time.Second
		r.reach(func(context.Context, shannon.Era) (*peer, error) {
			if first.closes.Load() != 1 {
				t.Error("the new one starts before the old one has ended")
			}
			return newPeer(shannon.EraLegacy, legacyOnly), nil
		})
		st, err := r.Restart(t.Context())
		if err != nil || st.State != shannon.StateConnected || r.last() == first {
			t.Errorf("%+v %v", st, err)
		}
		r.wantRows(2, "disconnected restart", "connecting restart", "connected restart")
		r.reach(refuse)
		_, err = r.Restart(t.Context())
		wantCode(t, err, shannon.CodeUnreachable)
		r.wantState(shannon.StateError, shannon.CodeUnreachable)
	})
}

func TestUpdate(t *testing.T) {
	tests := []struct {
		name   string
		change func(*shannon.Server)
		anew   bool
		rows   []string
	}{
		{"timeouts", func(s *shannon.Server) { s.Timeout, s.RetryCount = shannon.Seconds(1), 9 }, false, nil},
		{"another name", func(s *shannon.Server) { s.Name = "renamed" }, false, nil},
		{"lazy from now on", func(s *shannon.Server) { s.Start = shannon.StartLazy }, false, nil},
		{"definition", func(s *shannon.Server) { s.Args = []string{"-v"} }, true, []string{"disconnected changed", "connecting changed", "connected changed"}},
		{"disabled", func(s *shannon.Server) { s.Enabled = false }, true, []string{"disconnected changed disabled"}},
		{"another lazy one", func(s *shannon.Server) { s.Start, s.Command = shannon.StartLazy, "other" }, true, []string{"disconnected changed idle", "connecting changed", "connected changed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rigFor(t, server(), nil)
				p := r.last()
				s := server()
				tt.change(&s)
				if err := r.Update(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := r.Snapshot().Server; got.Name != s.Name || got.Timeout != s.Timeout || got.Enabled != s.Enabled {
					t.Errorf("not in force: %+v", got)
				}
				if anew := p.closes.Load() > 0; anew != tt.anew {
					t.Errorf("closed: %v", anew)
				}
				r.wantRows(2, tt.rows...)
				p.hooks.Log("stderr", []byte("x"))
				p.hooks.Notification(wire.Envelope{})
				if d := cmp.Diff([]string{s.Name, s.Name}, r.names); d != "" {
					t.Errorf("logs and notifications come under %v, want %s", r.names, s.Name)
				}
			})
		})
	}
}

// TestUpdateOfAnIdleServer makes one eager that rests.
func TestUpdateOfAnIdleServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server()
		s.Start = shannon.StartLazy
		r := rigFor(t, s, func(_ *rig, o *Options) { o.Known = &Known{} })
		r.wantState(shannon.StateDisconnected, shannon.CodeIdle)
		s.Title = "with a title"
		if err := r.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		r.wantState(shannon.StateDisconnected, shannon.CodeIdle)
		s.Start = shannon.StartEager
		if err := r.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		r.wantState(shannon.StateConnected, "")
	})
}

func TestUpdateForgetsTheOldFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) { r.dial = refuse })
		s := server()
		s.Enabled = false
		if err := r.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if st := r.wantState(shannon.StateDisconnected, shannon.CodeDisabled); st.LastError != "" || st.NextRetry != nil || st.ReconnectAttempts != 0 {
			t.Errorf("left over: %+v", st)
		}
		time.Sleep(time.Hour)
		if n := r.dialled(); n != 1 {
			t.Errorf("%d dials of a disabled server", n)
		}
	})
}

// TestRecovery is what was wrong in the Python manager as number 4: the reconnect
// ended itself, and no server ever came back.
func TestRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		for range 3 {
			time.Sleep(time.Minute)
			r.last().crash()
			st := r.wantState(shannon.StateReconnecting, shannon.CodeExited)
			if st.PID != 0 || st.ConnectedAt != nil || st.NextRetry == nil || st.LastError == "" || st.Healthy {
				t.Errorf("a dead server looks like this: %+v", st)
			}
			time.Sleep(time.Second)
			if st := r.wantState(shannon.StateConnected, ""); st.LastError != "" || st.NextRetry != nil {
				t.Errorf("left over: %+v", st)
			}
		}
		r.wantRows(2, "reconnecting exit exited", "reconnecting retry", "connected retry",
			"reconnecting exit exited", "reconnecting retry", "connected retry",
			"reconnecting exit exited", "reconnecting retry", "connected retry")
		if len(r.offers) != 4 {
			t.Errorf("%d offers", len(r.offers))
		}
	})
}

// TestDeadOnArrival lets a server die after the handshake, before it has listed its
// tools: it never was connected.
func TestDeadOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) {
				p := newPeer(shannon.EraLegacy, legacyOnly)
				p.lists = func(string) (string, error) {
					p.crash()
					return "", shannon.Errorf(shannon.CodeConnectionLost, "", "lost")
				}
				return p, nil
			}
		})
		r.wantState(shannon.StateError, shannon.CodeExited)
		r.wantRows(0, "connecting start", "error start exited")
	})
}
