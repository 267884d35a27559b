package mcptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The newest version of each era.
const (
	Legacy = "2025-11-25"
	Modern = "2026-07-28"
)

// Versions are all protocol versions, oldest first.
var Versions = []string{"2024-11-05", "2025-03-26", "2025-06-18", Legacy, Modern}

// isModern tells the era of a version; versions are dates and sort as text.
func isModern(version string) bool { return version >= Modern }

// Message is one JSON-RPC message; its members are the bytes that came.
type Message struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  json.RawMessage
	Raw    []byte
}

// ParseMessage reads a message. Keys are matched exactly.
func ParseMessage(raw []byte) (Message, error) {
	m := Message{Raw: raw}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return m, fmt.Errorf("parse message: %w", err)
	}
	m.ID, m.Params, m.Result, m.Error = members["id"], members["params"], members["result"], members["error"]
	if method, ok := members["method"]; ok {
		if err := json.Unmarshal(method, &m.Method); err != nil {
			return m, fmt.Errorf("parse method: %w", err)
		}
	}
	if text(members["jsonrpc"]) != "2.0" {
		return m, errors.New(`parse message: jsonrpc is not "2.0"`)
	}
	return m, nil
}

// IsRequest tells whether the message wants a reply.
func (m *Message) IsRequest() bool { return m.Method != "" && m.ID != nil }

// IsReply tells whether the message is a result or an error.
func (m *Message) IsReply() bool { return m.Method == "" && (m.Result != nil || m.Error != nil) }

// Get follows keys into nested objects and returns the bytes of the value, nil
// when there is none: m.Get("params", "_meta", "progressToken").
func (m *Message) Get(path ...string) json.RawMessage { return get(m.Raw, path...) }

func get(raw json.RawMessage, path ...string) json.RawMessage {
	for _, key := range path {
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			return nil
		}
		raw = members[key]
	}
	return raw
}

// text decodes a JSON string; anything else is "".
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// quote writes a JSON string without the escapes for HTML.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// toJSON writes v without the escapes for HTML; raw parts stay raw but for
// space between tokens.
func toJSON(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return quote(err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// request, notification, result and failure compose messages without touching
// the bytes of what they carry.
func request(id, method, params string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":%s%s}`, id, quote(method), member("params", params))
}

func notification(method, params string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","method":%s%s}`, quote(method), member("params", params))
}

func result(id []byte, result string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result)
}

func failure(id []byte, object string) []byte {
	if id == nil {
		return fmt.Appendf(nil, `{"jsonrpc":"2.0","error":%s}`, object)
	}
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":%s}`, id, object)
}

func member(key, value string) string {
	if value == "" {
		return ""
	}
	return `,` + quote(key) + `:` + value
}

// into puts members (`"k":1,"l":2`) in front of those of an object.
func into(object, members string) string {
	rest := strings.TrimLeft(object, " \t\r\n")
	if members == "" || !strings.HasPrefix(rest, "{") {
		return object
	}
	rest = rest[1:]
	if strings.HasPrefix(strings.TrimLeft(rest, " \t\r\n"), "}") {
		return "{" + members + rest
	}
	return "{" + members + "," + rest
}

// withMeta puts members into the _meta of params, which keeps its other bytes.
func withMeta(params, members string) string {
	if params == "" {
		params = "{}"
	}
	d := json.NewDecoder(strings.NewReader(params))
	if _, err := d.Token(); err != nil {
		return params
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return params
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return params
		}
		if key == "_meta" {
			end := int(d.InputOffset())
			return params[:end-len(value)] + into(string(value), members) + params[end:]
		}
	}
	return into(params, `"_meta":{`+members+`}`)
}

// oneLine makes a message fit for framings that end at a line: in valid JSON a
// raw line break can only lie between tokens.
func oneLine(raw []byte) []byte {
	line := bytes.ReplaceAll(raw, []byte("\n"), []byte(" "))
	return bytes.ReplaceAll(line, []byte("\r"), []byte(" "))
}
