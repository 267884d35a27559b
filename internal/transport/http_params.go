package transport

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shannon-mcp/shannon/internal/wire"
)

const (
	headerParam = "Mcp-Param-"
	// annotation marks a property of a tool's input schema whose value goes into a header.
	annotation = "x-mcp-header"

	maxParams      = 256     // annotations of one tool
	maxParamDepth  = 64      // of the schema around an annotation
	maxKnownParams = 1 << 20 // bytes that are kept beyond the last list

	// maxRelists and relistLimit bound the pages and the time that a refused call
	// spends on learning the tools anew.
	maxRelists  = 8
	relistLimit = 10 * time.Second
)

// param is an argument that goes into a header: where it is, by keys, and which.
type param struct {
	path   []string
	header string // as http.Header has it
}

// toolParams is what the annotations of one tool say. A tool with an invalid one
// has no params and the reason.
type toolParams struct {
	params  []param
	invalid string
}

// paramHeaders knows which arguments of which tools a server wants in headers
// (2026-07-28, basic/transports/streamable-http, custom headers), as far as its
// lists of tools have passed.
type paramHeaders struct {
	// known is by the server's own names, never changed, and nil when no tool is annotated.
	known atomic.Pointer[map[string]toolParams]
	mu    sync.Mutex // held from reading known to replacing it
}

// of returns the headers that mirror arguments of the request, nil when none do.
func (p *paramHeaders) of(r *wire.Request) http.Header {
	known := p.known.Load()
	if known == nil || r.Method != "tools/call" {
		return nil
	}
	tool := (*known)[cmp.Or(r.Rename, r.Name)]
	if len(tool.params) == 0 {
		return nil
	}
	args := exact(r.Get(wire.FieldParams), "arguments")
	var h http.Header
	for _, param := range tool.params {
		if text, ok := paramText(args, param.path); ok {
			if h == nil {
				h = http.Header{}
			}
			h[param.header] = []string{headerValue(text)}
		}
	}
	return h
}

// exact returns the value of the member with exactly that key, nil when there is
// none or when readers could disagree about it.
func exact(object []byte, key string) []byte {
	at, ok := wire.MemberAt(object, key, wire.FieldName)
	if !ok {
		return nil
	}
	return object[at.Start:at.End:at.End]
}

// paramText returns the value at the path as a header has it, before encoding;
// false when there is none, or none that a header can have.
func paramText(args []byte, path []string) (string, bool) {
	value := args
	for _, key := range path {
		value = exact(value, key)
	}
	switch {
	case len(value) == 0 || value[0] == 'n' || value[0] == '{' || value[0] == '[':
		return "", false
	case value[0] == '"':
		return wire.Unquote(value)
	}
	return decimal(string(value)), true
}

// decimal writes an integer by its digits alone, however JSON wrote it: 42.0 and
// 4.2e1 are integers too. Everything else stays as it is, as do integers that a
// float64 cannot tell from their neighbours.
func decimal(text string) string {
	const exactBelow = 1 << 53
	if n, err := strconv.ParseFloat(text, 64); err == nil && n == math.Trunc(n) && math.Abs(n) < exactBelow {
		return strconv.FormatInt(int64(n), 10)
	}
	return text
}

// learn takes the result of a tools/list, which may be one page of several: it
// replaces what was known of the tools in it. It remarks tools with an annotation
// that is newly found to be invalid.
func (p *paramHeaders) learn(result []byte, remark func(string)) {
	if p.known.Load() == nil && !bytes.Contains(result, []byte(annotation)) {
		return
	}
	listed := map[string]toolParams{}
	for tool := range wire.Elements(exact(result, "tools")) {
		name, ok := wire.Unquote(exact(tool, "name"))
		if _, again := listed[name]; ok && !again {
			listed[name] = readTool(tool)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := map[string]toolParams{}
	if known := p.known.Load(); known != nil {
		next = maps.Clone(*known)
	}
	for name, tool := range listed {
		if tool.invalid != "" && next[name].invalid != tool.invalid {
			remark(fmt.Sprintf("calls of the tool %.100q carry no %s headers, as an %s in its schema is invalid: %s", name, headerParam, annotation, tool.invalid))
		}
		next[name] = tool
	}
	maps.DeleteFunc(next, func(_ string, t toolParams) bool { return len(t.params) == 0 && t.invalid == "" })
	if size(next) > maxKnownParams { // a list is bounded by the size of a message
		maps.DeleteFunc(next, func(name string, _ toolParams) bool { _, ok := listed[name]; return !ok })
	}
	if len(next) == 0 {
		p.known.Store(nil)
		return
	}
	p.known.Store(&next)
}

// size tells roughly how many bytes are kept of tools.
func size(tools map[string]toolParams) int {
	const overhead = 64
	n := 0
	for name, tool := range tools {
		n += overhead + len(name) + len(tool.invalid)
		for _, param := range tool.params {
			n += overhead + len(param.header)
			for _, key := range param.path {
				n += overhead + len(key)
			}
		}
	}
	return n
}

// readTool reads the annotations in a tool's definition.
func readTool(definition []byte) toolParams {
	var w schemaWalk
	if err := w.schema(exact(definition, "inputSchema"), location{reached: true}); err != nil {
		return toolParams{invalid: err.Error()}
	}
	return toolParams{params: w.params}
}

// location is where a schema lies: at the keys of the argument that it describes, if
// it is reached from the root by properties alone.
type location struct {
	path    []string
	reached bool
}

// schemaWalk collects the annotations of one input schema.
type schemaWalk struct {
	params []param
	depth  int
}

// schema walks a schema, or whatever else may hold one.
func (w *schemaWalk) schema(raw []byte, at location) error {
	if !bytes.Contains(raw, []byte(annotation)) {
		return nil
	}
	if w.depth++; w.depth > maxParamDepth {
		return fmt.Errorf("it lies more than %d levels deep", maxParamDepth)
	}
	defer func() { w.depth-- }()
	for key, value := range wire.Members(raw) {
		if err := w.keyword(raw, key, value, at); err != nil {
			return err
		}
	}
	for element := range wire.Elements(raw) {
		if err := w.schema(element, location{}); err != nil {
			return err
		}
	}
	return nil
}

// keyword takes one member of a schema.
func (w *schemaWalk) keyword(schema []byte, key string, value []byte, at location) error {
	switch key {
	case annotation:
		return w.annotation(schema, value, at)
	case "properties":
		for name, property := range wire.Members(value) {
			if err := w.schema(property, location{append(slices.Clip(at.path), name), at.reached}); err != nil {
				return err
			}
		}
		return nil
	case "$defs", "definitions", "patternProperties", "dependentSchemas": // their keys are names
		for _, named := range wire.Members(value) {
			if err := w.schema(named, location{}); err != nil {
				return err
			}
		}
		return nil
	case "default", "const", "enum", "examples": // values
		return nil
	}
	return w.schema(value, location{})
}

func (w *schemaWalk) annotation(schema, value []byte, at location) error {
	name, isText := wire.Unquote(value)
	kind, _ := wire.Unquote(exact(schema, "type"))
	header := http.CanonicalHeaderKey(headerParam + name)
	switch {
	case !at.reached || len(at.path) == 0:
		return errors.New("it is on something else than a property that is reached by properties alone")
	case !isText || name == "" || strings.ContainsFunc(name, notToken):
		return fmt.Errorf("%.100q is no name of a header", value)
	case kind != "string" && kind != "integer" && kind != "boolean":
		return fmt.Errorf("the type of the property %.100q is none of string, integer and boolean", strings.Join(at.path, "."))
	case slices.ContainsFunc(w.params, func(p param) bool { return p.header == header }):
		return fmt.Errorf("%.100q is the name of two headers", name)
	case len(w.params) == maxParams:
		return fmt.Errorf("there are more than %d", maxParams)
	}
	w.params = append(w.params, param{at.path, header})
	return nil
}

// notToken tells whether the name of a header must not have the character (RFC 9110, 5.6.2).
func notToken(c rune) bool {
	return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// relearn lists the tools for a call that was refused for its headers, until it
// would have others than it had; false when it would not.
func (p *modernHTTP) relearn(ctx context.Context, r *wire.Request, had http.Header) (http.Header, bool) {
	ctx, cancel := context.WithTimeout(ctx, relistLimit)
	defer cancel()
	var params []byte
	for page := 0; ; page++ {
		// First without a list: others may have listed meanwhile.
		if now := p.params.of(r); !maps.EqualFunc(now, had, slices.Equal) {
			return now, true
		}
		if page == maxRelists || (page > 0 && params == nil) {
			return nil, false
		}
		reply, err := p.Call(ctx, author("tools/list", params), nil)
		if err != nil {
			return nil, false // what refused the call says more
		}
		params = nil
		if cursor, ok := wire.Unquote(exact(reply.Get(wire.FieldResult), "nextCursor")); ok && cursor != "" {
			params = append(wire.AppendString([]byte(`{"cursor":`), cursor), '}')
		}
	}
}
