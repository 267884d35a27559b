package transport

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// echoHTTP is the least that an MCP server over HTTP can be.
func echoHTTP(b testing.TB, stream bool) Target {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e, _ := wire.Scan(body)
		result := `{"content":[{"type":"text","text":"ok"}]}`
		switch {
		case e.Kind == wire.KindNotification:
			w.WriteHeader(http.StatusAccepted)
			return
		case e.Kind != wire.KindRequest:
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		case e.Method == "server/discover":
			result = strings.ReplaceAll(dualResult, "listChanged", "x")
		case e.Method == "initialize":
			result = strings.ReplaceAll(initializeResult("2025-11-25"), "listChanged", "x")
		}
		answer := wire.AppendResult(nil, e.Get(wire.FieldID), []byte(result))
		if stream && e.Method == "tools/call" {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = w.Write(wire.AppendSSE(nil, "message", "", answer))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	b.Cleanup(server.Close)
	return Target{Kind: shannon.TransportHTTP, URL: server.URL}
}

func benchmarkPeer(b *testing.B, s Starter, target Target, w Want) {
	b.Helper()
	d := dialer(b, s)
	p, err := d.Dial(b.Context(), target, w, Hooks{})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close(context.Background())
	r := toolCall(b, "echo")
	b.ReportAllocs()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := p.Call(b.Context(), r, nil); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkHTTP(b *testing.B) {
	for _, stream := range []bool{false, true} {
		for _, era := range bothEras {
			b.Run(string(era)+" stream="+strconv.FormatBool(stream), func(b *testing.B) {
				benchmarkPeer(b, nil, echoHTTP(b, stream), Want{Era: era})
			})
		}
	}
}

func BenchmarkStdio(b *testing.B) {
	for _, era := range bothEras {
		b.Run(string(era), func(b *testing.B) { benchmarkPeer(b, realHost(b), selfTarget(b, "dual"), Want{Era: era}) })
	}
}

// directHTTP is what net/http alone takes for the same exchange.
func directHTTP(client http.RoundTripper, target Target, body []byte) error {
	r, err := http.NewRequest(http.MethodPost, target.URL, strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := client.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.ReadFull(resp.Body, make([]byte, resp.ContentLength))
	return err
}

// TestHTTPAllocations guards what a call costs beside net/http. Both counts include
// the same server.
func TestHTTPAllocations(t *testing.T) {
	target := echoHTTP(t, false)
	d := dialer(t, nil)
	r := toolCall(t, "echo")
	direct := testing.AllocsPerRun(300, func() {
		if err := directHTTP(d.rt, target, r.Raw); err != nil {
			t.Error(err)
		}
	})
	for _, era := range bothEras {
		p, err := d.Dial(t.Context(), target, Want{Era: era}, Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		closing(t, p)
		ours := testing.AllocsPerRun(300, func() {
			if _, err := p.Call(t.Context(), r, nil); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%s: %.0f allocations, net/http alone %.0f", era, ours, direct)
		if ours-direct > 60 {
			t.Errorf("%s: a call takes %.0f allocations, net/http alone %.0f", era, ours, direct)
		}
	}
}
