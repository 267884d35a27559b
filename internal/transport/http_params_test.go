package transport

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
	"github.com/shannon-mcp/shannon/internal/wire"
)

func TestParamAnnotations(t *testing.T) {
	deep := strings.Repeat(`{"properties":{"p":`, 70) + `{"type":"string","x-mcp-header":"A"}` + strings.Repeat(`}}`, 70)
	var many strings.Builder
	for i := range maxParams + 1 {
		fmt.Fprintf(&many, `,"p%d":{"type":"string","x-mcp-header":"H%d"}`, i, i)
	}
	for _, tt := range []struct {
		name, schema string
		want         string // paths and headers
		invalid      string // part of the reason
	}{
		{"none", `{"properties":{"a":{"type":"string"}}}`, "", ""},
		{
			"types", `{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"x-mcp-header":"B","type":"integer"},"c":{"type":"boolean","x-mcp-header":"C"}}}`,
			"a Mcp-Param-A, b Mcp-Param-B, c Mcp-Param-C", "",
		},
		{
			"nested", `{"properties":{"a":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"tenant-id"},"c":{}}},"d":{"type":"string","x-mcp-header":"D"}}}`,
			"a/b Mcp-Param-Tenant-Id, d Mcp-Param-D", "",
		},
		{
			"a property of that name", `{"properties":{"x-mcp-header":{"type":"string","x-mcp-header":"x!#$%&'*+-.^_|~9"},"properties":{"type":"string"}}}`,
			"x-mcp-header Mcp-Param-X!#$%&'*+-.^_|~9", "",
		},
		{"in values", `{"properties":{"a":{"type":"object","default":{"x-mcp-header":1},"examples":[{"x-mcp-header":1}],"enum":[{"x-mcp-header":1}],"const":{"x-mcp-header":1}}}}`, "", ""},
		{"in a text", `{"description":"x-mcp-header","properties":{"a":{"type":"string","title":"x-mcp-header"}}}`, "", ""},
		{"case of the key", `{"properties":{"a":{"type":"string","X-MCP-Header":"A"}}}`, "", ""},
		{"beside a composition", `{"properties":{"a":{"type":"string","x-mcp-header":"A","anyOf":[{"minLength":1}]}}}`, "a Mcp-Param-A", ""},
		{"root", `{"type":"string","x-mcp-header":"A"}`, "", "something else"},
		{"items", `{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}`, "", "something else"},
		{"properties of items", `{"properties":{"a":{"items":{"properties":{"b":{"type":"string","x-mcp-header":"A"}}}}}}`, "", "something else"},
		{"prefixItems", `{"properties":{"a":{"prefixItems":[{"type":"string","x-mcp-header":"A"}]}}}`, "", "something else"},
		{"anyOf", `{"anyOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}`, "", "something else"},
		{"not", `{"not":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`, "", "something else"},
		{"then", `{"then":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}`, "", "something else"},
		{"behind a reference", `{"properties":{"a":{"$ref":"#/$defs/default"}},"$defs":{"default":{"type":"string","x-mcp-header":"A"}}}`, "", "something else"},
		{"additionalProperties", `{"additionalProperties":{"type":"string","x-mcp-header":"A"}}`, "", "something else"},
		{"patternProperties", `{"patternProperties":{"const":{"type":"string","x-mcp-header":"A"}}}`, "", "something else"},
		{"one is enough", `{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"number","x-mcp-header":"B"}}}`, "", `"b" is none of`},
		{"number", `{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}`, "", "is none of"},
		{"object", `{"properties":{"a":{"type":"object","x-mcp-header":"A"}}}`, "", "is none of"},
		{"several types", `{"properties":{"a":{"type":["string","null"],"x-mcp-header":"A"}}}`, "", "is none of"},
		{"no type", `{"properties":{"a":{"x-mcp-header":"A"}}}`, "", "is none of"},
		{"a reference", `{"properties":{"a":{"$ref":"#/x","x-mcp-header":"A"}}}`, "", "is none of"},
		{"case of the type", `{"properties":{"a":{"type":"string","Type":"object","x-mcp-header":"A"}}}`, "", "is none of"},
		{"empty", `{"properties":{"a":{"type":"string","x-mcp-header":""}}}`, "", "no name"},
		{"space", `{"properties":{"a":{"type":"string","x-mcp-header":"a b"}}}`, "", "no name"},
		{"colon", `{"properties":{"a":{"type":"string","x-mcp-header":"a:"}}}`, "", "no name"},
		{"line break", `{"properties":{"a":{"type":"string","x-mcp-header":"a\r\nX: y"}}}`, "", "no name"},
		{"not ASCII", `{"properties":{"a":{"type":"string","x-mcp-header":"Größe"}}}`, "", "no name"},
		{"no text", `{"properties":{"a":{"type":"string","x-mcp-header":true}}}`, "", "no name"},
		{"twice", `{"properties":{"a":{"type":"string","x-mcp-header":"Region"},"b":{"properties":{"c":{"type":"string","x-mcp-header":"REGION"}}}}}`, "", "two headers"},
		{"twice on one", `{"properties":{"a":{"type":"string","x-mcp-header":"A","x-mcp-header":"a"}}}`, "", "two headers"},
		{"too deep", deep, "", "levels deep"},
		{"too many", `{"properties":{"a":{"type":"string"}` + many.String() + `}}`, "", "more than 256"},
		{"no schema", `null`, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := readTool([]byte(`{"name":"x","inputSchema":` + tt.schema + `,"outputSchema":{"x-mcp-header":"elsewhere"}}`))
			var params []string
			for _, p := range got.params {
				params = append(params, strings.Join(p.path, "/")+" "+p.header)
			}
			if diff := cmp.Diff(tt.want, strings.Join(params, ", ")); diff != "" {
				t.Error(diff)
			}
			if (tt.invalid == "") != (got.invalid == "") || !strings.Contains(got.invalid, tt.invalid) {
				t.Errorf("invalid: %q, want %q", got.invalid, tt.invalid)
			}
		})
	}
}

// aTool returns a definition with one annotated string at a.b, and one at c.
func aTool(name, header string) string {
	return `{"name":"` + name + `","inputSchema":{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"` +
		header + `"}}},"c":{"type":"integer","x-mcp-header":"C"}}}}`
}

func TestParamValues(t *testing.T) {
	var p paramHeaders
	p.learn([]byte(`{"tools":[`+aTool("t", "B")+`]}`), func(s string) { t.Error(s) })
	for args, want := range map[string]http.Header{
		`{"a":{"b":"us-west1"},"c":42}`:            {"Mcp-Param-B": {"us-west1"}, "Mcp-Param-C": {"42"}},
		`{"c":-7, "a" : { "b" : "x\u0061\n" } }`:   {"Mcp-Param-B": {"=?base64?eGEK?="}, "Mcp-Param-C": {"-7"}},
		`{"a":{"b":"日本"}}`:                         {"Mcp-Param-B": {"=?base64?5pel5pys?="}},
		`{"a":{"b":" x "}}`:                        {"Mcp-Param-B": {"=?base64?IHgg?="}},
		`{"a":{"b":"=?base64?literal?="}}`:         {"Mcp-Param-B": {"=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="}},
		`{"a":{"b":""}}`:                           {"Mcp-Param-B": {""}},
		`{"a":{"b":"null"},"c":0}`:                 {"Mcp-Param-B": {"null"}, "Mcp-Param-C": {"0"}},
		`{"a":{"b":true},"c":false}`:               {"Mcp-Param-B": {"true"}, "Mcp-Param-C": {"false"}},
		`{"c":9007199254740991}`:                   {"Mcp-Param-C": {"9007199254740991"}},
		`{"c":9007199254740993}`:                   {"Mcp-Param-C": {"9007199254740993"}},
		`{"c":123456789012345678901234567890}`:     {"Mcp-Param-C": {"123456789012345678901234567890"}},
		`{"c":42.0}`:                               {"Mcp-Param-C": {"42"}},
		`{"c":1.5e3}`:                              {"Mcp-Param-C": {"1500"}},
		`{"c":-0}`:                                 {"Mcp-Param-C": {"0"}},
		`{"c":1e999999999}`:                        {"Mcp-Param-C": {"1e999999999"}},
		`{"c":1.5}`:                                {"Mcp-Param-C": {"1.5"}},
		`{"a":{"b":null},"c":null}`:                nil,
		`{"a":null}`:                               nil,
		`{"a":"b"}`:                                nil,
		`{"a":[{"b":"x"}]}`:                        nil,
		`{"a":{"b":["x"]},"c":{}}`:                 nil,
		`{"b":"x","d":{"c":1},"A":{"b":"x"}}`:      nil,
		`{"a":{"b":"x","b":"y"},"c":1,"C":2}`:      nil, // readers could disagree
		`{"a":{"b":"x","\u0062":"y"},"c":1,"c":1}`: nil,
		`{}`:   nil,
		`[]`:   nil,
		`null`: nil,
	} {
		r := request(t, "tools/call", `{"name":"t","arguments":`+args+`}`)
		if diff := cmp.Diff(want, p.of(r)); diff != "" {
			t.Errorf("%s: %s", args, diff)
		}
	}
	for name, r := range map[string]*wire.Request{
		"another tool": request(t, "tools/call", `{"name":"T","arguments":{"c":1}}`),
		"no arguments": request(t, "tools/call", `{"name":"t"}`),
		"two of them":  request(t, "tools/call", `{"name":"t","arguments":{"c":1},"arguments":{"c":2}}`),
		"a prompt":     request(t, "prompts/get", `{"name":"t","arguments":{"c":1}}`),
	} {
		if h := p.of(r); h != nil {
			t.Errorf("%s: %v", name, h)
		}
	}
	renamed := request(t, "tools/call", `{"name":"server_t","arguments":{"c":1}}`)
	renamed.Rename = "t"
	if p.of(renamed) == nil {
		t.Error("a tool with another public name has no headers")
	}
}

func TestParamsLearn(t *testing.T) {
	var p paramHeaders
	var remarks []string
	learn := func(tools ...string) {
		p.learn([]byte(`{"tools":[`+strings.Join(tools, ",")+`]}`), func(s string) { remarks = append(remarks, s) })
	}
	headers := func(tool string) int {
		return len(p.of(request(t, "tools/call", `{"name":"`+tool+`","arguments":{"c":1}}`)))
	}
	plain := `{"name":"a","inputSchema":{"type":"object"}}`
	bad := aTool("bad", "not a name")

	learn(plain)
	if p.known.Load() != nil {
		t.Error("a list without annotations costs something")
	}
	learn(aTool("a", "A"), bad)
	learn(aTool("b", "B"), bad, `{"name":1}`, `7`)
	if headers("a") != 1 || headers("b") != 1 || headers("bad") != 0 {
		t.Errorf("known: %v", *p.known.Load())
	}
	if len(remarks) != 1 || !strings.Contains(remarks[0], `"bad"`) || !strings.Contains(remarks[0], "no name of a header") {
		t.Errorf("remarks: %q", remarks)
	}
	learn(plain)
	if headers("a") != 0 || headers("b") != 1 {
		t.Errorf("a list does not replace what was known: %v", *p.known.Load())
	}
	learn(`{"name":"b"}`, `{"name":"bad"}`)
	if p.known.Load() != nil {
		t.Errorf("known: %v", *p.known.Load())
	}
	for i := range 3 {
		learn(aTool(strings.Repeat("n", maxKnownParams/2)+fmt.Sprint(i), "A"))
	}
	if n := size(*p.known.Load()); n > maxKnownParams {
		t.Errorf("%d bytes are kept", n)
	}
}

// clientsOfBothEras returns what makes the requests that a client of each era sends.
func clientsOfBothEras(t *testing.T) map[string]func(method, members string) *wire.Request {
	modern := &wire.Client{Era: shannon.EraModern, Version: modernVersion, Info: []byte(`{"name":"editor","version":"9"}`)}
	return map[string]func(method, members string) *wire.Request{
		"legacy": func(method, members string) *wire.Request { return request(t, method, "{"+members+"}") },
		"modern": func(method, members string) *wire.Request {
			if members != "" {
				members += ","
			}
			r, err := wire.Author(modern, method, []byte(`{`+members+`"_meta":{"`+wire.MetaVersion+`":"`+modernVersion+`","`+
				wire.MetaClientInfo+`":{"name":"editor","version":"9"},"`+wire.MetaClientCaps+`":{}}}`))
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
	}
}

func TestParamHeaders(t *testing.T) {
	for era, request := range clientsOfBothEras(t) {
		t.Run(era, func(t *testing.T) {
			s := mcptest.ListenHTTP(t, mcptest.Script{Tools: []json.RawMessage{json.RawMessage(aTool("bad", ""))}})
			rec := &recorder{}
			p, err := dialer(t, nil).Dial(t.Context(), Target{Kind: shannon.TransportHTTP, URL: s.URL}, Want{Era: shannon.EraModern}, rec.hooks())
			if err != nil {
				t.Fatal(err)
			}
			closing(t, p)
			mustCall(t, p, request("tools/list", ""))
			if !rec.logged(`tool "bad"`) {
				t.Error("an invalid annotation is not remarked")
			}
			for value, want := range map[string]string{`"west"`: "west", `"wést"`: "=?base64?d8Opc3Q=?=", `null`: ""} {
				got := mustCall(t, p, request("tools/call", `"name":"headers","arguments":{"region":`+value+`}`))
				if has := strings.Contains(got, `"Mcp-Param-Region":["`+want+`"]`); has != (want != "") {
					t.Errorf("%s: %s", value, got)
				}
			}
			if got := mustCall(t, p, request("tools/call", `"name":"echo","arguments":{"region":"west"}`)); strings.Contains(got, "Mcp-Param") {
				t.Errorf("echo: %s", got)
			}
		})
	}
}

// fussy is a server over HTTP that wants the argument c of every tool in a header.
type fussy struct {
	*webServer
	pages  []string // of its list of tools; none is an error
	header string
	lists  int
	calls  int
}

func newFussy(t *testing.T, header string, pages ...string) *fussy {
	s := &fussy{webServer: newWebServer(t, true), header: header, pages: pages}
	s.override = func(w http.ResponseWriter, r *http.Request, e wire.Envelope) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		id := string(e.Get(wire.FieldID))
		switch {
		case e.Method == "tools/list" && len(s.pages) == 0:
			s.lists++
			reply(w, 200, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"no list"}}`, id)
		case e.Method == "tools/list":
			page := 0
			if cursor, ok := e.Text(wire.FieldCursor); ok {
				page, _ = strconv.Atoi(cursor)
			}
			s.lists++
			next := ""
			if page+1 < len(s.pages) {
				next = fmt.Sprintf(`,"nextCursor":"%d"`, page+1)
			}
			reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":{"tools":[%s]%s}}`, id, s.pages[page], next)
		case e.Method == "tools/call":
			s.calls++
			if r.Header.Get(s.header) == "" {
				reply(w, 400, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32020,"message":"header mismatch"}}`, id)
				return true
			}
			reply(w, 200, `{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}`, id)
		default:
			return false
		}
		return true
	}
	return s
}

func (s *fussy) counts() (lists, calls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists, s.calls
}

func TestParamHeadersRefused(t *testing.T) {
	last := func(pages int, tool string) []string {
		all := make([]string, pages)
		for i := range all {
			all[i] = fmt.Sprintf(`{"name":"other%d"}`, i)
		}
		all[pages-1] = tool
		return all
	}
	for _, tt := range []struct {
		name         string
		header       string
		pages        []string
		ok           bool
		lists, calls int
	}{
		{"learns", "Mcp-Param-C", last(1, aTool("t", "B")), true, 1, 2},
		{"on a later page", "Mcp-Param-C", last(4, aTool("t", "B")), true, 4, 2},
		{"too late", "Mcp-Param-C", last(maxRelists+1, aTool("t", "B")), false, maxRelists, 1},
		{"only once", "Mcp-Param-Other", last(1, aTool("t", "B")), false, 1, 2},
		{"another tool", "Mcp-Param-C", last(2, aTool("u", "B")), false, 2, 1},
		{"no list", "Mcp-Param-C", nil, false, 1, 1},
	} {
		for era, request := range clientsOfBothEras(t) {
			t.Run(tt.name+" "+era, func(t *testing.T) {
				s := newFussy(t, tt.header, tt.pages...)
				p, _ := dialWeb(t, s.webServer, shannon.EraModern)
				got, err := p.Call(t.Context(), request("tools/call", `"name":"t","arguments":{"c":1}`), nil)
				if err != nil || (got.Kind == wire.KindResult) != tt.ok || (!tt.ok && errorCode(got) != wire.CodeHeaderMismatch) {
					t.Errorf("got %s, %v", got.Raw, err)
				}
				if lists, calls := s.counts(); lists != tt.lists || calls != tt.calls {
					t.Errorf("%d lists and %d calls, want %d and %d", lists, calls, tt.lists, tt.calls)
				}
			})
		}
	}
}

// TestParamHeadersChange has a server that renames a header.
func TestParamHeadersChange(t *testing.T) {
	s := newFussy(t, "Mcp-Param-B", strings.ReplaceAll(aTool("t", "A"), `"C"`, `"B"`))
	p, _ := dialWeb(t, s.webServer, shannon.EraModern)
	call := request(t, "tools/call", `{"name":"t","arguments":{"c":1}}`)
	mustCall(t, p, call)
	mustCall(t, p, call)
	if lists, calls := s.counts(); lists != 1 || calls != 3 {
		t.Errorf("%d lists and %d calls", lists, calls)
	}
	s.mu.Lock()
	s.header, s.pages = "Mcp-Param-C", []string{aTool("t", "A")}
	s.mu.Unlock()
	mustCall(t, p, call)
	if lists, calls := s.counts(); lists != 2 || calls != 5 {
		t.Errorf("%d lists and %d calls", lists, calls)
	}
	concurrently(t, p, func(_, _ string) *wire.Request { return call }, false)
}
