package wire

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
)

// toolCall is a call whose message has about that many bytes, a third of them
// text, a third numbers and a third objects.
func toolCall(size int) []byte {
	var b strings.Builder
	b.WriteString(`{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"files__write","_meta":{"progressToken":"p-17"},"arguments":{"path":"/tmp/a.txt","text":"`)
	b.WriteString(strings.Repeat(`the quick brown fox jumps over the lazy dog\n`, size/3/45))
	b.WriteString(`","numbers":[0`)
	b.WriteString(strings.Repeat(`,12.5,-3`, size/3/8))
	b.WriteString(`],"objects":[null`)
	b.WriteString(strings.Repeat(`,{"key":"value","on":true}`, size/3/26))
	b.WriteString(`]}}}`)
	return []byte(b.String())
}

// textCall is a call whose message is one long text, as most large ones are.
func textCall(size int) []byte {
	return []byte(`{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"files__write","arguments":{"text":"` + strings.Repeat("x", size) + `"}}}`)
}

var sizes = []struct {
	name string
	size int
}{{"1KB", 1 << 10}, {"64KB", 64 << 10}, {"1MB", 1 << 20}}

func BenchmarkScan(b *testing.B) {
	for _, kind := range []struct {
		name string
		make func(int) []byte
	}{{"mixed", toolCall}, {"text", textCall}} {
		for _, s := range sizes {
			b.Run(kind.name+"/"+s.name, func(b *testing.B) {
				raw := kind.make(s.size)
				b.SetBytes(int64(len(raw)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Scan(raw); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkSplice(b *testing.B) {
	for _, s := range sizes {
		b.Run(s.name, func(b *testing.B) {
			r := request(b, string(toolCall(s.size)))
			r.Rename = "write"
			o := Outgoing{ID: []byte("12345")}
			var dst []byte
			b.SetBytes(int64(len(r.Raw)))
			b.ReportAllocs()
			for b.Loop() {
				dst = r.AppendTo(dst[:0], &o)
			}
		})
	}
}

// pipes starts a stream to a goroutine that answers each request with its params.
func pipes(b testing.TB) (s *Stream, stop func()) {
	sr, cw, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cr, sw, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { echo(sr, sw, 1) })
	s = NewStream(cr, cw, StreamOptions{MaxMessage: 8 << 20})
	return s, func() {
		s.End(io.EOF)
		serving.Wait()
		s.Wait()
		_, _ = sr.Close(), cr.Close()
	}
}

func BenchmarkStream(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, stop := pipes(b)
			defer stop()
			r := request(b, string(toolCall(1<<10)))
			calls := make(chan struct{})
			var calling sync.WaitGroup
			for range callers {
				calling.Go(func() {
					for range calls {
						if _, err := s.Call(b.Context(), r, Outgoing{}, nil); err != nil {
							b.Error(err)
						}
					}
				})
			}
			b.ReportAllocs()
			for b.Loop() {
				calls <- struct{}{}
			}
			close(calls)
			calling.Wait()
		})
	}
}

// What the forward path may allocate. A regress is to be a red test, not a graph.
func TestAllocations(t *testing.T) {
	raw := toolCall(1 << 10)
	reply := []byte(`{"jsonrpc":"2.0","id":17,"result":{"content":[{"type":"text","text":"ok"}],"resultType":"complete"}}`)
	r := request(t, string(raw))
	r.Rename = "write"
	out := Outgoing{ID: []byte("12345")}
	answer := Reply{}
	answer.Envelope, _ = Scan(reply)
	dst := make([]byte, 0, 4<<10)
	s, stop := pipes(t)
	defer stop()
	for _, tt := range []struct {
		name string
		max  float64
		run  func()
	}{
		{"scan a request: its method", 1, func() { _, _ = Scan(raw) }},
		{"scan a reply", 0, func() { _, _ = Scan(reply) }},
		{"splice a request: its new name", 1, func() { dst = r.AppendTo(dst[:0], &out) }},
		{"splice a reply", 0, func() { dst = answer.AppendTo(dst[:0], out.ID, nil) }},
		// Of these the echoing server has 4, and the line of the reply is one.
		{"call and reply over a stream", 10, func() { _, _ = s.Call(t.Context(), r, Outgoing{}, nil) }},
	} {
		got := testing.AllocsPerRun(200, tt.run)
		t.Logf("%s: %v", tt.name, got)
		if got > tt.max {
			t.Errorf("%s: %v allocations, want at most %v", tt.name, got, tt.max)
		}
	}
}
