package edge

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRefusedBeforeTheMessage(t *testing.T) {
	s := newRig(t, Options{MaxMessage: 200}, &fake{})
	ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	for _, c := range []struct {
		name   string
		method string
		header http.Header
		body   string
		status int
		rpc    int
	}{
		{"no content type", "POST", heads("Content-Type", ""), ping, 415, -32600},
		{"text", "POST", heads("Content-Type", "text/plain"), ping, 415, -32600},
		{"form", "POST", heads("Content-Type", "application/x-www-form-urlencoded"), ping, 415, -32600},
		{"json in disguise", "POST", heads("Content-Type", "text/plain; application/json"), ping, 415, -32600},
		{"two content types", "POST", heads("Content-Type", "application/json|text/plain"), ping, 415, -32600},
		{"compressed", "POST", heads("Content-Encoding", "gzip"), ping, 415, -32600},
		{"accepts html", "POST", heads("Accept", "text/html"), ping, 406, -32600},
		{"refuses both", "POST", heads("Accept", "application/json;q=0, text/event-stream; q=0.0"), ping, 406, -32600},
		{"too large", "POST", heads(), `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 200) + `"}`, 413, -32600},
		{"empty", "POST", heads(), "", 400, -32700},
		{"no json", "POST", heads(), "{", 400, -32700},
		{"json and more", "POST", heads(), ping + "x", 400, -32700},
		{"not UTF-8", "POST", heads(), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}", 400, -32700},
		{"no message", "POST", heads(), "17", 400, -32600},
		{"id is null", "POST", heads(), `{"jsonrpc":"2.0","id":null,"method":"ping"}`, 400, -32600},
		{"no version", "POST", heads(), `{"id":1,"method":"ping"}`, 400, -32600},
		{"method twice", "POST", heads(), `{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}`, 400, -32600},
		{"method in disguise", "POST", heads(), `{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}`, 400, -32600},
		{"no session", "POST", heads(), ping, 400, -32600},
		{"a batch without session", "POST", heads(), "[" + ping + "]", 400, -32600},
		{"an empty batch", "POST", heads(), "[]", 400, -32600},
		{"a broken batch", "POST", heads(), "[", 400, -32700},
		{"unknown session", "POST", heads(headerSession, "nope"), ping, 404, -32600},
		{"two sessions", "POST", heads(headerSession, "a|b"), ping, 400, -32600},
		{"response without session", "POST", heads(), `{"jsonrpc":"2.0","id":1,"result":{}}`, 400, -32600},
		{"initialize without version", "POST", heads(), `{"jsonrpc":"2.0","id":1,"method":"initialize"}`, 400, -32602},
		{"initialize with a number", "POST", heads(), `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}`, 400, -32602},
		{"initialize with odd capabilities", "POST", heads(), `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"x","capabilities":[]}}`, 400, -32602},
		{"initialize with an odd header", "POST", heads(headerVersion, "1999-01-01"), `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}`, 400, -32600},
		{"get without session", "GET", heads(), "", 405, -32600},
		{"modern get", "GET", heads(headerVersion, modernVersion), "", 405, -32600},
		{"get of an unknown session", "GET", heads(headerSession, "nope"), "", 404, -32600},
		{"get of json", "GET", heads(headerSession, "nope", "Accept", "application/json"), "", 406, -32600},
		{"delete without session", "DELETE", heads(), "", 400, -32600},
		{"modern delete", "DELETE", heads(headerVersion, modernVersion), "", 405, -32600},
		{"delete of an unknown session", "DELETE", heads(headerSession, "nope"), "", 404, -32600},
		{"get with a body", "GET", heads(headerSession, "nope"), ping, 400, -32600},
		{"delete with a body", "DELETE", heads(headerSession, "nope"), ping, 400, -32600},
		{"put", "PUT", heads(), ping, 405, -32600},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.do(c.method, "/mcp", c.header, c.body)
			if a.status != c.status || a.rpc(t) != c.rpc {
				t.Errorf("got %d %s, want %d %d", a.status, a.body, c.status, c.rpc)
			}
			if c.status == 405 && a.header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
		})
	}
	if a := s.do("HEAD", "/mcp", heads(), ""); a.status != 405 {
		t.Errorf("HEAD: %d", a.status)
	}
}

func TestLegacyRequests(t *testing.T) {
	for _, version := range legacyVersions {
		t.Run(version, func(t *testing.T) {
			s := newRig(t, Options{}, &fake{})
			id := s.initialize(version)
			other := legacyVersions[0]
			if other == version {
				other = legacyVersions[1]
			}
			ping := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
			pong := `{"jsonrpc":"2.0","id":1,"result":{}}`
			batch := answer{400, nil, ""}
			if version == batchVersion {
				batch = answer{200, nil, `[` + pong + `]`}
			}
			for _, c := range []struct {
				name   string
				header http.Header
				body   string
				status int
				want   string // the body, or the code of the error
			}{
				{"ping", heads(headerVersion, version), ping, 200, pong},
				{"ping without version", heads(), ping, 200, pong},
				{"ping with spaces around", heads(headerVersion, " "+version+" "), ping, 200, pong},
				{"ping, JSON only", heads("Accept", "application/json"), ping, 200, pong},
				{"ping, anything", heads("Accept", "*/*"), ping, 200, pong},
				{"ping, no Accept", heads("Accept", ""), ping, 200, pong},
				{"charset", heads("Content-Type", "Application/JSON; charset=utf-8"), ping, 200, pong},
				{"another version", heads(headerVersion, other), ping, 400, "-32600"},
				{"an unknown version", heads(headerVersion, "1999-01-01"), ping, 400, "-32600"},
				{"two versions", heads(headerVersion, version+"|"+version), ping, 400, "-32600"},
				{"odd id", heads(), `{"jsonrpc":"2.0","id":1.50e1,"method":"ping"}`, 200, `{"jsonrpc":"2.0","id":1.50e1,"result":{}}`},
				{"big id", heads(), `{"id":9007199254740993,"method":"ping","jsonrpc":"2.0"}`, 200, `{"jsonrpc":"2.0","id":9007199254740993,"result":{}}`},
				{"initialized", heads(), `{"jsonrpc":"2.0","method":"notifications/initialized"}`, 202, ""},
				{"cancelled", heads(), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`, 202, ""},
				{"cancelled without id", heads(), `{"jsonrpc":"2.0","method":"notifications/cancelled"}`, 202, ""},
				{"cancelled in two ways", heads(), `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"requestID":8}}`, 400, "-32600"},
				{"roots", heads(), `{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, 202, ""},
				{"response", heads(), `{"jsonrpc":"2.0","id":1,"result":{}}`, 202, ""},
				{"error response", heads(), `{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}`, 202, ""},
				{"unknown method", heads(), `{"jsonrpc":"2.0","id":1,"method":"x/y"}`, 200, "-32601"},
				{"listen", heads(), `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}`, 200, "-32601"},
				{"name is a number", heads(), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":1}}`, 200, "-32602"},
				{"name twice", heads(), `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}`, 400, "-32600"},
				{
					"call", heads(), `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"a","arguments":{"n":9007199254740993}}}`, 200,
					`{"jsonrpc":"2.0","id":"x","result":{"content":[{"type":"text","text":"a {\"n\":9007199254740993}"}],"big":9007199254740993}}`,
				},
				{"batch", heads(), "[" + ping + "]", batch.status, batch.body},
			} {
				t.Run(c.name, func(t *testing.T) {
					c.header.Set(headerSession, id)
					a := s.post(c.header, c.body)
					if a.status != c.status {
						t.Errorf("status %d, want %d: %s", a.status, c.status, a.body)
					}
					if strings.HasPrefix(c.want, "-") {
						if got := fmt.Sprint(a.rpc(t)); got != c.want {
							t.Errorf("code %s, want %s", got, c.want)
						}
					} else if c.want != "" && c.want != a.body {
						t.Errorf("got  %s\nwant %s", a.body, c.want)
					}
					if c.status == 202 && a.body != "" {
						t.Errorf("202 with a body: %s", a.body)
					}
				})
			}
			if diff := cmp.Diff([]string{"notifications/roots/list_changed"}, s.b.notified); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestModernRequests(t *testing.T) {
	s := newRig(t, Options{}, &fake{})
	list := `{"jsonrpc":"2.0","id":"q","method":"tools/list","params":{` + testMeta + `}}`
	call := func(name string) string {
		return `{"jsonrpc":"2.0","id":"q","method":"tools/call","params":{"name":` + name + `,` + testMeta + `}}`
	}
	meta := func(members string) string {
		return `{"jsonrpc":"2.0","id":"q","method":"tools/list","params":{"_meta":` + members + `}}`
	}
	b64 := func(s string) string { return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?=" }
	const caps = `"io.modelcontextprotocol/clientCapabilities":{}`
	const version = `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`
	for _, c := range []struct {
		name   string
		header http.Header
		body   string
		status int
		rpc    int
	}{
		{"list", modern("tools/list", ""), list, 200, 0},
		{"list, anything accepted", modern("tools/list", "", "Accept", "*/*"), list, 200, 0},
		{"session ignored", modern("tools/list", "", headerSession, "nope"), list, 200, 0},
		{"call", modern("tools/call", "echo"), call(`"echo"`), 200, 0},
		{"call, spaces around", modern("tools/call", "  echo\t"), call(`"echo"`), 200, 0},
		{"call, encoded", modern("tools/call", b64("héllo")), call(`"héllo"`), 200, 0},
		{"call, escaped in the body", modern("tools/call", b64("hé")), call(`"h\u00e9"`), 200, 0},
		{"call, needlessly encoded", modern("tools/call", b64("echo")), call(`"echo"`), 200, 0},
		{"call, name like the sentinel", modern("tools/call", b64("=?base64?x?=")), call(`"=?base64?x?="`), 200, 0},
		{"call, half a sentinel", modern("tools/call", "=?base64?x"), call(`"=?base64?x"`), 200, 0},
		{"call, too short for one", modern("tools/call", "=?base64?="), call(`"=?base64?="`), 200, 0},

		{"no params", modern("tools/list", ""), `{"jsonrpc":"2.0","id":"q","method":"tools/list"}`, 400, -32602},
		{"no meta", modern("tools/list", ""), `{"jsonrpc":"2.0","id":"q","method":"tools/list","params":{}}`, 400, -32602},
		{"meta is an array", modern("tools/list", ""), meta(`[]`), 400, -32602},
		{"no version", modern("tools/list", ""), meta(`{` + caps + `}`), 400, -32602},
		{"version is a number", modern("tools/list", ""), meta(`{` + caps + `,"io.modelcontextprotocol/protocolVersion":2026}`), 400, -32602},
		{"no capabilities", modern("tools/list", ""), meta(`{` + version + `}`), 400, -32602},
		{"capabilities is null", modern("tools/list", ""), meta(`{` + version + `,"io.modelcontextprotocol/clientCapabilities":null}`), 400, -32602},
		{"client info is a string", modern("tools/list", ""), meta(`{` + version + `,` + caps + `,"io.modelcontextprotocol/clientInfo":"x"}`), 400, -32602},
		{"log level is unknown", modern("tools/list", ""), meta(`{` + version + `,` + caps + `,"io.modelcontextprotocol/logLevel":"loud"}`), 400, -32602},
		{"version twice", modern("tools/list", ""), meta(`{` + version + `,` + version + `,` + caps + `}`), 400, -32600},
		{"discover without meta", heads(), `{"jsonrpc":"2.0","id":"q","method":"server/discover"}`, 400, -32602},

		{"future version", modern("tools/list", "", headerVersion, "2030-01-01"), meta(`{"io.modelcontextprotocol/protocolVersion":"2030-01-01",` + caps + `}`), 400, -32022},
		{"ancient version", modern("tools/list", "", headerVersion, "1900-01-01"), meta(`{"io.modelcontextprotocol/protocolVersion":"1900-01-01",` + caps + `}`), 400, -32022},
		{"legacy version", modern("tools/list", "", headerVersion, "2025-11-25"), meta(`{"io.modelcontextprotocol/protocolVersion":"2025-11-25",` + caps + `}`), 400, -32022},

		{"unsupported in the body only", modern("tools/list", ""), meta(`{"io.modelcontextprotocol/protocolVersion":"1900-01-01",` + caps + `}`), 400, -32020},
		{"unsupported without header", modern("tools/list", "", headerVersion, ""), meta(`{"io.modelcontextprotocol/protocolVersion":"1900-01-01",` + caps + `}`), 400, -32020},
		{"unsupported and incomplete", modern("tools/list", "", headerVersion, "2030-01-01"), meta(`{"io.modelcontextprotocol/protocolVersion":"2030-01-01"}`), 400, -32602},
		{"no version header", modern("tools/list", "", headerVersion, ""), list, 400, -32020},
		{"another version header", modern("tools/list", "", headerVersion, "2025-11-25"), list, 400, -32020},
		{"a later version header", modern("tools/list", "", headerVersion, "2027-01-01"), list, 400, -32020},
		{"two version headers", modern("tools/list", "", headerVersion, modernVersion+"|"+modernVersion), list, 400, -32020},
		{"no method header", modern("", ""), list, 400, -32020},
		{"another method header", modern("tools/call", ""), list, 400, -32020},
		{"method header in capitals", modern("Tools/List", ""), list, 400, -32020},
		{"two method headers", modern("tools/list|tools/list", ""), list, 400, -32020},
		{"no name header", modern("tools/call", ""), call(`"echo"`), 400, -32020},
		{"another name header", modern("tools/call", "other"), call(`"echo"`), 400, -32020},
		{"name header in capitals", modern("tools/call", "Echo"), call(`"echo"`), 400, -32020},
		{"two name headers", modern("tools/call", "echo|echo"), call(`"echo"`), 400, -32020},
		{"raw UTF-8", modern("tools/call", "héllo"), call(`"héllo"`), 400, -32020},
		{"broken Base64", modern("tools/call", "=?base64?!!?="), call(`"echo"`), 400, -32020},
		{"Base64 of no text", modern("tools/call", b64("\xff")), call(`"echo"`), 400, -32020},
		{"Base64 in capitals", modern("tools/call", "=?BASE64?ZWNobw==?="), call(`"echo"`), 400, -32020},
		{"name only in the header", modern("tools/call", "echo"), `{"jsonrpc":"2.0","id":"q","method":"tools/call","params":{` + testMeta + `}}`, 400, -32020},
		{"name is a number", modern("tools/call", "1"), call(`1`), 400, -32602},
		{"uri header", modern("resources/read", "a:b"), `{"jsonrpc":"2.0","id":"q","method":"resources/read","params":{"uri":"a:c",` + testMeta + `}}`, 400, -32020},
		{"task header", modern("tasks/get", "t1"), `{"jsonrpc":"2.0","id":"q","method":"tasks/get","params":{"taskId":"t2",` + testMeta + `}}`, 400, -32020},

		{"unknown method", modern("x/y", ""), `{"jsonrpc":"2.0","id":"q","method":"x/y","params":{` + testMeta + `}}`, 404, -32601},
		{"initialize", modern("initialize", ""), `{"jsonrpc":"2.0","id":"q","method":"initialize","params":{"protocolVersion":"2026-07-28"}}`, 404, -32601},
		{"ping", modern("ping", ""), `{"jsonrpc":"2.0","id":"q","method":"ping","params":{` + testMeta + `}}`, 404, -32601},
		{"set level", modern("logging/setLevel", ""), `{"jsonrpc":"2.0","id":"q","method":"logging/setLevel","params":{"level":"debug",` + testMeta + `}}`, 404, -32601},
		{"subscribe", modern("resources/subscribe", ""), `{"jsonrpc":"2.0","id":"q","method":"resources/subscribe","params":{"uri":"a:b",` + testMeta + `}}`, 404, -32601},
		{"unsubscribe", modern("resources/unsubscribe", ""), `{"jsonrpc":"2.0","id":"q","method":"resources/unsubscribe","params":{"uri":"a:b",` + testMeta + `}}`, 404, -32601},

		{"response", modern("", ""), `{"jsonrpc":"2.0","id":"q","result":{}}`, 400, -32600},
		{"long affinity", modern("tools/list", "", headerAffinity, strings.Repeat("x", 257)), list, 400, -32600},
		{"two affinities", modern("tools/list", "", headerAffinity, "a|b"), list, 400, -32600},
		{"listen without filter", modern("subscriptions/listen", ""), `{"jsonrpc":"2.0","id":"q","method":"subscriptions/listen","params":{` + testMeta + `}}`, 400, -32602},
		{"listen as JSON", modern("subscriptions/listen", "", "Accept", "application/json"), `{"jsonrpc":"2.0","id":"q","method":"subscriptions/listen","params":{"notifications":{},` + testMeta + `}}`, 406, -32600},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := s.post(c.header, c.body)
			if a.status != c.status || a.rpc(t) != c.rpc {
				t.Errorf("got %d %s, want %d %d", a.status, a.body, c.status, c.rpc)
			}
			if c.rpc != -32600 && !strings.Contains(a.body, `"id":"q"`) {
				t.Errorf("the id is not echoed: %s", a.body)
			}
			if h := a.header.Get(headerSession); h != "" {
				t.Errorf("a session: %s", h)
			}
		})
	}
	if a := s.post(modern("", ""), `[`+list+`]`); a.status != 400 || a.rpc(t) != -32600 {
		t.Errorf("batch: %d %s", a.status, a.body)
	}
	for _, body := range []string{
		`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`,
		`{"jsonrpc":"2.0","method":"notifications/x"}`,
	} {
		if a := s.post(modern("", ""), body); a.status != 202 || a.body != "" {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if diff := cmp.Diff([]string{"notifications/x"}, s.b.notified); diff != "" {
		t.Error(diff)
	}
}

func TestUnsupportedVersionListsWhatDiscoverLists(t *testing.T) {
	s := newRig(t, Options{}, &fake{})
	a := s.post(modern("tools/list", "", headerVersion, "2030-01-01"),
		`{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{`+strings.ReplaceAll(testMeta, modernVersion, "2030-01-01")+`}}`)
	all := `["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"]`
	want := `{"jsonrpc":"2.0","id":3,"error":{"code":-32022,"message":"unsupported protocol version","data":{"requested":"2030-01-01","supported":` + all + `}}}`
	if a.body != want {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}
	d := s.post(modern("server/discover", ""), `{"jsonrpc":"2.0","id":3,"method":"server/discover","params":{`+testMeta+`}}`)
	want = `{"jsonrpc":"2.0","id":3,"result":{"resultType":"complete","supportedVersions":` + all +
		`,"capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true}},"instructions":"be \"good\"","ttlMs":0,"cacheScope":"private",` +
		`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"fake","version":"1", "x":1.10}}}}`
	if d.status != 200 || d.body != want {
		t.Errorf("got  %d %s\nwant %s", d.status, d.body, want)
	}
}
