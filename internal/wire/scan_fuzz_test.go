package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// member is a member of an object as an independent, strict reader sees it.
type member struct {
	key        string // decoded
	start, end int    // of the value
}

// readObject reads the members of an object with encoding/json; base is where
// raw begins in the message.
func readObject(t testing.TB, raw []byte, base int) []member {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(raw))
	tok, err := dec.Token()
	if err != nil || tok != json.Delim('{') {
		return nil
	}
	var members []member
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			t.Fatalf("read key in %q: %v", raw, err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			t.Fatalf("read value in %q: %v", raw, err)
		}
		end := int(dec.InputOffset())
		members = append(members, member{key.(string), base + end - len(value), base + end})
	}
	return members
}

// A reader picks the member that it takes for a key.
type reader struct {
	name  string
	same  func(key, want string) bool
	first bool
}

func (r reader) pick(members []member, want string) (Span, bool) {
	var at Span
	found := false
	for _, m := range members {
		if r.same(m.key, want) && (!found || !r.first) {
			at, found = Span{m.start, m.end}, true
		}
	}
	return at, found
}

func exact(key, want string) bool { return key == want }

func nulCut(key, want string) bool { k, _, _ := strings.Cut(key, "\x00"); return k == want }

func lower(key, want string) bool {
	return strings.ToLower(key) == strings.ToLower(want) //nolint:staticcheck // EqualFold takes fewer for the same
}

func upper(key, want string) bool {
	return strings.ToUpper(key) == strings.ToUpper(want) //nolint:staticcheck // EqualFold takes fewer for the same
}

func folded(key, want string) bool {
	k, _, _ := strings.Cut(key, "\x00")
	return strings.EqualFold(k, want) || strings.EqualFold(strings.ToLowerSpecial(unicode.TurkishCase, k), want)
}

// readers are what a message may meet: it must mean the same to all of them.
var readers = func() (all []reader) {
	for _, first := range []bool{false, true} {
		for name, same := range map[string]func(string, string) bool{"NUL": nulCut, "lower": lower, "upper": upper, "fold": folded} {
			all = append(all, reader{name, same, first})
		}
	}
	return append([]reader{strict, {"exact", exact, true}}, all...)
}()

var strict = reader{"exact", exact, false}

// depthOf returns how deep a valid text nests.
func depthOf(raw []byte) int {
	depth, deepest := 0, 0
	text, escaped := false, false
	for _, c := range raw {
		switch {
		case escaped:
			escaped = false
		case text:
			escaped = c == '\\'
			text = c != '"'
		case c == '"':
			text = true
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

// wantKind decides by the rules of the protocol, over what a strict reader sees,
// what a message is; KindInvalid when it is to be refused.
func wantKind(t testing.TB, raw []byte) Kind {
	if !utf8.Valid(raw) || !json.Valid(raw) || depthOf(raw) > MaxDepth {
		return KindInvalid
	}
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	if trimmed[0] != '{' {
		return KindInvalid
	}
	top := readObject(t, raw, 0)
	get := func(members []member, key string) (value string, ok bool) {
		at, ok := strict.pick(members, key)
		return string(raw[at.Start:at.End]), ok
	}
	if !sameToAll(raw, top, "jsonrpc", "id", "method", "params", "result", "error") {
		return KindInvalid
	}
	if v, _ := get(top, "jsonrpc"); v != `"2.0"` {
		return KindInvalid
	}
	id, hasID := get(top, "id")
	idFits := hasID && strings.ContainsRune("\"-0123456789", rune(id[0]))
	method, hasMethod := get(top, "method")
	_, hasResult := get(top, "result")
	errObj, hasError := get(top, "error")
	switch {
	case hasMethod:
		if hasResult || hasError || hasID && !idFits {
			return KindInvalid
		}
		var name string
		if method[0] != '"' || json.Unmarshal([]byte(method), &name) != nil || name == "" || strings.Contains(name, "\x00") {
			return KindInvalid
		}
		if !paramsFit(t, raw, top, name) {
			return KindInvalid
		}
		if hasID {
			return KindRequest
		}
		return KindNotification
	case hasResult && !hasError && idFits:
		at, _ := strict.pick(top, "result")
		if !sameToAll(raw, readObject(t, raw[at.Start:at.End], at.Start), "resultType") {
			return KindInvalid
		}
		return KindResult
	case hasError && !hasResult && (!hasID || idFits || id == "null") && errObj[0] == '{':
		return KindError
	}
	return KindInvalid
}

func paramsFit(t testing.TB, raw []byte, top []member, method string) bool {
	at, ok := strict.pick(top, "params")
	if !ok {
		return true
	}
	if raw[at.Start] != '{' {
		return false
	}
	params := readObject(t, raw[at.Start:at.End], at.Start)
	keys := []string{"_meta"}
	if f := RoutingField(method); f != 0 {
		keys = append(keys, keyOf(f))
	}
	if !sameToAll(raw, params, keys...) {
		return false
	}
	at, ok = strict.pick(params, "_meta")
	if !ok {
		return true
	}
	var metas []string
	for _, k := range metaKeys {
		metas = append(metas, k.key)
	}
	return sameToAll(raw, readObject(t, raw[at.Start:at.End], at.Start), metas...)
}

func keyOf(f Field) string {
	for _, table := range []keyTable{topKeys, paramKeys, metaKeys, resultKeys} {
		for _, k := range table {
			if k.field == f {
				return k.key
			}
		}
	}
	return ""
}

// sameToAll tells whether all readers see the same under each key, and see it
// written without escapes.
func sameToAll(raw []byte, members []member, keys ...string) bool {
	for _, key := range keys {
		want, ok := strict.pick(members, key)
		for _, r := range readers {
			if at, found := r.pick(members, key); at != want || found != ok {
				return false
			}
		}
		if ok && !bytes.HasSuffix(bytes.TrimRight(raw[:bytes.LastIndexByte(raw[:want.Start], ':')], " \t\r\n"), []byte(`"`+key+`"`)) {
			return false
		}
	}
	return true
}

var scanSeeds = []string{
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"n":9007199254740993},"_meta":{"progressToken":"t"}}}`,
	`{"jsonrpc":"2.0","id":"x","method":"tools/list","params":{"cursor":"c","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`,
	`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
	`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":0.5}}`,
	`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":-0.5e-7}}`,
	`{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","ttlMs":5,"cacheScope":"private"}}`,
	`{"jsonrpc":"2.0","error":{"code":-32700,"message":"?"},"id":null}`,
	`{"jsonrpc":"2.0","error":{"code":-32700,"message":"?"}}`,
	" \t\r\n{ \"jsonrpc\" : \"2.0\" , \"id\" : 1e3 , \"method\" : \"tasks\\/get\" , \"params\" : { \"taskId\" : \"\\u00e9\" } } \n",
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","na\u006de":"b"}}`,
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name\u0000x":"b"}}`,
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"re\u017fult\":1,\"\u0131d\":2}",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"_meta\":{\"progressTo\u212aen\":1}}}",
	`{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}`,
	`{"jsonrpc":"2.0","id":12`,
	`{"jsonrpc":"2.0","id":{},"method":"x"}`,
	`{"jsonrpc":"2.0","id":1,"method":"x\u0000"}`,
	`{"jsonrpc":"2.0","id":1,"method":"x","params":[]}`,
	`[{"jsonrpc":"2.0","id":1,"method":"x"},1]`, `[]x`, `null`, ``, `{}`, `{"a":tru}`, `{"a":01}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", "{\"a\":\"\x01\"}",
}

// FuzzScan holds Scan against a strict reader and against lax ones.
func FuzzScan(f *testing.F) {
	for _, s := range scanSeeds {
		f.Add([]byte(s))
	}
	f.Add([]byte(strings.Repeat(`{"a":`, MaxDepth) + "1" + strings.Repeat("}", MaxDepth)))
	f.Fuzz(checkScan)
}

func checkScan(t *testing.T, raw []byte) {
	before := bytes.Clone(raw)
	e, err := Scan(raw)
	if !bytes.Equal(before, raw) {
		t.Fatal("Scan changed the message")
	}
	if want := wantKind(t, raw); e.Kind != want || (err == nil) != (want != KindInvalid) {
		t.Fatalf("%q: kind %d and %v, want kind %d", raw, e.Kind, err, want)
	}
	if id := e.Get(FieldID); id != nil && (!json.Valid(id) || !stringOrNumber(id)) {
		t.Fatalf("%q: %q is no id", raw, id)
	}
	if err != nil {
		checkScanError(t, raw, err)
		return
	}
	top := readObject(t, raw, 0)
	checkSpans(t, &e, top, topKeys)
	if at, ok := strict.pick(top, "params"); ok && (e.Kind == KindRequest || e.Kind == KindNotification) {
		params := readObject(t, raw[at.Start:at.End], at.Start)
		checkSpans(t, &e, params, paramKeys)
		if at, ok := strict.pick(params, "_meta"); ok {
			checkSpans(t, &e, readObject(t, raw[at.Start:at.End], at.Start), metaKeys)
		}
	}
	if at, ok := strict.pick(top, "result"); ok {
		checkSpans(t, &e, readObject(t, raw[at.Start:at.End], at.Start), resultKeys)
	}
}

func checkScanError(t *testing.T, raw []byte, err error) {
	rpc, ok := errors.AsType[*RPCError](err)
	if !ok {
		t.Fatalf("%q: %T", raw, err)
	}
	syntax := !utf8.Valid(raw) || !json.Valid(raw) || depthOf(raw) > MaxDepth
	if want := map[bool]int{true: CodeParse, false: CodeInvalidRequest}[syntax]; rpc.Code != want {
		t.Fatalf("%q: code %d, want %d", raw, rpc.Code, want)
	}
}

func checkSpans(t *testing.T, e *Envelope, members []member, table keyTable) {
	t.Helper()
	for _, k := range table {
		want, found := strict.pick(members, k.key)
		if !found && !e.Has(k.field) {
			continue
		}
		if k.field == FieldID && !e.Has(k.field) && string(e.Raw[want.Start:want.End]) == "null" {
			continue
		}
		if e.At(k.field) != want && !escapedKey(e.Raw, want) {
			t.Fatalf("%q: %s at %v, want %v", e.Raw, k.key, e.At(k.field), want)
		}
	}
}

// escapedKey tells whether the key before a value is written with an escape:
// where no method routes on it, such a member is let pass and not noted.
func escapedKey(raw []byte, value Span) bool {
	key := raw[:bytes.LastIndexByte(raw[:value.Start], ':')]
	return bytes.LastIndexByte(key, '\\') > bytes.LastIndexAny(key, "{,")
}

// FuzzBatch holds Batch against encoding/json.
func FuzzBatch(f *testing.F) {
	f.Add([]byte(`[{"jsonrpc":"2.0","id":1,"method":"x"}, 1 ,"]"]`))
	for _, s := range []string{`[]`, ` [1,2`, `[1]2`, `[1,]`, `{}`, "[\"\xff\"]", `[[[]],{"a":[1]}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		messages, isArray, err := Batch(raw)
		if want := bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte{'['}); isArray != want {
			t.Fatalf("%q is an array: %v", raw, want)
		}
		if !isArray {
			return
		}
		var want []json.RawMessage
		valid := utf8.Valid(raw) && json.Unmarshal(raw, &want) == nil && len(want) > 0 && depthOf(raw) <= MaxDepth
		if valid != (err == nil) {
			t.Fatalf("%q: %v", raw, err)
		}
		if err != nil {
			return
		}
		if len(messages) != len(want) {
			t.Fatalf("%q: %d messages, want %d", raw, len(messages), len(want))
		}
		for i := range want {
			if !bytes.Equal(messages[i], want[i]) {
				t.Fatalf("%q: message %d is %q, want %q", raw, i, messages[i], want[i])
			}
		}
	})
}

// FuzzMembers holds the walk over objects and arrays against encoding/json, and
// makes sure that they end on any text.
func FuzzMembers(f *testing.F) {
	for _, s := range append(scanSeeds, `{"a":1,"a":2,"\u0061":[1,{"b":null}]}`, `[1,"a",{"b":[]}]`, `{"a"`, `{"a":`, `[1,`) {
		f.Add([]byte(s), "id")
	}
	f.Fuzz(func(t *testing.T, raw []byte, name string) {
		var keys []string
		var values [][]byte
		for k, v := range Members(raw) {
			keys, values = append(keys, k), append(values, v)
		}
		var elements [][]byte
		for v := range Elements(raw) {
			elements = append(elements, v)
		}
		_, _ = FindID(raw), Member(raw, name)
		if !utf8.Valid(raw) || !json.Valid(raw) || depthOf(raw) > MaxDepth {
			return
		}
		want := readObject(t, raw, 0)
		if len(keys) != len(want) {
			t.Fatalf("%q: %d members, want %d", raw, len(keys), len(want))
		}
		for i, m := range want {
			if keys[i] != m.key || !bytes.Equal(values[i], raw[m.start:m.end]) {
				t.Fatalf("%q: member %q = %q, want %q", raw, keys[i], values[i], m.key)
			}
		}
		var array []json.RawMessage
		_ = json.Unmarshal(raw, &array)
		if len(array) != len(elements) {
			t.Fatalf("%q: %d elements, want %d", raw, len(elements), len(array))
		}
		checkMemberAt(t, raw, want, name)
	})
}

func checkMemberAt(t *testing.T, raw []byte, members []member, name string) {
	at, ok := MemberAt(raw, name, FieldCursor)
	if name == "" || !ok {
		return
	}
	for _, r := range readers {
		if want, found := r.pick(members, name); !found || at != want {
			t.Fatalf("%q: %q at %v, but a reader (%s) finds it at %v", raw, name, at, r.name, want)
		}
	}
}

// FuzzFindID makes sure that what is found without parsing is what a parser finds.
func FuzzFindID(f *testing.F) {
	for _, s := range append(scanSeeds, `{"id":1 2}`, `{"id":"a""b"}`, `{"id":tru}`, `{"a":"\"","id":"}"}`, `{"x":{"id":2},"id" : "ä" }`) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, kind := findID(raw)
		if id != nil && (!json.Valid(id) || !utf8.Valid(id) || !stringOrNumber(id)) {
			t.Fatalf("%q: %q is no id", raw, id)
		}
		for cut := range raw { // under any chunking
			var finder idFinder
			finder.feed(raw[:cut])
			finder.feed(raw[cut:])
			if got, k := finder.found(); !bytes.Equal(got, id) || k != kind {
				t.Fatalf("%q: %q and kind %d when cut at %d, else %q and kind %d", raw, got, k, cut, id, kind)
			}
		}
		e, err := Scan(raw)
		if err != nil || len(e.Get(FieldID)) > maxID {
			return
		}
		if !bytes.Equal(id, e.Get(FieldID)) {
			t.Fatalf("%q: %q, want %q", raw, id, e.Get(FieldID))
		}
		if id != nil && (kind == KindRequest) != (e.Kind == KindRequest) {
			t.Fatalf("%q: kind %d, want %d", raw, kind, e.Kind)
		}
	})
}

// FuzzAppendString makes sure that text survives, and what Unquote makes of
// anything is what encoding/json makes of it.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", `"\`, "\x00\x1f\x7f", "\u2028ä😀", "\xff", `"a\u0041\ud83d\ude00"`, `"abc`, `"`, `"a"b"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := AppendString([]byte("x"), s)[1:]
		var got string
		if err := json.Unmarshal(quoted, &got); err != nil || got != strings.ToValidUTF8(strings.Clone(replaceInvalid(s)), "\ufffd") {
			t.Fatalf("%q became %s: %q, %v", s, quoted, got, err)
		}
		if back, ok := Unquote(quoted); !ok || back != got {
			t.Fatalf("Unquote(%s) = %q, %v", quoted, back, ok)
		}
		var want string
		isText := len(s) > 0 && s[0] == '"' && s[len(s)-1] == '"' && json.Unmarshal([]byte(s), &want) == nil
		if back, ok := Unquote([]byte(s)); utf8.ValidString(s) && (ok != isText || back != want) {
			t.Fatalf("Unquote(%q) = %q, %v; want %q, %v", s, back, ok, want, isText)
		}
	})
}

// replaceInvalid puts one U+FFFD for each invalid byte.
func replaceInvalid(s string) string { return string([]rune(s)) }

// FuzzFlatten makes sure that a valid message keeps its meaning and its length.
func FuzzFlatten(f *testing.F) {
	for _, s := range scanSeeds {
		f.Add([]byte(s))
	}
	f.Add([]byte("{\r\n \"a\" :\n [1,\r 2]\n}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		flat := Flatten(bytes.Clone(raw))
		if len(flat) != len(raw) || bytes.ContainsAny(flat, "\r\n") {
			t.Fatalf("%q became %q", raw, flat)
		}
		if json.Valid(raw) {
			if a, b := compact(t, raw), compact(t, flat); !bytes.Equal(a, b) {
				t.Fatalf("%q became %q", raw, flat)
			}
		}
	})
}

func compact(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("compact %q: %v", raw, err)
	}
	return b.Bytes()
}
