package manager

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/shannon-mcp/shannon"
)

// entry is a value of a configuration file: a string, int64, float64, bool, []any,
// or nil for what no setting can be.
type entry struct {
	key   string // with dots
	value any
	line  int
}

// parseFile reads a configuration file, whose format its name says.
func parseFile(name string, text []byte) ([]entry, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	var entries []entry
	var line int
	var err error
	example := ""
	switch strings.ToLower(filepath.Ext(name)) {
	case ".toml":
		entries, line, err = parseTOML(text)
		example = `listen = "127.0.0.1:7427"`
	case ".yaml", ".yml":
		entries, line, err = parseYAML(text)
		example = `listen: "127.0.0.1:7427"`
	case ".json":
		entries, line, err = parseJSON(text)
		example = `{"listen": "127.0.0.1:7427"}`
	default:
		return nil, badConfig("Name it config.toml, config.yaml or config.json", "the format of the configuration file %s is not known", name)
	}
	if err != nil {
		return nil, badConfig("A file may look like this: "+example, "%s:%d: %w", name, line, err)
	}
	return entries, nil
}

func badConfig(hint, format string, args ...any) error {
	return shannon.Errorf(shannon.CodeInvalidConfig, hint, format, args...)
}

func parseTOML(text []byte) (entries []entry, line int, err error) {
	// The whole is decoded first, because it finds what single expressions do not
	// show, such as a key that is there twice.
	var all map[string]any
	if err := toml.Unmarshal(text, &all); err != nil {
		if d, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, _ = d.Position()
		}
		return nil, line, err
	}
	var p unstable.Parser
	p.Reset(text)
	prefix := ""
	for p.NextExpression() {
		switch n := p.Expression(); n.Kind {
		case unstable.Table, unstable.ArrayTable:
			prefix, line = tomlKey(&p, n)
			entries = append(entries, entry{prefix, section{n.Kind == unstable.ArrayTable}, line})
			prefix += "."
		case unstable.KeyValue:
			entries = appendTOML(entries, &p, prefix, n)
		default: // a comment
		}
	}
	return entries, 0, p.Error()
}

// section is the head of a table, or a key without a value: it sets nothing.
type section struct{ repeated bool }

func tomlKey(p *unstable.Parser, n *unstable.Node) (key string, line int) {
	var parts []string
	for it := n.Key(); it.Next(); {
		if len(parts) == 0 {
			line = p.Shape(it.Node().Raw).Start.Line
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), line
}

func appendTOML(entries []entry, p *unstable.Parser, prefix string, n *unstable.Node) []entry {
	key, line := tomlKey(p, n)
	key = prefix + key
	value := n.Value()
	if value.Kind != unstable.InlineTable {
		return append(entries, entry{key, tomlValue(value), line})
	}
	for it := value.Children(); it.Next(); {
		entries = appendTOML(entries, p, key+".", it.Node())
	}
	return entries
}

func tomlValue(n *unstable.Node) any {
	text := string(n.Data)
	switch n.Kind {
	case unstable.String:
		return text
	case unstable.Bool:
		return text == "true"
	case unstable.Integer:
		if i, err := strconv.ParseInt(text, 0, 64); err == nil {
			return i
		}
	case unstable.Float:
		if f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64); err == nil {
			return f
		}
	case unstable.Array:
		list := []any{}
		for it := n.Children(); it.Next(); {
			if it.Node().Kind != unstable.Comment {
				list = append(list, tomlValue(it.Node()))
			}
		}
		return list
	default: // a date, or a table in an array: nothing that a setting can be
	}
	return nil
}

func parseYAML(text []byte) (entries []entry, line int, err error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		if s, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			return nil, s.Token.Position.Line, errors.New(s.Message)
		}
		return nil, 1, err
	}
	for i, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType {
			continue
		}
		if i > 0 {
			return nil, doc.Body.GetToken().Position.Line, errors.New("only one document is read")
		}
		if entries, line, err = appendYAML(nil, "", doc.Body); err != nil {
			return nil, line, err
		}
	}
	return entries, 0, nil
}

func appendYAML(entries []entry, prefix string, n ast.Node) (_ []entry, line int, err error) {
	m, ok := n.(ast.MapNode)
	if !ok {
		return nil, n.GetToken().Position.Line, errors.New("there must be keys with values")
	}
	for it := m.MapRange(); it.Next(); {
		name, ok := it.Key().(*ast.StringNode)
		line = it.Key().GetToken().Position.Line
		if !ok {
			return nil, line, fmt.Errorf("%s cannot be a key", it.Key())
		}
		key := prefix + name.Value
		if _, ok := it.Value().(ast.MapNode); !ok {
			entries = append(entries, entry{key, yamlValue(it.Value()), line})
			continue
		}
		if entries, line, err = appendYAML(entries, key+".", it.Value()); err != nil {
			return nil, line, err
		}
	}
	return entries, 0, nil
}

func yamlValue(n ast.Node) any {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.BoolNode:
		return n.Value
	case *ast.FloatNode:
		return n.Value
	case *ast.IntegerNode:
		switch v := n.Value.(type) {
		case int64:
			return v
		case uint64:
			if v <= math.MaxInt64 {
				return int64(v)
			}
		}
	case *ast.NullNode:
		return section{}
	case *ast.SequenceNode:
		list := []any{}
		for _, v := range n.Values {
			list = append(list, yamlValue(v))
		}
		return list
	}
	return nil
}

func parseJSON(text []byte) (entries []entry, line int, err error) {
	lineAt := func(offset int64) int {
		return 1 + bytes.Count(text[:min(max(offset, 0), int64(len(text)))], []byte("\n"))
	}
	if err := json.Unmarshal(text, new(any)); err != nil {
		offset := int64(len(text))
		if s, ok := errors.AsType[*json.SyntaxError](err); ok {
			offset = s.Offset
		}
		return nil, lineAt(offset), err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return nil, 1, errors.Join(errors.New("there must be a JSON object"), err)
	}
	entries, err = appendJSON(nil, dec, "", lineAt)
	return entries, lineAt(dec.InputOffset()), err
}

// appendJSON reads the rest of an object that is known to be valid.
func appendJSON(entries []entry, dec *json.Decoder, prefix string, lineAt func(int64) int) ([]entry, error) {
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		key, line := prefix+name, lineAt(dec.InputOffset())
		if seen[name] {
			return nil, fmt.Errorf("%s is there twice", key)
		}
		seen[name] = true
		value, err := jsonValue(dec)
		if err != nil {
			return nil, err
		}
		if value != json.Delim('{') {
			entries = append(entries, entry{key, value, line})
			continue
		}
		if entries, err = appendJSON(entries, dec, key+".", lineAt); err != nil {
			return nil, err
		}
	}
	if _, err := dec.Token(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return entries, nil
}

// jsonValue reads a value, or the beginning of an object.
func jsonValue(dec *json.Decoder) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := t.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i, nil
		}
		return v.Float64()
	case json.Delim:
		if v == '{' {
			return v, nil
		}
		list := []any{}
		for dec.More() {
			item, err := jsonValue(dec)
			if err != nil {
				return nil, err
			}
			if item == json.Delim('{') {
				return nil, errors.New("a list of objects is no setting")
			}
			list = append(list, item)
		}
		_, err := dec.Token()
		return list, err
	default:
		return v, nil
	}
}
