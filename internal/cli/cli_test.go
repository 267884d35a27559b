package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/shannon-mcp/shannon"
)

func newDraft(name string, change func(*shannon.Server)) shannon.Server {
	s := shannon.NewServer(name)
	change(&s)
	return s
}

func TestParseEntry(t *testing.T) {
	web := func(transport shannon.Transport, url string) shannon.Server {
		return newDraft("x", func(s *shannon.Server) { s.Transport, s.Endpoint = transport, url })
	}
	for text, want := range map[string]shannon.Server{
		`{"command":"c","args":["a"],"env":{"A":"${B}"},"cwd":"/tmp"}`: newDraft("x", func(s *shannon.Server) {
			s.Transport, s.Command, s.Args, s.Cwd, s.Env = shannon.TransportStdio, "c", []string{"a"}, "/tmp", map[string]shannon.Secret{"A": "${B}"}
		}),
		`{"url":"https://a.b/mcp"}`:                                          web(shannon.TransportHTTP, "https://a.b/mcp"),
		`{"serverUrl":"https://a.b/mcp"}`:                                    web(shannon.TransportHTTP, "https://a.b/mcp"),
		`{"endpoint":"wss://a.b/mcp"}`:                                       web(shannon.TransportWebSocket, "wss://a.b/mcp"),
		`{"type":"sse","url":"https://a.b/sse"}`:                             web(shannon.TransportSSE, "https://a.b/sse"),
		`{"type":"streamable_http","url":"https://a.b"}`:                     web(shannon.TransportHTTP, "https://a.b"),
		`{"type":"ws","url":"ws://a.b"}`:                                     web(shannon.TransportWebSocket, "ws://a.b"),
		` {"mcpServers":{"y":{"type":"streamableHttp","url":"http://a.b"}}}`: web(shannon.TransportHTTP, "http://a.b"),
		`{"command":"c","disabled":true,"timeout":5,"prefix":""}`: newDraft("x", func(s *shannon.Server) {
			empty := ""
			s.Transport, s.Command, s.Enabled, s.Timeout, s.Prefix = shannon.TransportStdio, "c", false, shannon.Seconds(5), &empty
		}),
	} {
		got, err := parseEntry(shannon.NewServer("x"), []byte(text))
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", text, err, d)
		}
	}
	for text, want := range map[string]string{
		``:                                     "not JSON",
		"{\n\"command\":\n}":                   "in line 3",
		`[]`:                                   "not a JSON object",
		`{"comand":"c"}`:                       "Did you mean command?",
		`{"name":"y","command":"c"}`:           "The name is the first argument",
		`{"id":"y","command":"c"}`:             `no key "id"`,
		`{"command":"c","command":"d"}`:        "at once",
		`{"disabled":1,"command":"c"}`:         "true or false",
		`{"disabled":true,"enabled":true}`:     "at once",
		`{"type":5,"command":"c"}`:             "must be a string",
		`{"type":"tcp","command":"c"}`:         "unknown transport",
		`{"env":{"A":1},"command":"c"}`:        "env",
		`{}`:                                   "no command",
		`{"mcpServers":{"a":{},"b":{}}}`:       "holds 2",
		`{"mcpServers":{"a":{"comand":"c"}}}`:  "Did you mean command?",
		`{"url":"https://a.b","type":"stdio"}`: "no command",
	} {
		_, err := parseEntry(shannon.NewServer("x"), []byte(text))
		if p := shannon.ProblemOf(err); p == nil || !strings.Contains(p.Message+"\n"+p.Hint, want) || exitCode(err) != exitUsage {
			t.Errorf("%s: %+v, want an error with %q", text, p, want)
		}
	}
}

func TestParseChanges(t *testing.T) {
	for args, want := range map[string]string{
		"timeout=1m30s":                        `{"timeout":90}`,
		"request_timeout=":                     `{"request_timeout":null}`,
		"url=https://a.b|type=ws":              `{"endpoint":"https://a.b","transport":"websocket"}`,
		"env.A=1|env.B=|headers.X-Y=a=b":       `{"env":{"A":"1","B":null},"headers":{"X-Y":"a=b"}}`,
		"prefix=":                              `{"prefix":""}`,
		"prefix=null":                          `{"prefix":null}`,
		"title=null|cwd=":                      `{"cwd":null,"title":"null"}`,
		`args=["a"]|retry_count=0`:             `{"args":["a"],"retry_count":0}`,
		`config={"api_key":"k"}|enabled=false`: `{"config":{"api_key":"k"},"enabled":false}`,
	} {
		got, err := parseChanges(strings.Split(args, "|"))
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", args, got, err, want)
		}
	}
	for _, args := range []string{
		"timeout", "tiemout=3", "timeout=soon", "retry_count=-1", "args=a b", "enabled=", "name=", "type=x",
		"title=a|title=b", "env={}|env.A=1", "id=5", "env.=x",
	} {
		if got, err := parseChanges(strings.Split(args, "|")); exitCode(err) != exitUsage {
			t.Errorf("%s: %s, %v", args, got, err)
		}
	}
}

func TestNothingHostileIsPrinted(t *testing.T) {
	evil := "a\x1b[31mb\x07\u009bc\u202ed\x7f\r\ne\tf"
	want := `a\u001b[31mb\u0007\u009bc\u202ed\u007f` + "\ne\tf"
	if got := safe(evil); got != want {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	p := &printer{stdout: &out, stderr: &out}
	tbl := &table{head: []string{"A", "B"}}
	tbl.add(evil, evil)
	p.table(tbl)
	p.printf("%s %v", evil, errors.New(evil))
	p.sayf("%s", shannon.State(evil))
	p.fields("key", evil, "state", shannon.State(evil))
	p.width = 80
	p.text(evil)
	p.raw([]byte("\"\u009b\u202e\""))
	p.problemJSON(map[string]string{"m": evil})
	for _, r := range out.String() {
		if hostile(r) && r != '\n' && r != '\t' {
			t.Fatalf("%q is in %q", r, out.String())
		}
	}
	// To a pipe, data is what it was.
	out.Reset()
	p.width = 0
	p.text(evil)
	p.raw([]byte("\"\u009b\""))
	if got := out.String(); got != evil+"\n\"\u009b\"\n" {
		t.Errorf("%q", got)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	p := &printer{stdout: &out, out: style{colour: true}, width: 30}
	tbl := &table{head: []string{"NAME", "STATE", "WHAT"}}
	tbl.add("a", p.out.good("connected"), "short")
	tbl.add("日本", "x", "a text that does not fit\ninto the line")
	p.table(tbl)
	var plain []string
	for line := range strings.Lines(out.String()) {
		plain = append(plain, uncoloured(strings.TrimSuffix(line, "\n")))
	}
	want := []string{
		"NAME  STATE      WHAT",
		"a     connected  short",
		"日本  x          a text that …",
	}
	if d := cmp.Diff(want, plain); d != "" {
		t.Error(d)
	}
	if !strings.Contains(out.String(), "\x1b[32mconnected\x1b[m") {
		t.Errorf("no colour: %q", out.String())
	}
}

func uncoloured(text string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(text, "\x1b[") {
		if i := strings.IndexByte(part, 'm'); i >= 0 && b.Len() > 0 || strings.HasPrefix(text, "\x1b[") && i >= 0 {
			part = part[i+1:]
		}
		b.WriteString(part)
	}
	return b.String()
}

func TestExitCodes(t *testing.T) {
	for code, want := range map[shannon.Code]int{
		shannon.CodeInvalidServer: 2, shannon.CodeInvalidConfig: 2, shannon.CodeNameTaken: 2, shannon.CodeInvalidRequest: 2,
		shannon.CodeUnknownServer: 3, shannon.CodeUnknownTool: 3, shannon.CodeNoDaemon: 4, shannon.CodeDaemonSilent: 4,
		shannon.CodeTimeout: 5, shannon.CodeHandshakeTimeout: 5, shannon.CodeForbidden: 6, shannon.CodeUnauthorized: 6, shannon.CodeNeedsAuth: 6,
		shannon.CodeCallFailed: 1, shannon.CodeDaemonRunning: 1, shannon.CodePortTaken: 1, shannon.CodeDisabled: 1, shannon.CodeInternal: 1,
	} {
		err := error(shannon.Errorf(code, "", "x"))
		if got := exitCode(err); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
		if got := exitCode(failed{err}); got != 1 {
			t.Errorf("failed %s: %d", code, got)
		}
	}
	if exitCode(nil) != 0 || exitCode(errors.New("x")) != 1 {
		t.Error("nil or a plain error")
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "90": now.Add(-90 * time.Second), "2h": now.Add(-2 * time.Hour), "7d": now.AddDate(0, 0, -7),
		"2026-01-01T00:00:00Z": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := parseSince(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"yesterday", "-3h", "d", "2026-13-01"} {
		if got, err := parseSince(text, now); err == nil {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 0: "0 s", 90 * time.Second: "90 s", 3 * time.Minute: "3 min", 119 * time.Minute: "119 min",
		5 * time.Hour: "5 h", 72 * time.Hour: "3 d",
	} {
		if got := ago(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	got := commandLine("/a b/c", []string{"-x", "", "it's", "$HOME", "a*"})
	if want := `'/a b/c' -x '' 'it'\''s' '$HOME' 'a*'`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
