package credentials

import (
	"testing"

	"github.com/shannon-mcp/shannon"
)

func TestExpand(t *testing.T) {
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"A": "1", "EMPTY": "", "NEST": "${A}"}[name]
		return v, ok
	}
	for _, c := range []struct {
		in, want string
		code     shannon.Code
	}{
		{"plain $A {A}", "plain $A {A}", ""},
		{"${A}-${env:A}", "1-1", ""},
		{"${B:-x y}", "x y", ""},
		{"${A:-x}", "1", ""},
		{"${EMPTY}", "", ""},
		{"${EMPTY:-x}", "x", ""},
		{"${env:B:-d}", "d", ""},
		{"${NEST}", "${A}", ""}, // values are not expanded again
		{"${B}", "", shannon.CodeMissingVariable},
		{"${}", "", shannon.CodeMissingVariable},
		{"${vault:x}", "", shannon.CodeInvalidServer},
		{"${A", "${A", ""},
	} {
		got, err := Expand(c.in, env)
		if shannon.CodeOf(err) != c.code || (err == nil && got != c.want) {
			t.Errorf("%s gives %q, %v", c.in, got, err)
		}
	}
}
