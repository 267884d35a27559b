package edge

import (
	"encoding/base64"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// The headers of the protocol, in the form that [http.Header] keeps them.
const (
	headerSession  = "Mcp-Session-Id"
	headerVersion  = "Mcp-Protocol-Version"
	headerMethod   = "Mcp-Method"
	headerName     = "Mcp-Name"
	headerAffinity = "Shannon-Affinity"
)

// maxAffinity is how long a client's own word for what shares state may be.
const maxAffinity = 256

// header returns the value of a header that may be there once; twice would mean
// that others on the way could choose the other one.
func header(h http.Header, key string) (value string, ok bool) {
	switch v := h[key]; len(v) {
	case 0:
		return "", true
	case 1:
		return strings.Trim(v[0], " \t"), true
	default:
		return "", false
	}
}

// isJSON tells whether the body is declared as JSON. A browser cannot send that
// across origins without asking first, unlike text or forms or nothing at all.
func isJSON(h http.Header) bool {
	v := h["Content-Type"]
	if len(v) != 1 {
		return false
	}
	mediaType, _, _ := strings.Cut(v[0], ";")
	if !strings.EqualFold(strings.Trim(mediaType, " \t"), "application/json") {
		return false
	}
	encoding := h["Content-Encoding"]
	return len(encoding) == 0 || (len(encoding) == 1 && strings.EqualFold(encoding[0], "identity"))
}

// accept is which forms of an answer the client takes.
type accept struct {
	json     bool
	events   bool // named, not only by a wildcard
	anything bool // by a wildcard or by saying nothing
}

func parseAccept(h http.Header) accept {
	var a accept
	v := h["Accept"]
	if len(v) == 0 {
		return accept{json: true, anything: true}
	}
	for _, line := range v {
		for line != "" {
			var one string
			one, line, _ = strings.Cut(line, ",")
			a.add(one)
		}
	}
	return a
}

func (a *accept) add(mediaRange string) {
	name, params, _ := strings.Cut(mediaRange, ";")
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		key, q, _ := strings.Cut(strings.Trim(p, " \t"), "=")
		if strings.EqualFold(key, "q") && strings.Trim(q, "0.") == "" {
			return // explicitly not wanted
		}
	}
	switch name = strings.Trim(name, " \t"); {
	case strings.EqualFold(name, "application/json"), strings.EqualFold(name, "application/*"):
		a.json = true
	case strings.EqualFold(name, "text/event-stream"), strings.EqualFold(name, "text/*"):
		a.events = true
	case name == "*/*":
		a.json, a.anything = true, true
	}
}

// modernHeader tells whether the version header is one of the modern era, which
// began with 2026.
func modernHeader(h http.Header) bool {
	for _, v := range h[headerVersion] {
		if v = strings.Trim(v, " \t"); v >= "2026" && v < ":" {
			return true
		}
	}
	return false
}

func mismatch(format string, args ...any) error {
	return wire.Errorf(wire.CodeHeaderMismatch, "header mismatch: "+format, args...)
}

// checkHeader holds a header that mirrors the body of a modern request against
// it (2026-07-28, streamable HTTP, server validation).
func checkHeader(h http.Header, key, want string) error {
	switch v, ok := header(h, key); {
	case !ok:
		return mismatch("%s appears twice", key)
	case v == "":
		return mismatch("%s is missing", key)
	case v != want:
		return mismatch("%s is %q, the body says %q", key, v, want)
	}
	return nil
}

// checkName checks Mcp-Name where the method has a subject. Only tasks may leave
// it out: an extension defines those.
func checkName(h http.Header, r *wire.Request) error {
	f := wire.RoutingField(r.Method)
	if f != wire.FieldName && f != wire.FieldURI && f != wire.FieldTaskID {
		return nil
	}
	v, ok := header(h, headerName)
	if !ok {
		return mismatch("Mcp-Name appears twice")
	}
	if v == "" && (f == wire.FieldTaskID || !r.Has(f) || r.Name == "") {
		return nil // a body without a name is not the headers' fault
	}
	if v == "" {
		return mismatch("Mcp-Name is missing")
	}
	name, ok := decodeValue(v)
	if !ok {
		return mismatch("Mcp-Name holds characters that a header cannot carry, or broken Base64")
	}
	if !r.Has(f) || name != r.Name {
		return mismatch("Mcp-Name is %q, the body says %q", name, r.Name)
	}
	return nil
}

// decodeValue decodes the value of a mirroring header: visible ASCII, spaces and
// tabs as they stand, anything else in Base64 between =?base64? and ?=.
func decodeValue(v string) (string, bool) {
	for i := range len(v) {
		if c := v[i]; (c < ' ' && c != '\t') || c > '~' {
			return "", false
		}
	}
	const prefix, suffix = "=?base64?", "?="
	if !strings.HasPrefix(v, prefix) || !strings.HasSuffix(v, suffix) || len(v) < len(prefix)+len(suffix) {
		return v, true
	}
	text, err := base64.StdEncoding.Strict().DecodeString(v[len(prefix) : len(v)-len(suffix)])
	return string(text), err == nil && utf8.Valid(text)
}
