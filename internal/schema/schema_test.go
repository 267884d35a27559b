package schema

import (
	"strings"
	"testing"

	"github.com/shannon-mcp/shannon"
)

const toolSchema = `{"type":"object","required":["text"],"properties":{
	"text":{"type":"string"},"n":{"type":"integer"},"x":{"type":"number"},"on":{"type":"boolean"},
	"list":{"type":"array"},"map":{"type":"object"},"nothing":{"type":"null"},
	"maybe":{"type":["integer","null"]},"both":{"type":["string","integer"]},
	"any":{},"colour":{"$ref":"#/$defs/Colour"},"level":{"enum":[1,2,"three"]},
	"union":{"anyOf":[{"type":"integer"},{"$ref":"#/$defs/Text"}]},"mixed":{"oneOf":[{"type":"integer"},{}]},
	"loop":{"$ref":"#/properties/loop"},"tree":{"anyOf":[{"type":"integer"},{"$ref":"#/properties/tree"}]},"far":{"$ref":"https://example.com/schema"}},
	"$defs":{"Colour":{"type":"string","enum":["red","green"]},"Text":{"type":"string"}}}`

func TestArguments(t *testing.T) {
	s := New([]byte(toolSchema))
	for _, tc := range []struct {
		args, want string // the error's sentence or hint begins at !
	}{
		{"text=a", `{"text":"a"}`},
		{"text=", `{"text":""}`},
		{"text=7", `{"text":"7"}`},
		{`text="q"`, `{"text":"\"q\""}`},
		{"text=a=b", `{"text":"a=b"}`},
		{"n=9007199254740993|text=é", `{"n":9007199254740993,"text":"é"}`},
		{"text=a|n=123456789012345678901234567890", `{"text":"a","n":123456789012345678901234567890}`},
		{"text=a|n=-1|x=1.50|on=true", `{"text":"a","n":-1,"x":1.50,"on":true}`},
		{"text=a|x=1e400", `{"text":"a","x":1e400}`},
		{`text=a|list=[1, 2]|map={"a": 1}|nothing=null`, `{"text":"a","list":[1, 2],"map":{"a": 1},"nothing":null}`},
		{"text=a|maybe=null", `{"text":"a","maybe":null}`},
		{"text=a|maybe=3", `{"text":"a","maybe":3}`},
		{"text=a|both=3", `{"text":"a","both":3}`},
		{"text=a|both=three", `{"text":"a","both":"three"}`},
		{"text=a|any=[1]", `{"text":"a","any":[1]}`},
		{"text=a|any=plain words", `{"text":"a","any":"plain words"}`},
		{"text=a|colour=red", `{"text":"a","colour":"red"}`},
		{"text=a|level=2", `{"text":"a","level":2}`},
		{"text=a|level=three", `{"text":"a","level":"three"}`},
		{"text=a|union=5", `{"text":"a","union":5}`},
		{"text=a|union=five", `{"text":"a","union":"five"}`},
		{"text=a|mixed=x y", `{"text":"a","mixed":"x y"}`},
		{"text=a|loop=1", `{"text":"a","loop":1}`},
		{"text=a|tree=x", `{"text":"a","tree":"x"}`},
		{"text=a|far=x", `{"text":"a","far":"x"}`},

		{"", `!needs the argument "text"`},
		{"text", "!not of the form key=value"},
		{"text=a|text=b", "!twice"},
		{"text=a|n=1.5", "!an integer: n=3"},
		{"text=a|n=0x10", "!an integer"},
		{"text=a|n=007", "!an integer"},
		{"text=a|n=", "!an integer"},
		{"text=a|x=NaN", "!a number: x=2.5"},
		{"text=a|on=yes", "!true or false: on=true"},
		{"text=a|list=a,b", `!a list as JSON: list='["a", "b"]'`},
		{"text=a|list={}", "!a list as JSON"},
		{"text=a|map=[", "!an object as JSON"},
		{"text=a|maybe=x", "!an integer: maybe=3, or null"},
		{"text=a|colour=blue", "!one of red, green"},
		{"text=a|level=3", "!one of 1, 2, three"},
		{"txt=a", "!Did you mean text"},
		{"zzzzzz=a", "!It takes text (string), n (integer, optional)"},
	} {
		got, err := s.Arguments(strings.FieldsFunc(tc.args, func(r rune) bool { return r == '|' }), "tool", "shannon call srv tool")
		if want, isError := strings.CutPrefix(tc.want, "!"); isError {
			if p := shannon.ProblemOf(err); p == nil || !strings.Contains(p.Message+"\n"+p.Hint, want) || p.Code != shannon.CodeInvalidRequest {
				t.Errorf("%s: %+v, want an error with %q", tc.args, p, want)
			}
			continue
		}
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: %s, %v, want %s", tc.args, got, err, tc.want)
		}
	}
}

func TestOpenSchemas(t *testing.T) {
	for raw, open := range map[string]bool{
		``: true, `{}`: true, `{"type":"object"}`: true, `{"properties":{}}`: false,
		`{"properties":{"a":{}},"additionalProperties":false}`:              false,
		`{"properties":{"a":{}},"additionalProperties":true}`:               true,
		`{"properties":{"a":{}},"additionalProperties":{"type":"integer"}}`: true,
		`{"properties":{"a":{}},"patternProperties":{"^x":{}}}`:             true,
	} {
		got, err := New([]byte(raw)).Arguments([]string{"other=1"}, "tool", "shannon call srv tool")
		if (err == nil) != open {
			t.Errorf("%s: %s, %v", raw, got, err)
		}
	}
}

func TestSignature(t *testing.T) {
	for _, tc := range [][2]string{
		{``, ""},
		{`{"required":["b"],"properties":{"a":{"type":"integer"},"b":{"enum":["x","y"]}}}`, "b=x|y [a=INTEGER]"},
		{`{"properties":{"a":{},"b":{},"c":{},"d":{},"e":{},"f":{"type":["string","null"]}}}`, "[a=VALUE] [b=VALUE] [c=VALUE] [d=VALUE] … 2 more"},
		{`{"properties":7,"required":"x"}`, ""},
	} {
		if got := New([]byte(tc[0])).Signature(); got != tc[1] {
			t.Errorf("%s: %q, want %q", tc[0], got, tc[1])
		}
	}
}
