package shannon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"time"
)

// Hidden is what stands in the place of a secret wherever one would print.
const Hidden = "[hidden]"

// reference matches a value that is expanded when used: ${VAR}, ${VAR:-default},
// ${env:VAR}, ${secret:NAME}.
var reference = regexp.MustCompile(`\$\{[^{}]+\}`)

// Secret is text that must not print or log. Every way of formatting it gives
// [Hidden], but for a value that is nothing but a reference such as ${env:TOKEN},
// which is no secret. Its value is had by [Secret.Reveal] only.
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String returns the text that may be shown.
func (s Secret) String() string {
	if loc := reference.FindStringIndex(string(s)); loc != nil && loc[0] == 0 && loc[1] == len(s) {
		return string(s)
	}
	return Hidden
}

// Format implements [fmt.Formatter], so that no verb can print the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON gives the text that may be shown; see [Server.Reveal].
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// Opaque is a JSON object whose keys may be shown and whose values may not.
type Opaque []byte

// MarshalJSON gives the object with every value hidden.
func (o Opaque) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("{}"), nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(o, &m); err != nil {
		return json.Marshal(Hidden) // what is no object is shown as nothing at all
	}
	shown := make(map[string]string, len(m))
	for k := range m {
		shown[k] = Hidden
	}
	return json.Marshal(shown)
}

// UnmarshalJSON keeps the bytes; null and {} give nil.
func (o *Opaque) UnmarshalJSON(b []byte) error {
	*o = nil
	if s := bytes.TrimSpace(b); !bytes.Equal(s, []byte("null")) && !bytes.Equal(s, []byte("{}")) {
		*o = bytes.Clone(b)
	}
	return nil
}

// String shows what may be shown.
func (o Opaque) String() string {
	b, _ := o.MarshalJSON() // never fails: it holds strings
	return string(b)
}

// Format implements [fmt.Formatter], so that no verb can print the values.
func (o Opaque) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(o.String())) }

// LogValue implements [slog.LogValuer].
func (o Opaque) LogValue() slog.Value { return slog.StringValue(o.String()) }

// Duration is a time span that is a number of seconds in JSON, as in the stored
// format. A string such as "1m30s" is read as well.
type Duration time.Duration

// Seconds makes a Duration.
func Seconds(n float64) Duration { return Duration(n * float64(time.Second)) }

// Std returns the standard library's form.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is the standard library's form: 1m30s.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON gives seconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(d).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads seconds or a string as [ParseDuration] does.
func (d *Duration) UnmarshalJSON(b []byte) error {
	text := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return fmt.Errorf("read duration: %w", err)
		}
	}
	v, err := ParseDuration(text)
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// ParseDuration reads seconds ("30", "1.5") or the standard library's form ("1m30s").
func ParseDuration(s string) (Duration, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil && f > -1e9 && f < 1e9 {
		return Seconds(f), nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number of seconds nor a duration such as 1m30s", s)
	}
	return Duration(v), nil
}
