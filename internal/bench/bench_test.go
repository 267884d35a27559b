package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// TestMain lets the test's binary play the roles that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "upstream" || os.Args[1] == "floor") {
		if err := run(context.Background(), os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func TestMembers(t *testing.T) {
	for _, c := range []struct {
		object string
		want   []string
		whole  bool
	}{
		{`{}`, nil, true},
		{` { "a" : 1 , "b":"x" } `, []string{"a=1", `b="x"`}, true},
		{`{"a":{"id":[1,{"b":"}"}]},"b":[]}`, []string{`a={"id":[1,{"b":"}"}]}`, "b=[]"}, true},
		{`{"a":"\"","b":"\\","c":"\\\"","d":null}`, []string{`a="\""`, `b="\\"`, `c="\\\""`, "d=null"}, true},
		{`{"a":1`, []string{"a=1"}, false},
		{`{"a":"x`, []string{`a="x`}, false},
		{`{"a":}`, nil, false},
		{`{"a"`, nil, false},
		{`[1]`, nil, false},
		{``, nil, false},
	} {
		var got []string
		whole := members([]byte(c.object), func(key, value []byte) { got = append(got, string(key)+"="+string(value)) })
		if diff := cmp.Diff(c.want, got); diff != "" || whole != c.whole {
			t.Errorf("%s: whole %t\n%s", c.object, whole, diff)
		}
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"a":"\"","b":[{"c":1}],"d":-1.5e3}`))
	f.Fuzz(func(t *testing.T, object []byte) {
		var want map[string]json.RawMessage
		got := map[string]json.RawMessage{}
		whole := members(object, func(key, value []byte) {
			var k string
			if json.Unmarshal([]byte(`"`+string(key)+`"`), &k) == nil {
				got[k] = value
			}
		})
		if json.Unmarshal(object, &want) != nil || want == nil {
			return // for known peers, who send JSON
		}
		if !whole {
			t.Fatalf("not whole: %q", object)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q: %s", object, diff)
		}
	})
}

func TestAnswer(t *testing.T) {
	for _, c := range []struct{ message, want string }{
		{
			`{"jsonrpc":"2.0","id":"é","method":"tools/call","params":{"arguments":{"text":"a\"b"},"name":"echo"}}`,
			`{"jsonrpc":"2.0","id":"é","result":{"resultType":"complete","content":[{"type":"text","text":"a\"b"}]}}`,
		},
		{
			`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"len","arguments":{"text":"abcde"}}}`,
			`{"jsonrpc":"2.0","id":7,"result":{"resultType":"complete","content":[{"type":"text","text":"5"}]}}`,
		},
		{
			`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"no"}}`,
			`{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"unknown tool"}}`,
		},
		{`{"jsonrpc":"2.0","id":7,"method":"no"}`, `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"method not found"}}`},
		{`{"jsonrpc":"2.0","method":"notifications/initialized"}`, ``},
		{`{"jsonrpc":"2.0","id":1,"result":{}}`, ``},
		{`no`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`},
	} {
		if got := string(appendAnswer([]byte("before "), []byte(c.message))); got != "before "+c.want {
			t.Errorf("%s\ngot  %s\nwant before %s", c.message, got, c.want)
		}
	}
	for _, method := range []string{"initialize", "server/discover", "tools/list", "ping"} {
		answer := appendAnswer(nil, []byte(`{"jsonrpc":"2.0","id":1,"method":"`+method+`"}`))
		if !json.Valid(answer) || member(answer, "result") == nil {
			t.Errorf("%s: %s", method, answer)
		}
	}
}

func TestServeLines(t *testing.T) {
	long := strings.Repeat("y", 200_000)
	call := func(id, text string) string {
		return `{"jsonrpc":"2.0","id":` + id + `,"method":"tools/call","params":{"name":"echo","arguments":{"text":"` + text + `"}}}` + "\n"
	}
	var out bytes.Buffer
	if err := serveLines(strings.NewReader(call("1", "a")+call("2", long)+call("3", "c")), &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, text := range []string{"a", long, "c"} {
		if err := check([]byte(lines[i]), fmt.Append(nil, i+1), []byte(`"`+text+`"`)); err != nil {
			t.Error(err)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, reply, wrong string }{
		{"right", `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"c1-7-xx"}]}}`, ""},
		{"order", `{"result":{"content":[{"text":"c1-7-xx"}]},"id":7,"jsonrpc":"2.0"}`, ""},
		{"another's id", `{"jsonrpc":"2.0","id":8,"result":{"content":[{"text":"c1-7-xx"}]}}`, "reply to 8 instead of 7"},
		{"id of another kind", `{"jsonrpc":"2.0","id":"7","result":{"content":[{"text":"c1-7-xx"}]}}`, "instead of 7"},
		{"another's text", `{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"c2-7-xx"}]}}`, "not the text"},
		{"text outside of the result", `{"jsonrpc":"2.0","id":7,"result":{},"x":"c1-7-xx"}`, "not the text"},
		{"error", `{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"c1-7-"}}`, "no result"},
		{"tool's error", `{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"c1-7-xx"}],"isError":true}}`, "not the text"},
		{"cut", `{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"c1-7-xx"}]}`, "not a JSON object"},
		{"empty", ``, "not a JSON object"},
	} {
		err := check([]byte(c.reply), []byte("7"), []byte("c1-7-"))
		if (err == nil) != (c.wrong == "") || (err != nil && !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestReadEvents(t *testing.T) {
	reply := `{"jsonrpc":"2.0","id":1,"result":{}}`
	for _, c := range []struct{ name, stream, want string }{
		{"one", "event: message\ndata: " + reply + "\n\n", reply},
		{"comments and notifications", ": x\n\ndata:{\"method\":\"notifications/progress\"}\r\n\r\nid: 3\ndata:" + reply + "\r\n\r\n", reply},
		{"a server's request", "data: {\"id\":1,\"method\":\"ping\"}\n\n", ""},
		{"not ended", "data: " + reply + "\n", ""},
		{"nothing", "", ""},
	} {
		got, err := readEvents(strings.NewReader(c.stream))
		if string(got) != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %s %v", c.name, got, err)
		}
	}
}

// quick is a load that is over soon.
func quick(url, era, kind string) loadOptions {
	return loadOptions{URL: url, Era: era, Tool: kind, Kind: kind, Size: 32, Clients: 8, Warm: 10 * time.Millisecond, Time: 100 * time.Millisecond}
}

// TestLoad runs loads against the server itself and through relays to it.
func TestLoad(t *testing.T) {
	begin := func(args ...string) string {
		r, err := startRole(context.WithoutCancel(t.Context()), args...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.stop(); err != nil {
				t.Errorf("stop %v: %v", args, err)
			}
		})
		return r.url
	}
	upstream, events := begin("upstream", "--http"), begin("upstream", "--http", "--sse")
	for name, url := range map[string]string{
		"direct": upstream, "events": events,
		"pipe": begin("floor"), "relay": begin("floor", "--http", upstream), "relay of events": begin("floor", "--http", events),
	} {
		for _, era := range []string{"legacy", "modern"} {
			for _, kind := range []string{"echo", "len"} {
				s, err := load(t.Context(), quick(url, era, kind))
				if err != nil || s.Calls == 0 || s.Failures > 0 {
					t.Errorf("%s, %s, %s: %+v %v", name, era, kind, s, err)
				}
			}
		}
	}
}

// TestLoadCatchesCrossedReplies runs a load against servers that mix up replies now and then.
func TestLoadCatchesCrossedReplies(t *testing.T) {
	for name, spoil := range map[string]func(body []byte) []byte{
		"id":   func(body []byte) []byte { return bytes.Replace(body, []byte(`"id":`), []byte(`"id":1`), 1) },
		"text": func(body []byte) []byte { return bytes.Replace(body, []byte(`"text":"c`), []byte(`"text":"c1`), 1) },
	} {
		var mu sync.Mutex
		calls := 0
		honest := upstreamHandler(false)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			calls++
			wrong := calls%50 == 0
			mu.Unlock()
			if wrong {
				body, _ := io.ReadAll(r.Body)
				body = spoil(body)
				r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			}
			honest.ServeHTTP(w, r)
		}))
		got, err := load(t.Context(), quick(s.URL, "modern", "echo"))
		s.Close()
		if err != nil || got.Failures == 0 || got.FirstError == "" {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

// TestFloorKeepsIDs sends the same id from many clients at once.
func TestFloorKeepsIDs(t *testing.T) {
	in, w := io.Pipe()
	r, out := io.Pipe()
	p := newPipe(w)
	var wg sync.WaitGroup
	wg.Go(func() { _ = out.CloseWithError(serveLines(in, out)) })
	wg.Go(func() {
		if err := p.deliver(r); err != nil {
			t.Error(err)
		}
	})
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			for _, id := range []string{"1", `"x"`, "1.50"} {
				text := fmt.Sprintf("text-%d-%s", i, strings.Trim(id, `"`))
				rec := httptest.NewRecorder()
				p.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/mcp", strings.NewReader(
					idHead+id+`,"method":"tools/call","params":{"name":"echo","arguments":{"text":"`+text+`"}}}`)))
				if err := check(rec.Body.Bytes(), []byte(id), []byte(`"`+text+`"`)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	_ = w.Close()
	wg.Wait()
}

func TestReport(t *testing.T) {
	at := func(name, upstream string, speeds ...float64) *point {
		p := &point{target: target{Name: name, Upstream: upstream}, Era: "modern", Clients: 64}
		for _, v := range speeds {
			p.Samples = append(p.Samples, sample{Calls: 1, CallsPerSec: v, CPU: 20})
		}
		return p
	}
	r := newReport(machine{}, settings{Smoke: true}, []*point{
		at("direct", "http", 100, 200, 400), at("floor", "stdio", 80, 160, 320), at("shannon", "stdio", 50, 120, 160),
	})
	got := r.Rows[2]
	if got.OfDirect != 0.5 || got.OfFloor != 0.625 || got.CallsPerSec != 120 || r.Rows[0].OfDirect != 0 {
		t.Errorf("%+v", got)
	}
	if err := r.verdict(); err != nil {
		t.Errorf("verdict: %v", err)
	}
	for name, spoil := range map[string]func(w *row){
		"at most 62.5 are":   func(w *row) { w.CPU = 63 }, // of a direct call that takes 20
		"0.39 of direct":     func(w *row) { w.OfDirect = 0.39 },
		"1 calls failed: no": func(w *row) { w.Failures, w.FirstError = 1, "no" },
		"0 calls failed":     func(w *row) { w.CallsPerSec = 0 },
	} {
		bad := *r
		bad.Rows = append([]row(nil), r.Rows...)
		spoil(&bad.Rows[2])
		if err := bad.verdict(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteInto(t *testing.T) {
	r := newReport(machine{CPU: "a CPU"}, settings{}, []*point{{target: target{Name: "direct"}, Samples: []sample{{CallsPerSec: 1234}}}})
	name := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := os.WriteFile(name, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.writeInto(name); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got := string(text)
	if !strings.HasPrefix(got, "before\n"+beginMark) || !strings.HasSuffix(got, endMark+"after\n") ||
		strings.Contains(got, "old") || strings.Count(got, "1234") != 1 {
		t.Error(got)
	}
}
