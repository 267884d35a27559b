package manager_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
	"github.com/shannon-mcp/shannon/manager"
)

// endpoint serves a manager's handler and returns its address.
func endpoint(t *testing.T, m *manager.Manager) string {
	t.Helper()
	s := httptest.NewServer(m.Handler())
	t.Cleanup(s.Close)
	return s.URL
}

func add(t *testing.T, m *manager.Manager, s shannon.Server) {
	t.Helper()
	if _, err := m.AddServer(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if st, err := m.Connect(t.Context(), s.Name); err != nil {
		t.Fatalf("connect %s: %v (%+v)", s.Name, err, st)
	}
}

// versions are one version of each era, and the oldest.
var versions = []string{"2024-11-05", "2025-11-25", "2026-07-28"}

// oddSession says what a client may say that a relay could lose: integers over
// 2^53, unknown members and content types, odd ids, escapes, errors with data.
func oddSession(c *mcptest.Client) {
	odd := `{"result":{"resultType":"complete","content":[{"type":"unheard-of","n":9007199254740993,"z":1.10,"e":1e400}],"future":{"y":null,"":[[]]},"t":"\u00e9\/\ud83d\ude00 é"}}`
	for _, id := range []string{`9007199254740993`, `"x\u0041\n"`, `-5`, `"007"`, `0`} {
		c.GoID(id, "tools/call", `{"name":"exact","arguments":`+odd+`,"extra":{"big":12345678901234567890}}`).Wait()
	}
	c.Tool("echo", `{"a":  9007199254740993 ,"nested":{"name":"other","_meta":{"progressToken":1}}}`)
	c.Tool("fail", `{"text":"no"}`)
	c.Tool("rpcerror", `{"code":-32050,"message":"m","data":{"n":9007199254740993,"x":[1.0]}}`)
	c.Tool("add", `{"a":1,"b":2}`)
	c.Call("tools/list", "")
	c.Call("resources/list", "")
	c.Call("prompts/list", "")
	c.Call("x/echo", `{"n":9007199254740993,"name":"free","uri":[1]}`)
	c.Call("x/unknown", `{"n":1}`)
	c.Tool("no-such-tool", `{}`)
	c.Call("tools/call", `{"name":"slow","arguments":{"ms":30,"steps":3},"_meta":{"progressToken":"tok\u00e9n","vendor/x":{"n":9007199254740993}}}`)
	c.Call("tools/call", `{"name":"slow","arguments":{"ms":30,"steps":2},"_meta":{"progressToken":9007199254740991}}`)
}

func TestBytesPassUnaltered(t *testing.T) {
	script := mcptest.Script{PageSize: 7}
	web := mcptest.ListenHTTP(t, script)
	m := open(t, t.TempDir())
	add(t, m, fake(t, "pipe", script))
	s := shannon.NewServer("web")
	s.Transport, s.Endpoint = shannon.TransportHTTP, web.URL
	add(t, m, s)
	url := endpoint(t, m)
	for _, version := range versions {
		for name, direct := range map[string]func(*testing.T, mcptest.Options) *mcptest.Client{
			"pipe": func(t *testing.T, o mcptest.Options) *mcptest.Client {
				return mcptest.Start(t, mcptest.Cmd(t, script), o)
			},
			"web": func(t *testing.T, o mcptest.Options) *mcptest.Client { return mcptest.Dial(t, web.URL, o) },
		} {
			t.Run(name+"/"+version, func(t *testing.T) {
				o := mcptest.Options{Version: version, Timeout: time.Minute}
				a, b := direct(t, o), mcptest.Dial(t, url+"/servers/"+name+"/mcp", o)
				for _, c := range []*mcptest.Client{a, b} {
					if r := c.Open(); r.Err != nil || r.Result == nil {
						t.Fatalf("open: %s %v", r.Raw, r.Err)
					}
					oddSession(c)
				}
				if d := mcptest.Diff(a.Transcript, b.Transcript, "initialize", "server/discover"); d != "" {
					t.Errorf("direct and through Shannon differ (-direct +through):\n%s", d)
				}
			})
		}
	}
}

// TestTools drives the aggregated endpoint: names, paging, calls, errors, and
// that a change of one server's tools is seen.
func TestTools(t *testing.T) {
	m := open(t, t.TempDir())
	for name, v := range map[string][]string{"old": {"2025-06-18"}, "new": {"2026-07-28"}, "both": nil} {
		add(t, m, fake(t, name, mcptest.Script{Versions: v, PageSize: 5}))
	}
	url := endpoint(t, m)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			c := mcptest.Dial(t, url+"/mcp", mcptest.Options{Version: version, Timeout: time.Minute})
			if r := c.Open(); r.Result == nil {
				t.Fatalf("open: %s %v", r.Raw, r.Err)
			}
			servers, err := m.ListServers(t.Context(), shannon.ServerFilter{})
			if err != nil {
				t.Fatal(err)
			}
			list := string(c.Call("tools/list", "").Result)
			for _, s := range servers {
				if !strings.Contains(list, `"`+s.Name+`__echo"`) || !strings.Contains(list, `"`+s.Name+`__change"`) {
					t.Errorf("the list lacks tools of %s", s.Name)
				}
				if r := c.Tool(s.Name+"__echo", `{"n":9007199254740993}`); !strings.Contains(string(r.Result), "9007199254740993") {
					t.Errorf("echo of %s: %s %v", s.Name, r.Raw, r.Err)
				}
				if r := c.Tool(s.Name+"__rpcerror", `{"code":-32050,"message":"m","data":[1]}`); string(r.Error) != `{"code":-32050,"message":"m","data":[1]}` {
					t.Errorf("error of %s: %s %v", s.Name, r.Raw, r.Err)
				}
				r := c.Call("tools/call", `{"name":"`+s.Name+`__slow","arguments":{"ms":40,"steps":4},"_meta":{"progressToken":"p"}}`)
				if len(r.Before) != 4 || string(r.Before[0].Get("params", "progressToken")) != `"p"` {
					t.Errorf("progress of %s: %v", s.Name, r.Before)
				}
			}
			if r := c.Tool("nobody__echo", `{}`); r.Code() != -32602 {
				t.Errorf("unknown tool: %s", r.Raw)
			}
			if r := c.Call("tools/list", `{"cursor":"?"}`); r.Code() != -32602 {
				t.Errorf("bad cursor: %s", r.Raw)
			}
		})
	}
}

// TestNothingIsCrossed lets many clients call with identical ids through shared
// peers of each kind; each answer must carry the caller's own nonce.
func TestNothingIsCrossed(t *testing.T) {
	calls := 60
	if testing.Short() {
		calls = 15
	}
	m := open(t, t.TempDir())
	for name, v := range map[string][]string{"old": {"2025-11-25"}, "new": {"2026-07-28"}} {
		add(t, m, fake(t, name, mcptest.Script{Versions: v}))
		s := shannon.NewServer("web-" + name)
		s.Transport, s.Endpoint = shannon.TransportHTTP, mcptest.ListenHTTP(t, mcptest.Script{Versions: v}).URL
		add(t, m, s)
	}
	url := endpoint(t, m) + "/mcp"
	tools := []string{"old__slow", "new__slow", "web-old__slow", "web-new__slow", "old__echo", "new__echo", "web-old__echo", "web-new__echo"}
	var wg sync.WaitGroup
	for i := range 64 {
		c := mcptest.Dial(t, url, mcptest.Options{Version: versions[i%len(versions)], Timeout: time.Minute})
		wg.Go(func() {
			if r := c.Open(); r.Result == nil {
				t.Errorf("open: %s %v", r.Raw, r.Err)
				return
			}
			for n := range calls {
				nonce := fmt.Sprintf("nonce-%d-%d", i, n)
				tool := tools[(i+n)%len(tools)]
				r := c.GoID(fmt.Sprint(n), "tools/call", `{"name":"`+tool+`","arguments":{"ms":2,"steps":2,"text":"`+nonce+`"},"_meta":{"progressToken":"`+nonce+`"}}`).Wait()
				if strings.HasSuffix(tool, "echo") && !strings.Contains(string(r.Result), nonce) {
					t.Errorf("%s got %s %v", nonce, r.Raw, r.Err)
				}
				if r.Result == nil || string(r.ID) != fmt.Sprint(n) {
					t.Errorf("%s: %s %v", nonce, r.Raw, r.Err)
				}
				for _, p := range r.Before {
					if string(p.Get("params", "progressToken")) != `"`+nonce+`"` {
						t.Errorf("%s got progress of another: %s", nonce, p.Raw)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestListChangesAreSeen(t *testing.T) {
	m := open(t, t.TempDir())
	add(t, m, fake(t, "old", mcptest.Script{Versions: []string{"2025-11-25"}}))
	add(t, m, fake(t, "new", mcptest.Script{Versions: []string{"2026-07-28"}}))
	url := endpoint(t, m)
	for _, path := range []string{"/mcp", "/servers/old/mcp", "/servers/new/mcp"} {
		for _, version := range versions {
			t.Run(path+"/"+version, func(t *testing.T) {
				c := mcptest.Dial(t, url+path, mcptest.Options{Version: version, Timeout: time.Minute})
				if r := c.Open(); r.Result == nil {
					t.Fatalf("open: %s %v", r.Raw, r.Err)
				}
				server := strings.TrimSuffix(strings.TrimPrefix(path, "/servers/"), "/mcp")
				if server == "" {
					server = "old"
				}
				var news *mcptest.Stream
				if version == "2026-07-28" {
					news = c.Listen(`{"toolsListChanged":true}`)
					if ack := news.Next(); ack.Method != "notifications/subscriptions/acknowledged" {
						t.Fatalf("first message: %s", ack.Raw)
					}
				} else {
					news = c.Get("")
				}
				defer news.Close()
				tool := strings.NewReplacer("/", "-", ".", "-").Replace("added" + path + version)
				if _, err := m.CallTool(t.Context(), server, "change", []byte(`{"add":["`+tool+`"]}`)); err != nil {
					t.Fatal(err)
				}
				if n := news.Next(); n.Method != "notifications/tools/list_changed" {
					t.Fatalf("got %s", n.Raw)
				}
				// The announcement of one list may stand for two changes in a row.
				deadline := time.Now().Add(5 * time.Second)
				for !strings.Contains(string(c.Call("tools/list", "").Result), tool) {
					if time.Now().After(deadline) {
						t.Fatal("the new tool is not listed")
					}
				}
			})
		}
	}
}

func TestCancellation(t *testing.T) {
	m := open(t, t.TempDir())
	web := map[string]*mcptest.HTTPServer{}
	for name, v := range map[string][]string{"old": {"2025-11-25"}, "new": {"2026-07-28"}} {
		web[name] = mcptest.ListenHTTP(t, mcptest.Script{Versions: v})
		s := shannon.NewServer("web-" + name)
		s.Transport, s.Endpoint = shannon.TransportHTTP, web[name].URL
		add(t, m, s)
		add(t, m, fake(t, "pipe-"+name, mcptest.Script{Versions: v}))
	}
	url := endpoint(t, m)
	for _, version := range versions {
		for _, server := range []string{"web-old", "web-new", "pipe-old", "pipe-new"} {
			t.Run(server+"/"+version, func(t *testing.T) {
				c := mcptest.Dial(t, url+"/mcp", mcptest.Options{Version: version, Timeout: time.Minute})
				if r := c.Open(); r.Result == nil {
					t.Fatalf("open: %s %v", r.Raw, r.Err)
				}
				before := cancelledAt(t, c, server)
				call := c.Go("tools/call", `{"name":"`+server+`__hang","arguments":{}}`)
				time.Sleep(50 * time.Millisecond) // the server has it
				call.Cancel()
				deadline := time.Now().Add(5 * time.Second)
				for cancelledAt(t, c, server) == before {
					if time.Now().After(deadline) {
						t.Fatal("the server was not told")
					}
				}
			})
		}
	}
}

// cancelledAt returns what a server says was cancelled.
func cancelledAt(t *testing.T, c *mcptest.Client, server string) string {
	t.Helper()
	r := c.Tool(server+"__cancelled", `{}`)
	if r.Result == nil {
		t.Fatalf("cancelled: %s %v", r.Raw, r.Err)
	}
	return r.Text()
}
