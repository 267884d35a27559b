// Package schema reads the arguments of a tool from words that a person typed,
// typed by as much of the tool's JSON Schema as that needs: names, types, what is
// required, enumerations, local references. Whether a value is valid besides is for
// the server to say. Numbers keep their digits, and JSON stays the bytes it was.
//
// It knows neither tools nor servers, does no I/O and trusts no schema: one of any
// shape gives an answer. A Schema is immutable and may be used concurrently.
package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// Schema is the schema of an object.
type Schema struct {
	raw      []byte
	root     []byte   // what references are looked up in
	names    []string // of the properties, in their order
	required []string
	open     bool // other names are welcome too
}

// New reads a schema, which may be missing.
func New(raw []byte) *Schema { return within(raw, raw) }

func within(raw, root []byte) *Schema {
	s := &Schema{raw: resolve(raw, root), root: root}
	properties := wire.Member(s.raw, "properties")
	for name := range wire.Members(properties) {
		s.names = append(s.names, name)
	}
	_ = json.Unmarshal(wire.Member(s.raw, "required"), &s.required) // of another shape: nothing is required
	// By JSON Schema every object is open unless it says otherwise; by what tools
	// mean, one that lists its properties is not.
	more := bytes.TrimSpace(wire.Member(s.raw, "additionalProperties"))
	s.open = properties == nil || len(more) > 0 && string(more) != "false" || wire.Member(s.raw, "patternProperties") != nil
	return s
}

// resolve follows local references, such as #/$defs/Color.
func resolve(raw, root []byte) []byte {
	for range maxNesting { // a reference to itself leads nowhere
		ref, ok := wire.Unquote(wire.Member(raw, "$ref"))
		if !ok {
			return raw
		}
		path, ok := strings.CutPrefix(ref, "#")
		if !ok {
			return nil
		}
		raw = root
		for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
			if part != "" {
				raw = wire.Member(raw, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
			}
		}
	}
	return nil
}

func (s *Schema) property(name string) *Schema {
	return within(wire.Member(wire.Member(s.raw, "properties"), name), s.root)
}

// types returns the JSON types that a value may have; nil when the schema does
// not say.
func (s *Schema) types() []string { return s.typesWithin(maxNesting) }

// maxNesting bounds how deep alternatives are looked into: a schema may refer to itself.
const maxNesting = 8

func (s *Schema) typesWithin(depth int) []string {
	if depth == 0 {
		return nil
	}
	raw := wire.Member(s.raw, "type")
	if one, ok := wire.Unquote(raw); ok {
		return []string{one}
	}
	var several []string
	if json.Unmarshal(raw, &several) == nil && len(several) > 0 {
		return several
	}
	for _, key := range []string{"anyOf", "oneOf"} {
		var branches []json.RawMessage
		if json.Unmarshal(wire.Member(s.raw, key), &branches) != nil {
			continue
		}
		for _, b := range branches {
			t := within(b, s.root).typesWithin(depth - 1)
			if t == nil {
				return nil
			}
			several = append(several, t...)
		}
	}
	slices.Sort(several)
	return slices.Compact(several)
}

// words returns the texts of an enumeration, JSON for those that are none.
func (s *Schema) words() []string {
	var values []json.RawMessage
	if json.Unmarshal(wire.Member(s.raw, "enum"), &values) != nil {
		return nil
	}
	words := make([]string, len(values))
	for i, v := range values {
		word, ok := wire.Unquote(v)
		if !ok {
			word = string(v)
		}
		words[i] = word
	}
	return words
}

// placeholder stands for a value in a command line: the words that it may be, as
// they must be written, or its type in capitals.
func (s *Schema) placeholder() string {
	if words := s.words(); len(words) > 0 && len(words) <= 4 {
		return s.typeName()
	}
	return strings.ToUpper(s.typeName())
}

// typeName says for people what a value is.
func (s *Schema) typeName() string {
	if words := s.words(); len(words) > 0 && len(words) <= 4 {
		return strings.Join(words, "|")
	}
	if types := s.types(); len(types) > 0 {
		return strings.Join(slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == "null" && len(types) > 1 }), "|")
	}
	return "value"
}

// Arguments makes the arguments object of a tool of key=value words. example is a
// command line that calls the tool, for hints. Errors are [shannon.CodeInvalidRequest]
// and name the right keys or values.
func (s *Schema) Arguments(words []string, tool, example string) ([]byte, error) {
	hint := "It takes no arguments"
	if len(s.names) > 0 {
		hint = "It takes " + signatureAll(s)
	}
	out := []byte{'{'}
	seen := map[string]bool{}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		switch {
		case !ok:
			return nil, usage("For example: "+example+" "+s.example(), "%q is not of the form key=value", word)
		case seen[key]:
			return nil, usage("A list is written as JSON: "+key+`='["a", "b"]'`, "the argument %q is there twice", key)
		case !slices.Contains(s.names, key) && !s.open:
			if near, ok := shannon.Nearest(key, s.names); ok {
				return nil, usage("Did you mean "+near+"? "+hint, "the tool %q has no argument %q", tool, key)
			}
			return nil, usage(hint, "the tool %q has no argument %q", tool, key)
		}
		p := s.property(key)
		typed, ok := p.read(value)
		if !ok {
			return nil, usage("Give "+p.wanted(key), "the argument %q of the tool %q cannot be %q", key, tool, value)
		}
		if len(seen) > 0 {
			out = append(out, ',')
		}
		seen[key] = true
		out = append(append(wire.AppendString(out, key), ':'), typed...)
	}
	for _, name := range s.required {
		if !seen[name] {
			return nil, usage(hint, "the tool %q needs the argument %q", tool, name)
		}
	}
	return append(out, '}'), nil
}

func usage(hint, format string, args ...any) error {
	return shannon.Errorf(shannon.CodeInvalidRequest, hint, format, args...)
}

func signatureAll(s *Schema) string {
	words := make([]string, len(s.names))
	for i, name := range s.names {
		words[i] = name + " (" + s.property(name).typeName()
		if !slices.Contains(s.required, name) {
			words[i] += ", optional"
		}
		words[i] += ")"
	}
	return strings.Join(words, ", ")
}

func (s *Schema) example() string {
	if len(s.names) == 0 {
		return "key=value"
	}
	return s.names[0] + "=" + s.property(s.names[0]).placeholder()
}

var (
	integer = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)
	number  = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
)

// read types a value; false when it is none of what it may be. Where text is
// allowed among others, what looks like one of the others is that.
func (s *Schema) read(value string) ([]byte, bool) {
	text := wire.AppendString(nil, value)
	types := s.types()
	if words := s.words(); len(words) > 0 {
		return s.choose(value)
	}
	if types == nil {
		if json.Valid([]byte(value)) {
			return []byte(strings.TrimSpace(value)), true
		}
		return text, true
	}
	for _, t := range types {
		if t != "string" && isOf(t, value) {
			return []byte(strings.TrimSpace(value)), true
		}
	}
	return text, slices.Contains(types, "string")
}

// choose finds a value in an enumeration.
func (s *Schema) choose(value string) ([]byte, bool) {
	var values []json.RawMessage
	_ = json.Unmarshal(wire.Member(s.raw, "enum"), &values) // words has read it before
	for i, word := range s.words() {
		if word == value {
			return values[i], true
		}
	}
	return nil, false
}

func isOf(t, value string) bool {
	value = strings.TrimSpace(value)
	switch t {
	case "null":
		return value == "null"
	case "boolean":
		return value == "true" || value == "false"
	case "integer":
		return integer.MatchString(value)
	case "number":
		return number.MatchString(value)
	case "array":
		return strings.HasPrefix(value, "[") && json.Valid([]byte(value))
	case "object":
		return strings.HasPrefix(value, "{") && json.Valid([]byte(value))
	}
	return false
}

// wanted says what a value must be.
func (s *Schema) wanted(key string) string {
	if words := s.words(); len(words) > 0 {
		return "one of " + strings.Join(words, ", ")
	}
	examples := map[string]string{
		"integer": "an integer: %s=3", "number": "a number: %s=2.5", "boolean": "true or false: %s=true", "null": "null: %s=null",
		"array": `a list as JSON: %s='["a", "b"]'`, "object": `an object as JSON: %s='{"key": "value"}'`,
	}
	var wants []string
	for _, t := range s.types() {
		if form, ok := examples[t]; ok {
			wants = append(wants, fmt.Sprintf(form, key))
		}
	}
	return strings.Join(wants, ", or ")
}

// Signature shows the arguments in short: those that must be given first, the others
// in brackets.
func (s *Schema) Signature() string {
	var must, may []string
	for _, name := range s.names {
		word := name + "=" + s.property(name).placeholder()
		if slices.Contains(s.required, name) {
			must = append(must, word)
		} else {
			may = append(may, "["+word+"]")
		}
	}
	words := slices.Concat(must, may)
	const shown = 4
	if len(words) > shown+1 {
		words = append(words[:shown], fmt.Sprintf("… %d more", len(words)-shown))
	}
	return strings.Join(words, " ")
}
