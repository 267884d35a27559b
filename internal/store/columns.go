package store

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
)

// column is a field of a definition and the column that holds it.
type column struct {
	name string
	// get gives the value to store: nil, a string, an int64 or a float64.
	get func(*shannon.Server) any
	// set reads what is stored, whatever its type, as text. It returns false when
	// that makes no sense, and leaves the field empty.
	set func(*shannon.Server, sql.NullString) bool
}

// columns are the fields that a user may change.
var columns = []column{
	required("name", func(s *shannon.Server) *string { return &s.Name }),
	required("transport", func(s *shannon.Server) *shannon.Transport { return &s.Transport }),
	text("title", func(s *shannon.Server) *string { return &s.Title }),
	text("description", func(s *shannon.Server) *string { return &s.Description }),
	text("command", func(s *shannon.Server) *string { return &s.Command }),
	{"args", getArgs, setArgs},
	text("cwd", func(s *shannon.Server) *string { return &s.Cwd }),
	secrets("env", func(s *shannon.Server) *map[string]shannon.Secret { return &s.Env }),
	text("endpoint", func(s *shannon.Server) *string { return &s.Endpoint }),
	secrets("headers", func(s *shannon.Server) *map[string]shannon.Secret { return &s.Headers }),
	{"prefix", getPrefix, setPrefix},
	required("isolation", func(s *shannon.Server) *shannon.Isolation { return &s.Isolation }),
	required("start", func(s *shannon.Server) *shannon.StartMode { return &s.Start }),
	{"enabled", getEnabled, setEnabled},
	seconds("timeout", func(s *shannon.Server) *shannon.Duration { return &s.Timeout }),
	{"request_timeout", getRequestTimeout, setRequestTimeout},
	{"retry_count", getRetryCount, setRetryCount},
	seconds("retry_delay", func(s *shannon.Server) *shannon.Duration { return &s.RetryDelay }),
	seconds("health_check_interval", func(s *shannon.Server) *shannon.Duration { return &s.HealthCheckInterval }),
	{"config", getConfig, setConfig},
}

func required[T ~string](name string, field func(*shannon.Server) *T) column {
	return column{
		name,
		func(s *shannon.Server) any { return string(*field(s)) },
		func(s *shannon.Server, v sql.NullString) bool {
			if v.Valid {
				*field(s) = T(v.String)
			}
			return true
		},
	}
}

// text is NULL when empty.
func text(name string, field func(*shannon.Server) *string) column {
	c := required(name, field)
	get := c.get
	c.get = func(s *shannon.Server) any {
		if v := get(s); v != "" {
			return v
		}
		return nil
	}
	return c
}

// seconds keeps the default of [shannon.NewServer] for NULL and for what is no
// duration: there is nothing in such text worth keeping a server down for.
func seconds(name string, field func(*shannon.Server) *shannon.Duration) column {
	return column{
		name,
		func(s *shannon.Server) any { return field(s).Std().Seconds() },
		func(s *shannon.Server, v sql.NullString) bool {
			if d, ok := parseSeconds(v); ok {
				*field(s) = d
			}
			return true
		},
	}
}

func parseSeconds(v sql.NullString) (shannon.Duration, bool) {
	if !v.Valid {
		return 0, false
	}
	d, err := shannon.ParseDuration(strings.TrimSpace(v.String))
	if err != nil {
		return 0, false
	}
	if f, err := strconv.ParseFloat(strings.TrimSpace(v.String), 64); err == nil {
		// Rounded, so that a stored value is read as it was written.
		d = shannon.Duration(math.Round(f * float64(time.Second)))
	}
	return d, true
}

func getRequestTimeout(s *shannon.Server) any {
	if s.RequestTimeout == nil {
		return nil
	}
	return s.RequestTimeout.Std().Seconds()
}

func setRequestTimeout(s *shannon.Server, v sql.NullString) bool {
	if d, ok := parseSeconds(v); ok {
		s.RequestTimeout = &d
	}
	return true
}

func getRetryCount(s *shannon.Server) any { return int64(s.RetryCount) }

func setRetryCount(s *shannon.Server, v sql.NullString) bool {
	if n, err := strconv.ParseFloat(strings.TrimSpace(v.String), 64); err == nil && math.Abs(n) < math.MaxInt32 {
		s.RetryCount = int(n)
	}
	return true
}

func getEnabled(s *shannon.Server) any {
	if s.Enabled {
		return int64(1)
	}
	return int64(0)
}

// setEnabled reads NULL as the default, which is true, and what makes no sense as
// false: nothing starts by mistake.
func setEnabled(s *shannon.Server, v sql.NullString) bool {
	if !v.Valid {
		return true
	}
	switch strings.ToLower(strings.TrimSpace(v.String)) {
	case "true", "t", "yes", "y", "on":
		s.Enabled = true
	default:
		n, err := strconv.ParseFloat(strings.TrimSpace(v.String), 64)
		s.Enabled = err == nil && n != 0
	}
	return true
}

// Lists and maps are JSON text. Nil is NULL, and is what NULL and an empty one
// read as: a list that is set to an empty one differs from nil and is written,
// also over text that could not be read.

func getArgs(s *shannon.Server) any {
	if s.Args == nil {
		return nil
	}
	return jsonText(s.Args)
}

func setArgs(s *shannon.Server, v sql.NullString) bool {
	var raw []json.RawMessage
	if !readJSON(v, &raw) {
		return false
	}
	var args []string
	for _, r := range raw {
		arg, ok := scalar(r)
		if !ok {
			return false
		}
		args = append(args, arg)
	}
	s.Args = args
	return true
}

func secrets(name string, field func(*shannon.Server) *map[string]shannon.Secret) column {
	get := func(s *shannon.Server) any {
		if *field(s) == nil {
			return nil
		}
		plain := map[string]string{}
		for k, v := range *field(s) {
			plain[k] = v.Reveal()
		}
		return jsonText(plain)
	}
	set := func(s *shannon.Server, v sql.NullString) bool {
		var raw map[string]json.RawMessage
		if !readJSON(v, &raw) {
			return false
		}
		var out map[string]shannon.Secret
		for k, r := range raw {
			value, ok := scalar(r)
			if !ok {
				return false
			}
			if out == nil {
				out = map[string]shannon.Secret{}
			}
			out[k] = shannon.Secret(value)
		}
		*field(s) = out
		return true
	}
	return column{name, get, set}
}

// getPrefix tells nil, which is NULL, from none, which is empty.
func getPrefix(s *shannon.Server) any {
	if s.Prefix == nil {
		return nil
	}
	return *s.Prefix
}

func setPrefix(s *shannon.Server, v sql.NullString) bool {
	if v.Valid {
		s.Prefix = &v.String
	}
	return true
}

func getConfig(s *shannon.Server) any {
	if s.Config == nil {
		return nil
	}
	return string(s.Config)
}

func setConfig(s *shannon.Server, v sql.NullString) bool {
	b := bytes.TrimSpace([]byte(v.String))
	if len(b) == 0 || string(b) == "null" {
		return true
	}
	return json.Valid(b) && b[0] == '{' && s.Config.UnmarshalJSON(b) == nil
}

// jsonText encodes strings, which cannot fail.
func jsonText(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // people look at this with sqlite3
	_ = enc.Encode(v)
	return strings.TrimSpace(b.String())
}

// readJSON reads text into a list or a map; nothing at all is an empty one.
func readJSON(v sql.NullString, into any) bool {
	return strings.TrimSpace(v.String) == "" || json.Unmarshal([]byte(v.String), into) == nil
}

// scalar reads a JSON string, and a number or boolean as its text: people write
// ports without quotes.
func scalar(raw json.RawMessage) (string, bool) {
	switch raw[0] {
	case '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err == nil
	case '[', '{', 'n':
		return "", false
	default:
		return string(raw), true
	}
}
