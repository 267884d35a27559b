package wire

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// tree is a JSON value with the order of its members and every scalar's bytes.
type tree struct {
	Scalar string
	Keys   []string // as they stand
	Kids   []*tree
}

func parseTree(t testing.TB, raw []byte) *tree {
	t.Helper()
	raw = bytes.TrimSpace(raw)
	if !json.Valid(raw) {
		t.Fatalf("not valid: %q", raw)
	}
	out := &tree{}
	switch raw[0] {
	case '{':
		out.Scalar = "{"
		for _, m := range readObject(t, raw, 0) {
			key := bytes.TrimRight(raw[:bytes.LastIndexByte(raw[:m.start], ':')], " \t\r\n")
			quote := len(key) - 1
			for ok := true; ok; { // back to the quote that begins the key
				quote = bytes.LastIndexByte(key[:quote], '"')
				ok = !json.Valid(key[quote:])
			}
			out.Keys = append(out.Keys, string(key[quote:]))
			out.Kids = append(out.Kids, parseTree(t, raw[m.start:m.end]))
		}
	case '[':
		out.Scalar = "["
		var elements []json.RawMessage
		if err := json.Unmarshal(raw, &elements); err != nil {
			t.Fatal(err)
		}
		for _, e := range elements {
			out.Kids = append(out.Kids, parseTree(t, e))
		}
	default:
		out.Scalar = string(raw)
	}
	return out
}

// get returns the last member with that key.
func (n *tree) get(key string) *tree {
	for i, k := range slices.Backward(n.Keys) {
		if k == `"`+key+`"` {
			return n.Kids[i]
		}
	}
	return nil
}

func (n *tree) set(key, scalar string) {
	if at := n.get(key); at != nil {
		*at = tree{Scalar: scalar}
	}
}

func (n *tree) remove(keys ...string) {
	var kept tree
	for i, k := range n.Keys {
		drop := false
		for _, key := range keys {
			drop = drop || k == `"`+key+`"`
		}
		if !drop {
			kept.Keys, kept.Kids = append(kept.Keys, k), append(kept.Kids, n.Kids[i])
		}
	}
	n.Keys, n.Kids = kept.Keys, kept.Kids
}

// FuzzRequest makes sure that a request goes out with nothing changed but what
// has to be.
func FuzzRequest(f *testing.F) {
	for _, s := range scanSeeds {
		for _, version := range []string{"", "2026-07-28"} {
			f.Add([]byte(s), "new\"name", version)
		}
	}
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":5}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":""}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":null,"\ud800":1,"a":{}}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":[]}}`,
		`{"jsonrpc":"2.0","id":1,"method":"x","params":{ }}`,
		`{"params":{},"method":"x","id":1.50,"jsonrpc":"2.0","extra":[1.10,1E5]}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`,
	} {
		f.Add([]byte(s), "", "")
		f.Add([]byte(s), "y", "2026-07-28")
	}
	f.Fuzz(checkRequest)
}

func checkRequest(t *testing.T, raw []byte, rename, version string) {
	e, err := Scan(raw)
	if err != nil || e.Kind != KindRequest || !utf8.ValidString(rename) || !utf8.ValidString(version) {
		return
	}
	r, err := NewRequest(e, &Client{Info: []byte(`{"name":"c"}`)})
	if err != nil {
		return
	}
	r.Rename = rename
	o := Outgoing{ID: []byte("42"), Version: version, Capabilities: []byte(`{"k":{}}`)}
	before := bytes.Clone(raw)
	out := r.AppendTo([]byte("dst"), &o)
	if !bytes.Equal(before, raw) || !bytes.HasPrefix(out, []byte("dst")) {
		t.Fatalf("%q or dst was changed", before)
	}
	out = out[3:]
	sent, err := Scan(out)
	if err != nil || sent.Kind != KindRequest || string(sent.Get(FieldID)) != "42" {
		t.Fatalf("%q became %q: %v", raw, out, err)
	}
	want, got := parseTree(t, raw), parseTree(t, out)
	want.set("id", "42")
	renameIn(t, want, r)
	metaIn(want, r, &o)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%q became %q (-want +got):\n%s", raw, out, diff)
	}
}

func renameIn(t *testing.T, want *tree, r *Request) {
	f := RoutingField(r.Method)
	if params := want.get("params"); params != nil && r.Rename != "" && r.Rename != r.Name && f != 0 {
		params.set(keyOf(f), string(AppendString(nil, r.Rename)))
	}
	if r.Name != "" {
		var name string
		if err := json.Unmarshal(r.Get(f), &name); err != nil || name != r.Name {
			t.Fatalf("name %q of %q", r.Name, r.Raw)
		}
	}
}

// metaIn says again, over trees, how _meta goes from one era to another.
func metaIn(want *tree, r *Request, o *Outgoing) {
	params := want.get("params")
	var meta *tree
	if params != nil {
		meta = params.get("_meta")
	}
	if meta != nil {
		if token := meta.get(MetaToken); token != nil && strings.ContainsRune("\"-0123456789", rune(token.Scalar[0])) {
			*token = tree{Scalar: "42"}
		}
	}
	stated := r.Has(FieldMetaVersion)
	if stated == (o.Version != "") {
		var was string
		if stated && (json.Unmarshal(r.Get(FieldMetaVersion), &was) != nil || was != o.Version) {
			meta.set(MetaVersion, string(AppendString(nil, o.Version)))
		}
		return
	}
	if params == nil {
		i := 0
		for i < len(want.Keys) && want.Keys[i] != `"method"` {
			i++
		}
		params = &tree{Scalar: "{"}
		want.Keys = append(want.Keys[:i+1], append([]string{`"params"`}, want.Keys[i+1:]...)...)
		want.Kids = append(want.Kids[:i+1], append([]*tree{params}, want.Kids[i+1:]...)...)
	}
	if meta == nil {
		meta = &tree{}
		params.Keys = append([]string{`"_meta"`}, params.Keys...)
		params.Kids = append([]*tree{meta}, params.Kids...)
	}
	if meta.Scalar != "{" {
		*meta = tree{Scalar: "{"}
	}
	meta.remove(MetaVersion, MetaClientInfo, MetaClientCaps, MetaLogLevel)
	if o.Version != "" {
		info := &tree{Scalar: "{", Keys: []string{`"name"`}, Kids: []*tree{{Scalar: `"c"`}}}
		caps := &tree{Scalar: "{", Keys: []string{`"k"`}, Kids: []*tree{{Scalar: "{"}}}
		version := &tree{Scalar: string(AppendString(nil, o.Version))}
		meta.Keys = append([]string{`"` + MetaVersion + `"`, `"` + MetaClientInfo + `"`, `"` + MetaClientCaps + `"`}, meta.Keys...)
		meta.Kids = append([]*tree{version, info, caps}, meta.Kids...)
	}
}

// FuzzReply makes sure that a reply comes back with nothing changed but its id
// and what is put in front of the result.
func FuzzReply(f *testing.F) {
	for _, s := range scanSeeds {
		f.Add([]byte(s), []byte(`"x"`), []byte(`"ttlMs":0,"a":[]`))
		f.Add([]byte(s), []byte(`1.0`), []byte(nil))
	}
	f.Add([]byte(`{"result":{ },"id":1,"jsonrpc":"2.0"}`), []byte(`"\ud800"`), []byte(`"ttlMs":0`))
	f.Add([]byte(`{"result":5,"id":1,"jsonrpc":"2.0"}`), []byte(`1`), []byte(`"ttlMs":0`))
	f.Fuzz(func(t *testing.T, raw, id, members []byte) {
		e, err := Scan(raw)
		added := slicesConcat("{", members, "}")
		if err != nil || e.Kind != KindResult && e.Kind != KindError || !stringOrNumber(id) || !json.Valid(id) || !json.Valid(added) {
			return
		}
		extra := parseTree(t, added)
		if len(extra.Keys) == 0 {
			members = nil
		}
		r := Reply{e}
		out := r.AppendTo([]byte("dst"), id, members)[3:]
		want, got := parseTree(t, raw), parseTree(t, out)
		if e.Has(FieldID) {
			want.set("id", string(bytes.TrimSpace(id)))
		} else {
			want = &tree{
				Scalar: "{", Keys: []string{`"jsonrpc"`, `"id"`, `"error"`},
				Kids: []*tree{{Scalar: `"2.0"`}, {Scalar: string(bytes.TrimSpace(id))}, want.get("error")},
			}
		}
		if result := want.get("result"); result != nil && e.Kind == KindResult && result.Scalar == "{" {
			result.Keys, result.Kids = append(extra.Keys, result.Keys...), append(extra.Kids, result.Kids...)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q became %q (-want +got):\n%s", raw, out, diff)
		}
	})
}

func slicesConcat(open string, b []byte, closing string) []byte {
	return []byte(open + string(b) + closing)
}

func TestAppendToKeepsEveryOtherByte(t *testing.T) {
	const (
		version = `"io.modelcontextprotocol/protocolVersion":"2026-07-28"`
		modern  = `"io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/clientCapabilities":{}`
	)
	tests := []struct {
		name, in, rename, version, want string
	}{{
		name:   "legacy to legacy",
		in:     "{ \"jsonrpc\":\"2.0\" ,\n \"id\" : \"a\\u0062\" , \"method\":\"tools\\/call\",\"params\":{\"arguments\":{\"n\": 9007199254740993, \"f\":1.10,\"u\":\"\\u00e9\"} ,\"name\":\"s__t\",\"x\":null, \"_meta\":{\"progressToken\":\"p\",\"z\":1}},\"y\":[ ]}\t",
		rename: "t",
		want:   "{ \"jsonrpc\":\"2.0\" ,\n \"id\" : 42 , \"method\":\"tools\\/call\",\"params\":{\"arguments\":{\"n\": 9007199254740993, \"f\":1.10,\"u\":\"\\u00e9\"} ,\"name\":\"t\",\"x\":null, \"_meta\":{\"progressToken\":42,\"z\":1}},\"y\":[ ]}\t",
	}, {
		name: "legacy to modern, no params",
		in:   `{"jsonrpc":"2.0","id":1,"method":"x"}`, version: "2026-07-28",
		want: `{"jsonrpc":"2.0","id":42,"method":"x","params":{"_meta":{` + version + `,` + modern + `}}}`,
	}, {
		name: "legacy to modern, empty params",
		in:   `{"jsonrpc":"2.0","id":1,"method":"x","params":{ }}`, version: "2026-07-28",
		want: `{"jsonrpc":"2.0","id":42,"method":"x","params":{"_meta":{` + version + `,` + modern + `} }}`,
	}, {
		name: "legacy to modern, meta",
		in:   `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"\u00e9": 1.0,"progressToken":"p"}}}`, version: "2026-07-28",
		want: `{"jsonrpc":"2.0","id":42,"method":"x","params":{"_meta":{` + version + `,` + modern + `,"\u00e9":1.0,"progressToken":42}}}`,
	}, {
		name: "modern to legacy",
		in:   `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{` + version + `,` + modern + `,"a":1},"b":2}}`,
		want: `{"jsonrpc":"2.0","id":42,"method":"x","params":{"_meta":{"a":1},"b":2}}`,
	}, {
		name: "modern to another modern",
		in:   `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{` + version + `}}}`, version: "2027-01-01",
		want: `{"jsonrpc":"2.0","id":42,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01"}}}`,
	}, {
		name: "a version that is no string",
		in:   `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":5}}}`, version: "2026-07-28",
		want: `{"jsonrpc":"2.0","id":42,"method":"x","params":{"_meta":{` + version + `}}}`,
	}, {
		name: "a token that is none",
		in:   `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"progressToken":null}}}`,
		want: `{"jsonrpc":"2.0","id":42,"method":"x","params":{"_meta":{"progressToken":null}}}`,
	}, {
		name: "nothing to rename", rename: "t",
		in:   `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`,
		want: `{"jsonrpc":"2.0","id":42,"method":"tools/call","params":{}}`,
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := Scan([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewRequest(e, &Client{Info: []byte(`{"name":"c"}`)})
			if err != nil {
				t.Fatal(err)
			}
			r.Rename = tt.rename
			got := r.AppendTo(nil, &Outgoing{ID: []byte("42"), Version: tt.version})
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
