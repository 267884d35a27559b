package supervisor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

func TestPingOnlyWithoutTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		p := r.last()
		for range 30 {
			time.Sleep(50 * time.Second)
			if _, err := r.call(""); err != nil {
				t.Fatal(err)
			}
		}
		if n := p.calls("ping"); n != 0 {
			t.Errorf("%d pings beside traffic", n)
		}
		for range 30 {
			time.Sleep(50 * time.Second)
			p.hooks.Notification(wire.Envelope{Method: "notifications/message"})
		}
		if n := p.calls("ping"); n != 0 {
			t.Errorf("%d pings beside notifications", n)
		}
		time.Sleep(10 * time.Minute)
		if n := p.calls("ping"); n < 9 || n > 11 {
			t.Errorf("%d pings in ten minutes of silence", n)
		}
		st := r.wantState(shannon.StateConnected, "")
		if st.LastPing == nil || time.Since(*st.LastPing) > time.Minute || st.LastSeen == nil || !st.Healthy {
			t.Errorf("%+v", st)
		}
		r.wantRows(2) // pings are no news
	})
}

func TestModernPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) { return newPeer(shannon.EraModern, both), nil }
		})
		time.Sleep(90 * time.Second)
		if p := r.last(); p.calls("server/discover") != 1 || p.calls("ping") != 0 {
			t.Errorf("a modern server was asked %v", p.methods)
		}
	})
}

// TestNobodyThere: a call that finds nobody at the server's address makes the state
// true at once, long before a health check is due.
func TestNobodyThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		first := r.last()
		first.set(func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
			return wire.Reply{}, shannon.Errorf(shannon.CodeUnreachable, "", "connection refused")
		})
		_, err := r.call("")
		wantCode(t, err, shannon.CodeUnreachable)
		synctest.Wait()
		if st := r.Status(); st.State != shannon.StateReconnecting || st.Healthy || st.Problem == nil || st.NextRetry == nil {
			t.Errorf("%+v", st)
		}
		time.Sleep(5 * time.Second)
		r.wantState(shannon.StateConnected, "")
		if r.last() == first {
			t.Error("it is still the old peer")
		}
	})
}

func TestHealthChecksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server()
		s.HealthCheckInterval = 0
		r := rigFor(t, s, nil)
		time.Sleep(24 * time.Hour)
		if st := r.wantState(shannon.StateConnected, ""); r.last().calls("ping") != 0 || !st.Healthy {
			t.Errorf("%v %+v", r.last().methods, st)
		}
		s.HealthCheckInterval = shannon.Seconds(10)
		if err := r.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := r.last().calls("ping"); n < 4 {
			t.Errorf("%d pings after they were switched on", n)
		}
	})
}

// TestUnhealthy replaces a peer that answers no more; that it recovers is number 4
// of what was wrong in the Python manager, that healthy means interval plus 5 s is
// number 12.
func TestUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		first := r.last()
		first.set(silence)
		time.Sleep(64 * time.Second)
		if st := r.Status(); !st.Healthy || st.ErrorCount != 0 {
			t.Errorf("before the limit: %+v", st)
		}
		time.Sleep(2 * time.Second) // the check has taken its 5 s
		if st := r.wantState(shannon.StateConnected, ""); st.Healthy || st.ErrorCount != 1 || st.LastError == "" {
			t.Errorf("after the first failure: %+v", st)
		}
		time.Sleep(2*65*time.Second + 4*time.Second)
		synctest.Wait()
		if r.last() == first || first.closes.Load() != 1 {
			t.Fatal("the peer was not replaced")
		}
		if st := r.wantState(shannon.StateConnected, ""); !st.Healthy || st.ErrorCount != 0 || st.LastError != "" {
			t.Errorf("left over: %+v", st)
		}
		r.wantRows(2, "reconnecting health unhealthy", "reconnecting retry", "connected retry")
		if row := r.row(2); row.Error == "" || row.NextRetry == nil {
			t.Errorf("row %+v", row)
		}
	})
}

// TestApplicationErrors is what was wrong in the Python manager as number 14: an
// error of the application says nothing about the connection.
func TestApplicationErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		r.last().set(rpcError)
		time.Sleep(time.Hour)
		if st := r.wantState(shannon.StateConnected, ""); st.ErrorCount != 0 || !st.Healthy || r.dialled() != 1 {
			t.Errorf("%d dials, %+v", r.dialled(), st)
		}
		for range 10 {
			if _, err := r.call(""); err != nil {
				t.Errorf("an error object is a reply: %v", err)
			}
		}
		r.last().set(func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
			return wire.Reply{}, shannon.Errorf(shannon.CodeTooLarge, "", "too large")
		})
		for range 10 {
			_, err := r.call("")
			wantCode(t, err, shannon.CodeTooLarge)
		}
		r.wantState(shannon.StateConnected, "")
	})
}

// TestPingDuringCall does not count what a single-threaded server does not answer.
func TestPingDuringCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zero := shannon.Duration(0)
		s := server()
		s.RequestTimeout = &zero
		r := rigFor(t, s, nil)
		p := r.last()
		release := make(chan struct{})
		p.set(func(ctx context.Context, q *wire.Request, _ wire.Sink) (wire.Reply, error) {
			if q.Method == "ping" {
				return silence(ctx, q, nil)
			}
			<-release
			return wire.ResultReply([]byte(`{}`))
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := r.call(""); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(2 * time.Hour)
		if st := r.wantState(shannon.StateConnected, ""); st.ErrorCount != 0 || p.calls("ping") < 100 {
			t.Errorf("%d pings, %+v", p.calls("ping"), st)
		}
		close(release)
		wg.Wait()
		time.Sleep(5 * time.Minute)
		if r.dialled() != 2 {
			t.Errorf("%d dials: outside of calls the failures must count", r.dialled())
		}
	})
}

// TestTrafficHeals forgets failed checks once there was traffic: they are no longer
// in a row.
func TestTrafficHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		p := r.last()
		p.set(silence)
		time.Sleep(60*time.Second + 65*time.Second + 6*time.Second)
		if st := r.Status(); st.ErrorCount != 2 {
			t.Fatalf("%+v", st)
		}
		p.hooks.Notification(wire.Envelope{Method: "x"})
		time.Sleep(60 * time.Second)
		if st := r.wantState(shannon.StateConnected, ""); st.ErrorCount != 0 || st.LastError != "" || !st.Healthy {
			t.Errorf("after traffic: %+v", st)
		}
		time.Sleep(65 * time.Second)
		if r.dialled() != 1 {
			t.Error("it was replaced after one failure")
		}
		p.set(nil)
		time.Sleep(2 * time.Minute)
		if st := r.wantState(shannon.StateConnected, ""); st.ErrorCount != 0 || st.LastError != "" {
			t.Errorf("after an answer: %+v", st)
		}
	})
}

func eraDial(t *testing.T, legacy func() (*peer, error)) func(context.Context, shannon.Era) (*peer, error) {
	return func(_ context.Context, want shannon.Era) (*peer, error) {
		switch want {
		case mainDial:
			return newPeer(shannon.EraModern, both, "one"), nil
		case shannon.EraLegacy:
			return legacy()
		}
		t.Errorf("dial of era %q", want)
		return nil, errRefused
	}
}

func TestPeerPerEra(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var legacy *peer
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = eraDial(t, func() (*peer, error) {
				time.Sleep(time.Second)
				legacy = newPeer(shannon.EraLegacy, both)
				return legacy, nil
			})
		})
		var wg sync.WaitGroup
		for range 20 {
			for _, era := range []shannon.Era{shannon.EraLegacy, shannon.EraModern} {
				wg.Go(func() {
					if got, err := r.call(era); err != nil || got != `{"by":"`+string(era)+`"}` {
						t.Errorf("a %s client got %s %v", era, got, err)
					}
				})
			}
		}
		wg.Wait()
		if d := cmp.Diff([]shannon.Era{mainDial, shannon.EraLegacy}, r.dials); d != "" {
			t.Errorf("dials: %s", d)
		}
		if legacy.calls("tools/list") != 0 {
			t.Error("the second peer was listed as well")
		}
		r.wantRows(2) // the main peer stands for the server

		// The second peer's end is no end of the server, and it comes back on need.
		time.Sleep(time.Minute)
		gone := legacy
		legacy.crash()
		r.wantState(shannon.StateConnected, "")
		if got, err := r.call(shannon.EraLegacy); err != nil || got != `{"by":"legacy"}` || gone == legacy {
			t.Errorf("%s %v", got, err)
		}
		// With the main peer it ends, too.
		r.peers[0].crash()
		r.wantState(shannon.StateReconnecting, shannon.CodeExited)
		if legacy.closes.Load() != 1 {
			t.Error("the second peer has outlived the main one")
		}
	})
}

func TestBridgedWhereThereIsNoPeer(t *testing.T) {
	for name, legacy := range map[string]func() (*peer, error){
		"it cannot be reached":    func() (*peer, error) { return nil, errRefused },
		"it is of the other era":  func() (*peer, error) { return newPeer(shannon.EraModern, both), nil },
		"it dies again and again": func() (*peer, error) { p := newPeer(shannon.EraLegacy, both); p.crash(); return p, nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rigFor(t, server(), func(r *rig, _ *Options) { r.dial = eraDial(t, legacy) })
				for range 20 {
					if got, err := r.call(shannon.EraLegacy); err != nil || got != `{"by":"modern"}` {
						t.Errorf("got %s %v", got, err)
					}
				}
				if n := r.dialled(); n != 2 {
					t.Errorf("%d dials", n)
				}
				if st := r.wantState(shannon.StateConnected, ""); !slices.Equal(st.Eras, []shannon.Era{shannon.EraModern}) {
					t.Errorf("eras %v", st.Eras)
				}
			})
		})
	}
}

func TestUnsentCallIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		r.last().crash() // and nobody has noticed
		if got, err := r.call(""); err != nil || got == "" {
			t.Errorf("a call that was not sent: %s %v", got, err)
		}
		sent := 0
		r.last().set(func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
			sent++
			e := shannon.Errorf(shannon.CodeConnectionLost, "", "lost")
			e.MayHaveRun = true
			return wire.Reply{}, e
		})
		_, err := r.call("")
		if e := wantCode(t, err, shannon.CodeConnectionLost); !e.MayHaveRun || sent != 1 {
			t.Errorf("sent %d times: %+v", sent, e)
		}
		r.last().set(func(context.Context, *wire.Request, wire.Sink) (wire.Reply, error) {
			sent++
			return wire.Reply{}, shannon.Errorf(shannon.CodeServerDown, "", "not sent")
		})
		_, err = r.call("")
		if wantCode(t, err, shannon.CodeServerDown); sent != 3 {
			t.Errorf("tried %d times, want twice", sent-1)
		}
	})
}

type sink struct{}

func (sink) Deliver(wire.Notification) {}

func TestTimeLimits(t *testing.T) {
	minute := shannon.Seconds(60)
	tests := []struct {
		name     string
		own      *shannon.Duration
		token    bool
		progress int // every 50 s
		want     time.Duration
	}{
		{"the manager's", nil, false, 0, time.Minute},
		{"its own", &[]shannon.Duration{shannon.Seconds(7)}[0], false, 0, 7 * time.Second},
		{"progress restarts it", &minute, true, 5, 5*50*time.Second + time.Minute},
		{"not of those that want none", &minute, false, 5, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := server()
				s.RequestTimeout = tt.own
				r := rigFor(t, s, nil)
				r.last().set(func(ctx context.Context, q *wire.Request, to wire.Sink) (wire.Reply, error) {
					for range tt.progress {
						select {
						case <-time.After(50 * time.Second):
							to.Deliver(wire.Notification{})
						case <-ctx.Done():
						}
					}
					return silence(ctx, q, to)
				})
				params := `{"name":"one"}`
				if tt.token {
					params = `{"name":"one","_meta":{"progressToken":1}}`
				}
				q, err := wire.Author(&wire.Client{}, "tools/call", []byte(params))
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				_, err = r.Relay(t.Context(), q, sink{})
				if e := wantCode(t, err, shannon.CodeTimeout); !e.MayHaveRun || !strings.Contains(e.Hint, "request_timeout=") {
					t.Errorf("%+v", e)
				}
				if d := time.Since(began); d != tt.want {
					t.Errorf("after %s, want %s", d, tt.want)
				}
			})
		})
	}
}

func TestTimeLimitOfRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		r.last().set(silence)
		q, err := wire.Author(&wire.Client{}, "x", nil)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = r.Request(t.Context(), q, nil)
		e := wantCode(t, err, shannon.CodeTimeout)
		if time.Since(began) != 30*time.Second || !e.MayHaveRun || !strings.HasSuffix(e.Hint, " timeout=600") {
			t.Errorf("after %s: %+v", time.Since(began), e)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		mine := errors.New("mine")
		cancel(mine)
		if _, err := r.Request(ctx, q, nil); !errors.Is(err, mine) {
			t.Errorf("a cancelled call gave %v", err)
		}
	})
}

// TestTimeLimitBeforeSending ends a call that still waits for a peer: it cannot have run.
func TestTimeLimitBeforeSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(ctx context.Context, _ shannon.Era) (*peer, error) { <-ctx.Done(); return nil, ctx.Err() }
		})
		_, err := r.call("")
		if e := wantCode(t, err, shannon.CodeTimeout); e.MayHaveRun {
			t.Error("it says that the call may have run")
		}
	})
}

func TestListPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) {
				p := newPeer(shannon.EraLegacy, legacyOnly)
				p.lists = func(cursor string) (string, error) {
					return map[string]string{
						"":     `{"tools":[{"name":"a"}],"nextCursor":"\u00e9\""}`,
						"é\"":  `{"tools":[],"nextCursor":"last"}`,
						"last": `{"tools":[{"name":"b"}],"nextCursor":null}`,
					}[cursor], nil
				}
				return p, nil
			}
		})
		r.wantState(shannon.StateConnected, "")
		if d := cmp.Diff([][]string{{"a", "b"}}, r.offers); d != "" {
			t.Error(d)
		}
	})
}

// TestListsThatFail connect all the same: the server can be reached.
func TestListsThatFail(t *testing.T) {
	big := strings.Repeat(`{"name":"x"},`, 999) + `{"name":"x"}`
	tests := map[string]struct {
		list func(string) (string, error)
		code shannon.Code
	}{
		"endless":        {func(string) (string, error) { return `{"tools":[],"nextCursor":"on"}`, nil }, shannon.CodeProtocolError},
		"very long":      {func(string) (string, error) { return `{"tools":[` + big + `],"nextCursor":"on"}`, nil }, shannon.CodeProtocolError},
		"no list":        {func(string) (string, error) { return `{"tools":{}}`, nil }, shannon.CodeProtocolError},
		"no answer":      {func(string) (string, error) { return "", nil }, shannon.CodeTimeout},
		"error of its":   {func(string) (string, error) { return "", shannon.Errorf(shannon.CodeTooLarge, "", "too large") }, shannon.CodeTooLarge},
		"cursor is no s": {func(string) (string, error) { return `{"tools":[],"nextCursor":{}}`, nil }, shannon.CodeProtocolError},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p *peer
				r := rigFor(t, server(), func(r *rig, _ *Options) {
					r.dial = func(context.Context, shannon.Era) (*peer, error) {
						p = newPeer(shannon.EraLegacy, legacyOnly)
						p.lists = tt.list
						return p, nil
					}
				})
				time.Sleep(30 * time.Second)
				r.wantState(shannon.StateConnected, tt.code)
				if s := r.Snapshot(); s.Listed || len(r.offers) != 0 {
					t.Error("it counts as listed")
				}
				if p.calls("tools/list") > maxPages {
					t.Errorf("%d pages were read", p.calls("tools/list"))
				}
				// Once it can list, it does.
				p.mu.Lock()
				p.lists = func(string) (string, error) { return toolList("late"), nil }
				p.mu.Unlock()
				time.Sleep(2 * time.Minute)
				if st := r.wantState(shannon.StateConnected, ""); st.Tools != 1 {
					t.Errorf("%d tools", st.Tools)
				}
			})
		})
	}
}

func TestNoToolsNoList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), func(r *rig, _ *Options) {
			r.dial = func(context.Context, shannon.Era) (*peer, error) {
				p := newPeer(shannon.EraLegacy, legacyOnly)
				p.info.Capabilities = []byte(`{"prompts":{}}`)
				return p, nil
			}
		})
		r.wantState(shannon.StateConnected, "")
		if !r.Snapshot().Listed || r.last().calls("tools/list") != 0 {
			t.Errorf("%v", r.last().methods)
		}
	})
}

var listChanged = wire.Envelope{Method: "notifications/tools/list_changed"}

func TestListErrorKeepsTheOldTools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		p := r.last()
		p.mu.Lock()
		p.lists = func(string) (string, error) { return "", shannon.Errorf(shannon.CodeTooLarge, "", "too large") }
		p.mu.Unlock()
		p.hooks.Notification(listChanged)
		if st := r.wantState(shannon.StateConnected, shannon.CodeTooLarge); st.Tools != 1 || len(r.offers) != 1 {
			t.Errorf("%+v", st)
		}
		p.mu.Lock()
		p.lists = func(string) (string, error) { return toolList("a", "b"), nil }
		p.mu.Unlock()
		time.Sleep(relistEvery)
		p.hooks.Notification(listChanged)
		if st := r.wantState(shannon.StateConnected, ""); st.Tools != 2 || len(r.offers) != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestListStorm announces a change with every list, and thousands besides.
func TestListStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		p := r.last()
		n := 0
		p.mu.Lock()
		p.lists = func(string) (string, error) {
			n++
			p.hooks.Notification(listChanged)
			return toolList(fmt.Sprint("tool", n)), nil
		}
		p.mu.Unlock()
		for range 1000 {
			p.hooks.Notification(listChanged)
		}
		time.Sleep(100 * time.Second)
		if lists := p.calls("tools/list"); lists < 90 || lists > 110 {
			t.Errorf("%d lists in 100 s", lists)
		}
		p.mu.Lock()
		p.lists = func(string) (string, error) { return toolList("final"), nil }
		p.mu.Unlock()
		p.hooks.Notification(listChanged)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if last := r.offers[len(r.offers)-1]; !slices.Equal(last, []string{"final"}) {
			t.Errorf("the last change was lost: %v", last)
		}
	})
}

// TestCloseWhile ends a unit in the middle of each thing that it may be doing.
func TestCloseWhile(t *testing.T) {
	tests := map[string]func(*rig, *peer){
		"dialing": func(r *rig, _ *peer) {
			r.reach(func(ctx context.Context, _ shannon.Era) (*peer, error) {
				<-ctx.Done()
				return nil, context.Cause(ctx)
			})
			go func() { _, _ = r.Restart(context.Background()) }()
		},
		"listing": func(_ *rig, p *peer) {
			p.mu.Lock()
			p.lists = func(string) (string, error) { return "", nil }
			p.mu.Unlock()
			p.hooks.Notification(listChanged)
		},
		"pinging": func(_ *rig, p *peer) { p.set(silence); time.Sleep(62 * time.Second) },
		"calling": func(r *rig, p *peer) { p.set(silence); go func() { _, _ = r.call("") }() },
		"backing off": func(r *rig, p *peer) {
			r.reach(refuse)
			p.crash()
		},
		"dialling another era": func(r *rig, _ *peer) {
			r.reach(func(ctx context.Context, _ shannon.Era) (*peer, error) {
				<-ctx.Done()
				return newPeer(shannon.EraModern, both), nil
			})
			go func() { _, _ = r.call(shannon.EraModern) }()
		},
		"closing": func(r *rig, p *peer) {
			p.slow = 5 * time.Second
			go func() { _, _ = r.Disconnect(context.Background()) }()
		},
	}
	for name, begin := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rigFor(t, server(), func(r *rig, _ *Options) {
					r.dial = func(context.Context, shannon.Era) (*peer, error) { return newPeer(shannon.EraLegacy, both), nil }
				})
				begin(r, r.last())
				synctest.Wait()
				began := time.Now()
				r.Close("removed")
				if d := time.Since(began); d > 6*time.Second {
					t.Errorf("Close took %s", d)
				}
				rows := r.history()
				if last := rows[len(rows)-1]; !strings.HasPrefix(last, "disconnected ") {
					t.Errorf("the last row is %q", last)
				}
				for what, err := range map[string]error{
					"connect": func() error { _, err := r.Connect(context.Background()); return err }(),
					"call":    func() error { _, err := r.callIn(context.Background(), ""); return err }(),
					"update":  r.Update(context.Background(), server()),
				} {
					if wantCode(t, err, shannon.CodeServerDown); err == nil {
						t.Errorf("%s after Close", what)
					}
				}
				r.Close("again")
			})
		})
	}
}

// TestReadersDoNotWait reads while a peer takes its time to end: it is not shown,
// and nobody is given it any more.
func TestReadersDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		r.last().slow = 5 * time.Second
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = r.Disconnect(t.Context()) })
		synctest.Wait()
		began := time.Now()
		if st := r.Status(); st.State != shannon.StateDisconnected || st.PID != 0 || r.Snapshot().choose("") != nil {
			t.Errorf("while it ends: %+v", st)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.callIn(ctx, ""); err == nil {
			t.Error("a call got through")
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("a call was kept waiting for %s", d)
		}
		wg.Wait()
	})
}

// TestDeathIsSeenBeforeItIsExplained crashes a server whose end takes long.
func TestDeathIsSeenBeforeItIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rigFor(t, server(), nil)
		p := r.last()
		p.slow = 5 * time.Second
		p.crash()
		synctest.Wait()
		if st := r.Status(); st.State != shannon.StateReconnecting || st.PID != 0 || st.ConnectedAt != nil {
			t.Errorf("a dead server looks like this: %+v", st)
		}
		time.Sleep(7 * time.Second)
		r.wantRows(2, "reconnecting exit exited", "reconnecting retry", "connected retry")
	})
}

// TestAnything does everything at once, and then looks for lies and leaks.
func TestAnything(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			var mu sync.Mutex
			random := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return rnd.IntN(n)
			}
			r := rigFor(t, server(), func(r *rig, o *Options) {
				o.RequestTimeout = 5 * time.Second
				r.dial = func(ctx context.Context, want shannon.Era) (*peer, error) {
					select {
					case <-time.After(time.Duration(random(3000)) * time.Millisecond):
					case <-ctx.Done():
						if random(2) == 0 {
							return nil, context.Cause(ctx)
						}
					}
					if random(4) == 0 {
						return nil, errRefused
					}
					era := want
					if want == mainDial || random(4) == 0 {
						era = both[random(2)]
					}
					p := newPeer(era, both, "one")
					p.slow = time.Duration(random(2000)) * time.Millisecond
					if random(3) == 0 {
						time.AfterFunc(time.Duration(random(60_000))*time.Millisecond, p.die)
					}
					if random(3) == 0 {
						p.answer = silence
					}
					return p, nil
				}
			})
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 60 {
						switch random(9) {
						case 0:
							_, _ = r.Connect(t.Context())
						case 1:
							_, _ = r.Disconnect(t.Context())
						case 2:
							_, _ = r.Restart(t.Context())
						case 3:
							s := server()
							s.Enabled, s.Args = random(3) > 0, []string{fmt.Sprint(random(3))}
							_ = r.Update(t.Context(), s)
						default:
							_, _ = r.call(both[random(2)])
						}
						st := r.Status()
						if (st.State == shannon.StateConnected) != (st.PID != 0) || (st.PID != 0) != (st.ConnectedAt != nil) {
							t.Errorf("seed %d: %+v", seed, st)
						}
						time.Sleep(time.Duration(random(4000)) * time.Millisecond)
					}
				})
			}
			wg.Wait()
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			// All that is still there is what the snapshot shows.
			live := 0
			r.mu.Lock()
			for _, p := range r.peers {
				if p.closes.Load() == 0 {
					live++
				}
			}
			r.mu.Unlock()
			if s := r.Snapshot(); live != len(s.peers) {
				t.Errorf("seed %d: %d peers live, %d are known", seed, live, len(s.peers))
			}
		})
	}
}
