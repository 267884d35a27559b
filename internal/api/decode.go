package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

func invalid(hint, format string, args ...any) error {
	return shannon.Errorf(shannon.CodeInvalidRequest, hint, format, args...)
}

// readBody reads a JSON object of one of the media types. That the type must be
// given keeps the forms of other sites' pages out.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, types []string) ([]byte, error) {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(types, got) {
		return nil, invalid("Send the header Content-Type: "+types[0], "the body must be %s", types[0])
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, shannon.Errorf(shannon.CodeTooLarge, "Raise max_message_size, or send less", "the body is over %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, invalid("", "read body: %w", err)
	}
	if !utf8.Valid(body) {
		return nil, invalid("Send UTF-8", "the body is not UTF-8")
	}
	var syntax *json.SyntaxError
	if err := json.Unmarshal(body, new(json.RawMessage)); errors.As(err, &syntax) {
		return nil, invalid("", "the body is not JSON: %w, at byte %d", err, syntax.Offset)
	}
	if b := bytes.TrimSpace(body); len(b) == 0 || b[0] != '{' {
		return nil, invalid("", "the body is not a JSON object")
	}
	return body, nil
}

// decode reads an object, as readBody returns it, into the struct at out. Keys
// are compared exactly: encoding/json would also take them in another case, and
// the last of several.
func decode(body []byte, out any) error {
	known := jsonKeys(reflect.TypeOf(out).Elem())
	seen := map[string]bool{}
	for key := range wire.Members(body) {
		if !slices.Contains(known, key) {
			return invalid(shannon.DidYouMean(key, known), "unknown key %q", key)
		}
		if seen[key] {
			return invalid("Give it once", "key %q is there twice", key)
		}
		seen[key] = true
	}
	err := json.Unmarshal(body, out)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return invalid("", "%q cannot be a JSON %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return invalid("", "%w", err)
	}
	return nil
}

// jsonKeys returns the keys of a struct's JSON form.
func jsonKeys(t reflect.Type) []string {
	var keys []string
	for f := range t.Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		keys = append(keys, key)
	}
	return keys
}

// noPlaceholders refuses what stands in output in the place of a secret: whoever
// sends it back would overwrite the secret with it.
func noPlaceholders(body []byte) error {
	for _, field := range []string{"env", "headers", "config"} {
		for key, value := range wire.Members(wire.Member(body, field)) {
			if text, ok := wire.Unquote(value); ok && text == shannon.Hidden {
				return invalid("Leave it out to keep it, or give the value itself",
					"%s %q is %q, which only stands in the place of a secret", field, key, shannon.Hidden)
			}
		}
	}
	return nil
}

// params reads query parameters. The first that is wrong is kept in err.
type params struct {
	values url.Values
	err    error
}

// newParams takes only the known parameters, each once.
func newParams(raw string, known []param) (*params, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, invalid("", "read query: %w", err)
	}
	names := make([]string, len(known))
	for i, p := range known {
		names[i] = p.name
	}
	for name, all := range values {
		if !slices.Contains(names, name) {
			return nil, invalid(shannon.DidYouMean(name, names), "unknown query parameter %q", name)
		}
		if len(all) > 1 {
			return nil, invalid("Give it once", "query parameter %q is there %d times", name, len(all))
		}
	}
	return &params{values: values}, nil
}

func (p *params) text(name string) string { return p.values.Get(name) }

func (p *params) fail(name, want string) {
	if p.err == nil {
		p.err = invalid("", "query parameter %s=%q is not %s", name, p.text(name), want)
	}
}

func (p *params) flag(name string) *bool {
	if !p.values.Has(name) {
		return nil
	}
	b, err := strconv.ParseBool(p.text(name))
	if err != nil {
		p.fail(name, "true or false")
	}
	return &b
}

func (p *params) is(name string) bool {
	b := p.flag(name)
	return b != nil && *b
}

func (p *params) count(name string) int {
	if p.text(name) == "" {
		return 0
	}
	n, err := strconv.Atoi(p.text(name))
	if err != nil || n < 0 {
		p.fail(name, "a number")
	}
	return n
}

func (p *params) time(name string) time.Time {
	if p.text(name) == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, p.text(name))
	if err != nil {
		p.fail(name, "a time such as 2026-01-31T12:00:00Z")
	}
	return t
}

// word reads one of the allowed words, or "".
func word[T ~string](p *params, name string, allowed []T) T {
	v := T(p.text(name))
	if v != "" && !slices.Contains(allowed, v) {
		p.fail(name, fmt.Sprintf("one of %v", allowed))
	}
	return v
}
