package shannon

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// ServerKeys are the keys of a server's JSON form that may be set, sorted.
var ServerKeys = []string{
	"args", "command", "config", "cwd", "description", "enabled", "endpoint", "env", "headers",
	"health_check_interval", "isolation", "name", "prefix", "request_timeout", "retry_count",
	"retry_delay", "start", "timeout", "title", "transport",
}

// Patch applies a JSON merge patch (RFC 7396) to the JSON form of s. A key that is
// not in [ServerKeys] is refused with the nearest one as a hint. s is changed only
// if all went well; it is not validated.
func (s *Server) Patch(patch []byte) error {
	var changes map[string]json.RawMessage
	if err := json.Unmarshal(patch, &changes); err != nil || changes == nil {
		return Errorf(CodeInvalidRequest, `Give an object: {"timeout": 60}`, "a change of a server must be a JSON object")
	}
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		if !slices.Contains(ServerKeys, key) {
			return Errorf(CodeInvalidRequest, DidYouMean(key, ServerKeys), "a server has no %q that can be set", key)
		}
	}
	whole, err := s.Reveal()
	if err != nil {
		return err
	}
	merged, err := mergePatch(whole, patch)
	if err != nil {
		return err
	}
	// What is absent from the merged object was removed: it gets its default.
	changed := NewServer(s.Name)
	if err := json.Unmarshal(merged, &changed); err != nil {
		return misfit(changes, err)
	}
	*s = changed
	return nil
}

// misfit says which of the changes err is about. It shows no value: it may be secret.
func misfit(changes map[string]json.RawMessage, err error) error {
	at := ""
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		var s Server
		one := slices.Concat([]byte(`{"`+key+`":`), changes[key], []byte("}")) // a known key needs no escapes
		if e := json.Unmarshal(one, &s); e != nil {
			at, err = key, e
			break
		}
	}
	const hint = `For example: {"args": ["-y", "package"], "env": {"KEY": "value"}, "timeout": 60, "enabled": true}`
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		forms := map[reflect.Kind]string{
			reflect.Slice: "a list", reflect.Map: "an object", reflect.Bool: "true or false",
			reflect.Int: "a whole number", reflect.String: "a string",
		}
		return Errorf(CodeInvalidRequest, hint, "the value for %q has the wrong type: there is a %s where %s must be", at, e.Value, cmp.Or(forms[e.Type.Kind()], "something else"))
	}
	return Errorf(CodeInvalidRequest, hint, "the value for %q has the wrong form: %w", at, err)
}

// DidYouMean is the hint for a word that is not among the known ones: the nearest
// of them, else all of them.
func DidYouMean(word string, known []string) string {
	if near, ok := Nearest(word, known); ok {
		return "Did you mean \"" + near + "\"?"
	}
	if len(known) == 0 {
		return ""
	}
	return "Known are " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}

// mergePatch is the algorithm of RFC 7396, section 2.
func mergePatch(target, patch json.RawMessage) (json.RawMessage, error) {
	var changes map[string]json.RawMessage
	if err := json.Unmarshal(patch, &changes); err != nil || changes == nil {
		return patch, nil //nolint:nilerr // what is no object replaces the target
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(target, &fields); err != nil || fields == nil {
		fields = map[string]json.RawMessage{}
	}
	for key, value := range changes {
		if bytes.Equal(bytes.TrimSpace(value), []byte("null")) {
			delete(fields, key)
			continue
		}
		merged, err := mergePatch(fields[key], value)
		if err != nil {
			return nil, err
		}
		fields[key] = merged
	}
	return json.Marshal(fields)
}

// Nearest returns the candidate that word was probably meant to be; false when
// none is near.
func Nearest(word string, candidates []string) (string, bool) {
	best, found := "", false
	least := max(1, len(word)/3) // as many edits still count as near
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d <= least && (!found || d < least) {
			best, least, found = c, d, true
		}
	}
	if found {
		return best, true
	}
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if len(word) > 2 && strings.HasPrefix(strings.ToLower(c), strings.ToLower(word)) {
			return c, true
		}
	}
	return "", false
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours between two words.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row := rows[(i+2)%3], rows[i%3], rows[(i+1)%3]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return rows[(len(a)+1)%3][len(b)]
}
