package mcptest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon/internal/mcptest"
)

func TestMain(m *testing.M) {
	mcptest.Main()
	goleak.VerifyTestMain(m)
}

// forms are the ways to reach a server.
var forms = map[string]func(*testing.T, mcptest.Script, mcptest.Options) *mcptest.Client{
	"pipe": func(t *testing.T, s mcptest.Script, o mcptest.Options) *mcptest.Client {
		_, conn := mcptest.ServePipe(t, s)
		return mcptest.Connect(t, conn, conn, o)
	},
	"child": func(t *testing.T, s mcptest.Script, o mcptest.Options) *mcptest.Client {
		return mcptest.Start(t, mcptest.Cmd(t, s), o)
	},
	"http": func(t *testing.T, s mcptest.Script, o mcptest.Options) *mcptest.Client {
		return mcptest.Dial(t, mcptest.ListenHTTP(t, s).URL, o)
	},
	"http json": func(t *testing.T, s mcptest.Script, o mcptest.Options) *mcptest.Client {
		s.HTTP.Replies = "json"
		return mcptest.Dial(t, mcptest.ListenHTTP(t, s).URL, o)
	},
	"http sse": func(t *testing.T, s mcptest.Script, o mcptest.Options) *mcptest.Client {
		s.HTTP = mcptest.HTTPScript{Replies: "sse", Resumable: true}
		return mcptest.Dial(t, mcptest.ListenHTTP(t, s).URL, o)
	},
	"http in memory": func(t *testing.T, s mcptest.Script, o mcptest.Options) *mcptest.Client {
		o.HTTP = mcptest.InMemory(t, mcptest.NewServer(t, s))
		return mcptest.Dial(t, "http://fake/mcp", o)
	},
}

// everywhere runs a test in each form and each era.
func everywhere(t *testing.T, script mcptest.Script, test func(t *testing.T, c *mcptest.Client)) {
	for form, open := range forms {
		for _, version := range []string{"2024-11-05", mcptest.Legacy, mcptest.Modern} {
			t.Run(form+" "+version, func(t *testing.T) {
				c := open(t, script, mcptest.Options{Version: version, Capabilities: `{"elicitation":{}}`})
				c.Open()
				test(t, c)
			})
		}
	}
}

func TestPayloadsAreExact(t *testing.T) {
	const odd = `{ "n":9007199254740993,"é":"\u0000\ud83d\ude00<&>","x":1.0e+2 , "n2":[1,1 ] }`
	everywhere(t, mcptest.Script{}, func(t *testing.T, c *mcptest.Client) {
		r := c.Tool("echo", odd)
		if got := r.Structured(); got != odd {
			t.Errorf("echo: %s (%v)", got, r.Err)
		}
		if got := r.Text(); got != odd {
			t.Errorf("echo, as text: %s", got)
		}
		r = c.Tool("exact", `{"result":`+odd+`}`)
		if got := string(r.Result); got != odd {
			t.Errorf("exact: %s (%v)", got, r.Err)
		}
		r = c.Call("x/echo", `{"a": 9007199254740993}`)
		if got := string(r.Get("result", "params", "a")); got != "9007199254740993" {
			t.Errorf("x/echo: %s (%v)", r.Raw, r.Err)
		}
		if r := c.Call("x/unknown", ""); r.Code() != -32601 {
			t.Errorf("unknown method: %s", r.Raw)
		}
		if r := c.Tool("rpcerror", `{"code":7,"message":"m","data":{"d": 1}}`); string(r.Error) != `{"code":7,"message":"m","data":{"d": 1}}` {
			t.Errorf("rpcerror: %s", r.Error)
		}
		if r := c.Tool("fail", `{"text":"no"}`); r.Text() != "no" || string(r.Get("result", "isError")) != "true" {
			t.Errorf("fail: %s", r.Raw)
		}
		if r := c.Tool("add", `{"a":2,"b":0.5}`); r.Structured() != `{"sum":2.5}` {
			t.Errorf("add: %s", r.Raw)
		}
	})
}

func TestProgressComesFirst(t *testing.T) {
	everywhere(t, mcptest.Script{}, func(t *testing.T, c *mcptest.Client) {
		st := c.Go("tools/call", `{"name":"slow","arguments":{"ms":3,"steps":3},"_meta":{"progressToken":"tok"}}`)
		r := st.Wait()
		want := 3
		if r.Header.Get("Content-Type") == "application/json" {
			want = 0 // they went elsewhere
		}
		if len(r.Before) != want || r.Text() != "done" {
			t.Fatalf("%d notifications, want %d; reply %s %v", len(r.Before), want, r.Raw, r.Err)
		}
		for i, m := range r.Before {
			if got := string(m.Params); got != fmt.Sprintf(`{"progressToken":"tok","progress":%d,"total":3}`, i+1) {
				t.Errorf("progress %d: %s", i, got)
			}
		}
	})
}

func TestAskingTheClient(t *testing.T) {
	const args = `{"method":"elicitation/create","params":{"message":"who?"},"rounds":2}`
	answer := func(params string) string { return `{"action":"accept","content":{"said":` + params + `}}` }
	want := `{"answers":[` + answer(`{"message":"who?"}`) + `,` + answer(`{"message":"who?"}`) + `]}`
	everywhere(t, mcptest.Script{}, func(t *testing.T, c *mcptest.Client) {
		c.OnRequest("elicitation/create", func(params jsonRaw) (string, error) { return answer(string(params)), nil })
		if c.Session() != "" {
			c.Get("") // where a server with plain JSON replies has to ask
		}
		r := c.Tool("ask", args)
		for i := 0; string(r.Get("result", "resultType")) == `"input_required"` && i < 3; i++ {
			said := answer(string(r.Get("result", "inputRequests", "ask", "params")))
			r = c.Call("tools/call", `{"name":"ask","arguments":`+args+`,"inputResponses":{"ask":`+said+`},"requestState":`+
				string(r.Get("result", "requestState"))+`}`)
		}
		if got := r.Structured(); got != want {
			t.Errorf("got %s %s %v", got, r.Raw, r.Err)
		}
		if r := c.Tool("ask", `{"method":"roots/list"}`); r.Code() != -32021 && string(r.Get("result", "isError")) != "true" {
			t.Errorf("roots without the capability: %s", r.Raw)
		}
	})
}

func TestListsArePaged(t *testing.T) {
	everywhere(t, mcptest.Script{PageSize: 2, Only: []string{"echo", "add", "slow"}}, func(t *testing.T, c *mcptest.Client) {
		r := c.Call("tools/list", "")
		if got := string(r.Get("result", "nextCursor")); got != `"from-2"` {
			t.Fatalf("first page: %s", r.Raw)
		}
		r = c.Call("tools/list", `{"cursor":"from-2"}`)
		if !strings.Contains(string(r.Result), `"slow"`) || r.Get("result", "nextCursor") != nil {
			t.Errorf("last page: %s", r.Raw)
		}
		if r := c.Call("tools/list", `{"cursor":"?"}`); r.Code() != -32602 {
			t.Errorf("unknown cursor: %s", r.Raw)
		}
	})
}

func TestChangesAreAnnounced(t *testing.T) {
	everywhere(t, mcptest.Script{}, func(t *testing.T, c *mcptest.Client) {
		var st *mcptest.Stream
		switch version := c.Transcript.Entries()[0].Message.Method; {
		case version == "server/discover":
			st = c.Listen(`{"toolsListChanged":true,"resourceSubscriptions":["mcptest://text"]}`)
			if got := st.Next().Method; got != "notifications/subscriptions/acknowledged" {
				t.Fatalf("first: %s", got)
			}
		case c.Session() != "":
			st = c.Get("")
		default:
			st = c.Unrelated()
		}
		c.Call("resources/subscribe", `{"uri":"mcptest://text"}`)
		c.Tool("change", `{"add":["fresh"],"remove":["big"]}`)
		c.Tool("touch", `{"uri":"mcptest://text"}`)
		var got []string
		for range 3 {
			m := st.Next()
			got = append(got, m.Method)
		}
		want := []string{
			"notifications/tools/list_changed", "notifications/tools/list_changed", "notifications/resources/updated",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		list := string(c.Call("tools/list", "").Result)
		if !strings.Contains(list, `"fresh"`) || strings.Contains(list, `"big"`) {
			t.Errorf("list: %s", list)
		}
	})
}

func TestCancelling(t *testing.T) {
	everywhere(t, mcptest.Script{}, func(t *testing.T, c *mcptest.Client) {
		st := c.GoID(`"odd id"`, "tools/call", `{"name":"hang"}`)
		time.Sleep(20 * time.Millisecond) // the call has to be there first
		st.Cancel()
		deadline := time.Now().Add(5 * time.Second)
		for {
			r := c.Tool("cancelled", `{}`)
			if r.Structured() == `{"ids":["odd id"]}` {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("cancelled: %s", r.Raw)
			}
		}
	})
}

func TestFaultsOverEveryTransport(t *testing.T) {
	tests := []struct {
		fault mcptest.Fault
		check func(r mcptest.Reply) bool
	}{
		{mcptest.Fault{Do: mcptest.Error, Raw: `{"code":5,"message":"x"}`}, func(r mcptest.Reply) bool { return r.Code() == 5 }},
		{mcptest.Fault{Do: mcptest.Result, Raw: `[1]`}, func(r mcptest.Reply) bool { return string(r.Result) == `[1]` }},
		{mcptest.Fault{Do: mcptest.Late, MS: 30}, func(r mcptest.Reply) bool { return r.Text() == "{}" }},
		{mcptest.Fault{Do: mcptest.Huge, Bytes: 1 << 18}, func(r mcptest.Reply) bool { return len(r.Text()) == 1<<18 }},
		{mcptest.Fault{Do: mcptest.BadUTF8}, func(r mcptest.Reply) bool { return strings.Contains(string(r.Raw), "caf\xff") }},
		{mcptest.Fault{Do: mcptest.Twice}, func(r mcptest.Reply) bool { return r.Text() == "{}" }},
		{mcptest.Fault{Do: mcptest.Noise, Raw: "noise"}, func(r mcptest.Reply) bool { return r.Text() == "{}" }},
		{mcptest.Fault{Do: mcptest.Multiline}, func(r mcptest.Reply) bool { return r.Text() == "{}" }},
		{mcptest.Fault{Do: mcptest.Raw, Raw: `{"jsonrpc":"2.0","id":{id},"result":{"y":1}}`}, func(r mcptest.Reply) bool { return string(r.Result) == `{"y":1}` }},
		{mcptest.Fault{Do: mcptest.Crash}, func(r mcptest.Reply) bool { return r.Err != nil }},
		{mcptest.Fault{Do: mcptest.Exit, Code: 3}, func(r mcptest.Reply) bool { return r.Err != nil }},
	}
	for _, tt := range tests {
		t.Run(string(tt.fault.Do), func(t *testing.T) {
			for _, form := range []string{"pipe", "child", "http", "http sse"} {
				c := forms[form](t, mcptest.Script{}, mcptest.Options{})
				c.Open()
				tt.fault.Name, tt.fault.Times = "echo", 1
				if r := c.Call("mcptest/arm", toJSON(t, tt.fault)); r.Err != nil || r.Error != nil {
					t.Fatalf("%s: arm: %s %v", form, r.Raw, r.Err)
				}
				if r := c.Tool("echo", `{}`); !tt.check(r) {
					t.Errorf("%s: %.200s %v (status %d)", form, r.Raw, r.Err, r.Status)
				}
			}
		})
	}
}

func TestSilenceAndOtherID(t *testing.T) {
	for _, do := range []mcptest.Do{mcptest.Silence, mcptest.OtherID} {
		s, conn := mcptest.ServePipe(t, mcptest.Script{Faults: []mcptest.Fault{{Do: do, Name: "echo", Skip: 1, Times: 1}}})
		c := mcptest.Connect(t, conn, conn, mcptest.Options{Timeout: 50 * time.Millisecond})
		c.Open()
		got := []bool{}
		for range 3 {
			r := c.Tool("echo", `{}`)
			got = append(got, r.Err == nil)
		}
		if diff := cmp.Diff([]bool{true, false, true}, got); diff != "" {
			t.Errorf("%s: %s", do, diff)
		}
		if n := len(s.Received()); n != 5 {
			t.Errorf("%s: %d messages came, not 5", do, n)
		}
	}
}

func TestFaultsOverHTTP(t *testing.T) {
	s := mcptest.ListenHTTP(t, mcptest.Script{HTTP: mcptest.HTTPScript{Token: "secret"}})
	for _, version := range []string{mcptest.Legacy, mcptest.Modern} {
		if r := mcptest.Dial(t, s.URL, mcptest.Options{Version: version}).Discover(); r.Status != 401 || r.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("without a token: %d", r.Status)
		}
		c := mcptest.Dial(t, s.URL, mcptest.Options{Version: version, Token: "secret"})
		c.Open()
		s.Arm(mcptest.Fault{Do: mcptest.Status, Name: "echo", Status: 429, Header: map[string]string{"Retry-After": "7"}, Times: 1})
		if r := c.Tool("echo", `{}`); r.Status != 429 || r.Header.Get("Retry-After") != "7" {
			t.Errorf("status: %d %v", r.Status, r.Header)
		}
		s.Arm(mcptest.Fault{Do: mcptest.Cut, Name: "echo", Times: 1})
		if r := c.Tool("echo", `{}`); r.Status != 200 || r.Err == nil {
			t.Errorf("cut: %d %v", r.Status, r.Err)
		}
		s.Arm(mcptest.Fault{Do: mcptest.Slow, Name: "echo", MS: 60, Times: 1})
		start := time.Now()
		if r := c.Tool("echo", `{}`); r.Text() != "{}" || time.Since(start) < 50*time.Millisecond {
			t.Errorf("slow: %s after %v", r.Raw, time.Since(start))
		}
		s.Arm(mcptest.Fault{Do: mcptest.Label, Name: "echo", Header: map[string]string{"Content-Type": "text/html"}, Times: 1})
		if r := c.Tool("echo", `{}`); r.Header.Get("Content-Type") != "text/html" {
			t.Errorf("label: %v", r.Header)
		}
		s.Arm(mcptest.Fault{Do: mcptest.Forget, Name: "echo", Times: 1})
		if r := c.Tool("echo", `{}`); r.Status != 404 {
			t.Errorf("forget: %d", r.Status)
		}
	}
	if n := s.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestSessions(t *testing.T) {
	s := mcptest.ListenHTTP(t, mcptest.Script{HTTP: mcptest.HTTPScript{Resumable: true}})
	c := mcptest.Dial(t, s.URL, mcptest.Options{})
	if r := c.Tool("echo", `{}`); r.Status != 400 {
		t.Errorf("without a session: %d", r.Status)
	}
	c.Open()
	s.Arm(mcptest.Fault{Do: mcptest.Cut, Method: "tools/call", Times: 1})
	st := c.Go("tools/call", `{"name":"slow","arguments":{"ms":20,"steps":2},"_meta":{"progressToken":1}}`)
	if r := st.Wait(); r.Err == nil || st.LastEvent() == "" {
		t.Fatalf("the stream was to be cut after %q: %v", st.LastEvent(), r.Err)
	}
	rest := c.Get(st.LastEvent()).Wait()
	if len(rest.Before) != 2 || rest.Text() != "done" {
		t.Errorf("resumed: %d messages, then %s", len(rest.Before), rest.Raw)
	}
	if r := c.Delete(); r.Status != 204 {
		t.Errorf("delete: %d", r.Status)
	}
	if r := c.Tool("echo", `{}`); r.Status != 404 {
		t.Errorf("after delete: %d", r.Status)
	}
}

func TestErasAreStrict(t *testing.T) {
	legacy := mcptest.Script{Versions: []string{mcptest.Legacy}}
	modern := mcptest.Script{Versions: []string{mcptest.Modern}}
	tests := []struct {
		name, form, method string
		script             mcptest.Script
		o                  mcptest.Options
		status, code       int
	}{
		{"legacy server, discover", "pipe", "server/discover", legacy, mcptest.Options{Version: mcptest.Modern}, 0, -32601},
		{"legacy server, discover", "http", "server/discover", legacy, mcptest.Options{Version: mcptest.Modern}, 400, 0},
		{"modern server, initialize", "pipe", "initialize", modern, mcptest.Options{}, 0, -32022},
		{"modern server, initialize", "http", "initialize", modern, mcptest.Options{}, 400, -32022},
		{"unknown version", "http", "tools/list", modern, mcptest.Options{Version: "2099-01-01"}, 400, -32022},
		{"header and body differ", "http", "tools/list", modern, mcptest.Options{Version: mcptest.Modern, Header: map[string]string{"Mcp-Method": "x"}}, 400, -32020},
		{"unknown method", "http", "x", modern, mcptest.Options{Version: mcptest.Modern}, 404, -32601},
		{"removed method", "http", "ping", mcptest.Script{}, mcptest.Options{Version: mcptest.Modern}, 404, -32601},
		{"before initialize", "pipe", "tools/list", mcptest.Script{}, mcptest.Options{}, 0, -32600},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.form, func(t *testing.T) {
			r := forms[tt.form](t, tt.script, tt.o).Call(tt.method, "")
			if r.Status != tt.status || r.Code() != tt.code {
				t.Errorf("status %d, %s %v", r.Status, r.Raw, r.Err)
			}
		})
	}
}

func TestParameterHeaders(t *testing.T) {
	s := mcptest.ListenHTTP(t, mcptest.Script{})
	for header, status := range map[string]int{"west": 200, "=?base64?d2VzdA==?=": 200, "east": 400, "": 400} {
		c := mcptest.Dial(t, s.URL, mcptest.Options{Version: mcptest.Modern, Header: map[string]string{"Mcp-Param-Region": header}})
		if r := c.Tool("headers", `{"region":"west"}`); r.Status != status {
			t.Errorf("%q: %d %s", header, r.Status, r.Raw)
		}
	}
}

func TestChildOverHTTP(t *testing.T) {
	cmd := mcptest.Cmd(t, mcptest.Script{Child: mcptest.ChildScript{Listen: "127.0.0.1:0"}})
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	n, err := out.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	mcptest.Dial(t, strings.TrimSpace(string(buffer[:n])), mcptest.Options{}).Open()
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestExitUntilFileExists(t *testing.T) {
	name := t.TempDir() + "/ready"
	script := mcptest.Script{Child: mcptest.ChildScript{Exit: 4, ExitUntil: name}}
	if err := mcptest.Cmd(t, script).Run(); err == nil || err.Error() != "exit status 4" {
		t.Errorf("before: %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mcptest.Cmd(t, script).Run(); err != nil {
		t.Errorf("after: %v", err)
	}
}

func TestInABubble(t *testing.T) {
	for _, version := range []string{mcptest.Legacy, mcptest.Modern} {
		synctest.Test(t, func(t *testing.T) {
			_, conn := mcptest.ServePipe(t, mcptest.Script{})
			c := mcptest.Connect(t, conn, conn, mcptest.Options{Version: version, Timeout: 2 * time.Hour})
			c.Open()
			start := time.Now()
			if r := c.Tool("slow", `{"ms":3600000}`); r.Text() != "done" || time.Since(start) != time.Hour {
				t.Errorf("%v, %s %v", time.Since(start), r.Raw, r.Err)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			c := mcptest.Dial(t, "http://fake/", mcptest.Options{
				Version: version, Timeout: 2 * time.Hour, HTTP: mcptest.InMemory(t, mcptest.NewServer(t, mcptest.Script{})),
			})
			c.Open()
			start := time.Now()
			if r := c.Tool("slow", `{"ms":3600000}`); r.Text() != "done" || time.Since(start) != time.Hour {
				t.Errorf("%v, %s %v", time.Since(start), r.Raw, r.Err)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	session := func(form string, args string) *mcptest.Transcript {
		c := forms[form](t, mcptest.Script{}, mcptest.Options{Version: mcptest.Modern})
		c.Open()
		c.Tool("echo", args)
		c.Call("tools/call", `{"name":"slow","arguments":{"ms":2,"steps":2},"_meta":{"progressToken":9}}`)
		return c.Transcript
	}
	pipe := session("pipe", `{"n":9007199254740993}`)
	if diff := mcptest.Diff(pipe, session("http", `{"n":9007199254740993}`)); diff != "" {
		t.Error(diff)
	}
	if diff := mcptest.Diff(pipe, session("http", `{"n":9007199254740992}`)); diff == "" {
		t.Error("a changed byte was not seen")
	}
	if diff := mcptest.Diff(pipe, session("http", `{"n":9007199254740992}`), "tools/call"); diff != "" {
		t.Error(diff)
	}
}

func TestHandlerAndSerial(t *testing.T) {
	s, conn := mcptest.ServePipe(t, mcptest.Script{Serial: true})
	var calls atomic.Int32
	s.Handle("x/mine", func(params jsonRaw) (string, error) {
		calls.Add(1)
		return `{"got":` + string(params) + `}`, context.Cause(t.Context())
	})
	c := mcptest.Connect(t, conn, conn, mcptest.Options{})
	c.Open()
	slow := c.Go("tools/call", `{"name":"slow","arguments":{"ms":30}}`)
	if r := c.Call("x/mine", `{"a":1}`); string(r.Result) != `{"got":{"a":1}}` || calls.Load() != 1 {
		t.Errorf("%s %v", r.Raw, r.Err)
	}
	entries := c.Transcript.Entries()
	if got := string(entries[len(entries)-2].For); got != string(slow.Wait().ID) {
		t.Errorf("the reply before the last was for %s", got)
	}
}
