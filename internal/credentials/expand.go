// Package credentials is what Shannon presents to servers: the values of their
// variables and headers.
//
// Definitions hold references; they are expanded when used and never stored
// expanded. The package knows text and where values come from. It must not know
// what a value is used for, and never puts a value into an error.
package credentials

import (
	"regexp"
	"strings"

	"github.com/shannon-mcp/shannon"
)

// reference is ${VAR}, ${VAR:-default} or ${env:VAR}; ${kind:NAME} in general.
var reference = regexp.MustCompile(`\$\{([^{}]*)\}`)

// Lookup finds the value of an environment variable.
type Lookup func(name string) (value string, ok bool)

// Expand replaces the references in text. A variable without a value and without
// a default is [shannon.CodeMissingVariable]; a kind of reference that is not
// known is [shannon.CodeInvalidServer].
func Expand(text string, env Lookup) (string, error) {
	if !strings.Contains(text, "${") {
		return text, nil
	}
	var failed error
	out := reference.ReplaceAllStringFunc(text, func(ref string) string {
		name, fallback, hasFallback := strings.Cut(ref[2:len(ref)-1], ":-")
		if kind, rest, ok := strings.Cut(name, ":"); ok {
			if kind != "env" {
				failed = shannon.Errorf(shannon.CodeInvalidServer, "Use ${VAR}, ${VAR:-default} or ${env:VAR}", "the reference %s is of a kind that is not known", ref)
				return ""
			}
			name = rest
		}
		if value, ok := env(name); ok && (value != "" || !hasFallback) {
			return value
		}
		if !hasFallback && failed == nil {
			failed = shannon.Errorf(shannon.CodeMissingVariable, "Set "+name+" where the daemon is started, or give a default: ${"+name+":-value}",
				"the variable %s has no value", name)
		}
		return fallback
	})
	return out, failed
}
