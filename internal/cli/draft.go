package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// transportNames are the transports as clients' configurations call them.
var transportNames = map[string]shannon.Transport{
	"stdio": shannon.TransportStdio, "sse": shannon.TransportSSE,
	"http": shannon.TransportHTTP, "streamable-http": shannon.TransportHTTP,
	"streamableHttp": shannon.TransportHTTP, "streamable_http": shannon.TransportHTTP,
	"websocket": shannon.TransportWebSocket, "ws": shannon.TransportWebSocket,
}

func parseTransport(name string) (shannon.Transport, error) {
	if t, ok := transportNames[name]; ok {
		return t, nil
	}
	hint := "Use stdio, http, sse or websocket"
	if near, ok := shannon.Nearest(name, slices.Collect(maps.Keys(transportNames))); ok {
		hint = "Did you mean " + near + "?"
	}
	return "", shannon.Errorf(shannon.CodeInvalidServer, hint, "unknown transport %q", name)
}

// transportOf is the transport of an address whose transport was not given.
func transportOf(endpoint string) shannon.Transport {
	if scheme, _, _ := strings.Cut(strings.ToLower(endpoint), ":"); scheme == "ws" || scheme == "wss" {
		return shannon.TransportWebSocket
	}
	return shannon.TransportHTTP
}

// pairs reads KEY=VALUE or "Name: value" flags.
func pairs(list []string, separator, what, example string) (map[string]shannon.Secret, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := make(map[string]shannon.Secret, len(list))
	for i, text := range list {
		key, value, ok := strings.Cut(text, separator)
		if key = strings.TrimSpace(key); !ok || key == "" {
			// The text is not repeated: it may be a secret.
			return nil, usage("For example: "+example, "%s number %d is not of the form %s", what, i+1, exampleForm[separator])
		}
		if separator == ":" {
			value = strings.TrimSpace(value)
		}
		if _, twice := out[key]; twice {
			return nil, usage("Give it once", "%s %q is there twice", what, key)
		}
		out[key] = shannon.Secret(value)
	}
	return out, nil
}

var exampleForm = map[string]string{"=": "KEY=VALUE", ":": "'Name: value'"}

// entryAliases are the keys of an mcpServers entry that have another name here.
var entryAliases = map[string]string{"type": "transport", "url": "endpoint", "serverUrl": "endpoint", "disabled": "enabled"}

const entryExample = `For example: shannon add-json everything '{"command": "npx", "args": ["-y", "@modelcontextprotocol/server-everything"]}'`

// parseEntry makes a server of an entry of mcpServers as the clients have it, of a
// whole mcpServers object with one entry, or of our own fields. An unknown key is
// refused: what it meant would be missing, and nobody would know.
func parseEntry(base shannon.Server, text []byte) (shannon.Server, error) {
	text = bytes.TrimSpace(text)
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return base, jsonError(text, err, entryExample)
	}
	if servers, ok := whole["mcpServers"]; ok && len(whole) == 1 {
		var entries map[string]json.RawMessage
		if err := json.Unmarshal(servers, &entries); err != nil || len(entries) != 1 {
			return base, usage("Give the entries one by one", "mcpServers must hold one server, and holds %d", len(entries))
		}
		for _, text = range entries {
		}
	}
	patch, err := entryPatch(text)
	if err != nil {
		return base, err
	}
	if err := base.Patch(patch); err != nil {
		return base, err
	}
	if base.Transport == "" {
		base.Transport = shannon.TransportStdio
		if base.Endpoint != "" {
			base.Transport = transportOf(base.Endpoint)
		}
	}
	return base, base.Validate()
}

// entryPatch renames the keys of an entry to ours.
func entryPatch(entry []byte) ([]byte, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(entry, &object); err != nil || object == nil {
		return nil, usage(entryExample, "a server must be a JSON object")
	}
	keys := slices.Concat(slices.Collect(maps.Keys(entryAliases)), shannon.ServerKeys)
	patch := map[string]json.RawMessage{}
	given := map[string]string{}
	for key, value := range wire.Members(entry) {
		if !slices.Contains(keys, key) || key == "name" {
			hint := "Known keys are type, command, args, env, cwd, url, headers, disabled, and those of shannon get NAME --json"
			if near, ok := shannon.Nearest(key, keys); ok && near != "name" {
				hint = "Did you mean " + near + "?"
			} else if key == "name" {
				hint = "The name is the first argument: shannon add-json NAME JSON"
			}
			return nil, usage(hint, "a server has no key %q", key)
		}
		own := key
		if alias, ok := entryAliases[key]; ok {
			own = alias
		}
		if other, twice := given[own]; twice {
			return nil, usage("Give one of them", "%q and %q are there at once", other, key)
		}
		given[own] = key
		var err error
		if patch[own], err = entryValue(key, own, value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(patch)
}

func entryValue(key, own string, value json.RawMessage) (json.RawMessage, error) {
	switch {
	case own == "transport":
		name, ok := wire.Unquote(value)
		if !ok {
			return nil, usage(`For example: "type": "stdio"`, "the value of %q must be a string", key)
		}
		t, err := parseTransport(name)
		if err != nil {
			return nil, err
		}
		return wire.AppendString(nil, string(t)), nil
	case key == "disabled":
		var disabled bool
		if err := json.Unmarshal(value, &disabled); err != nil {
			return nil, usage("", "the value of %q must be true or false", key)
		}
		return strconv.AppendBool(nil, !disabled), nil
	}
	return value, nil
}

// jsonError says where text is no JSON.
func jsonError(text []byte, err error, hint string) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := text[:min(int(syntax.Offset), len(text))]
		line := 1 + bytes.Count(before, []byte("\n"))
		column := len(before) - bytes.LastIndexByte(before, '\n') - 1
		return usage(hint, "this is not JSON: %w, in line %d at byte %d", err, line, max(1, column))
	}
	return usage(hint, "this is not a JSON object")
}

// settable are the names that "set" takes beside the keys of a server.
var settable = map[string]string{"url": "endpoint", "type": "transport"}

// parseChanges makes a merge patch of key=value arguments.
func parseChanges(args []string) ([]byte, error) {
	patch := map[string]json.RawMessage{}
	nested := map[string]map[string]json.RawMessage{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, usage("For example: "+setExample, "%q is not of the form key=value", arg)
		}
		if group, name, ok := strings.Cut(key, "."); ok && (group == "env" || group == "headers") && name != "" {
			if nested[group] == nil {
				nested[group] = map[string]json.RawMessage{}
			}
			nested[group][name] = wire.AppendString(nil, value)
			if value == "" {
				nested[group][name] = json.RawMessage("null")
			}
			continue
		}
		if own, ok := settable[key]; ok {
			key = own
		}
		if _, twice := patch[key]; twice {
			return nil, usage("Give it once", "%s is there twice", key)
		}
		var err error
		if patch[key], err = changeValue(key, value); err != nil {
			return nil, err
		}
	}
	for group, values := range nested {
		if _, twice := patch[group]; twice {
			return nil, usage("Give one of them", "%s and %s.… are there at once", group, group)
		}
		patch[group], _ = json.Marshal(values) // strings and nulls
	}
	return json.Marshal(patch)
}

// changeValue types the value of a key. An empty one takes the value away, so
// that the default holds again; but an empty prefix is a prefix.
func changeValue(key, value string) (json.RawMessage, error) {
	if !slices.Contains(shannon.ServerKeys, key) {
		hint := "It has " + strings.Join(shannon.ServerKeys, ", ") + ", env.KEY and headers.NAME"
		if near, ok := shannon.Nearest(key, append(slices.Collect(maps.Keys(settable)), shannon.ServerKeys...)); ok {
			hint = "Did you mean " + near + "?"
		}
		return nil, usage(hint, "a server has no %q that can be set", key)
	}
	if key == "transport" && value != "" {
		t, err := parseTransport(value)
		return wire.AppendString(nil, string(t)), err
	}
	typed, ok := typedValue(key, value)
	if !ok {
		return nil, usage("For example: shannon set NAME "+key+"="+changeExamples[key], "%s cannot be %q", key, value)
	}
	return typed, nil
}

// changeExamples are right values, of the keys that take not just any text.
var changeExamples = map[string]string{
	"name": "NEW", "transport": "http", "enabled": "true", "retry_count": "3",
	"timeout": "60", "request_timeout": "600", "retry_delay": "2", "health_check_interval": "30",
	"args": `'["-y", "some-server"]'`, "env": `'{"KEY": "value"}'`, "headers": `'{"Name": "value"}'`, "config": `'{"api_key": "…"}'`,
}

func typedValue(key, value string) (typed json.RawMessage, ok bool) {
	text, null := json.RawMessage(wire.AppendString(nil, value)), json.RawMessage("null")
	switch key {
	case "cwd":
		text = wire.AppendString(nil, absolute(value))
	case "prefix":
		if value == "null" {
			return null, true
		}
		return text, true
	case "name", "transport":
		return text, value != ""
	case "enabled":
		return json.RawMessage(value), value == "true" || value == "false"
	}
	if value == "" {
		return null, true
	}
	switch key {
	case "retry_count":
		_, err := strconv.ParseUint(value, 10, 31)
		return json.RawMessage(value), err == nil
	case "timeout", "request_timeout", "retry_delay", "health_check_interval":
		d, err := shannon.ParseDuration(value)
		seconds, _ := json.Marshal(d) // a number
		return seconds, err == nil
	case "args", "env", "headers", "config":
		return json.RawMessage(value), json.Valid([]byte(value))
	}
	return text, true
}
