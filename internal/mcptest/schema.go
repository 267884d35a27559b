package mcptest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

// Schema is the official JSON schema of one protocol version. It is not safe
// for concurrent use.
type Schema struct {
	root     jsonschema.Schema
	defs     map[string]*jsonschema.Schema
	prefix   string
	resolved map[string]*jsonschema.Resolved
	requests map[string]string // definition of a request or notification by method
}

// LoadSchema reads $MCP_SCHEMA_DIR/VERSION/schema.json; without that variable
// the test is skipped, since the schema is no part of this repository.
func LoadSchema(t testing.TB, version string) *Schema {
	t.Helper()
	dir := os.Getenv("MCP_SCHEMA_DIR") //nolint:forbidigo // a seam of tests
	if dir == "" {
		t.Skip("MCP_SCHEMA_DIR is not set")
	}
	raw, err := os.ReadFile(filepath.Join(dir, version, "schema.json")) //nolint:gosec // the tester's own directory
	if err != nil {
		t.Fatal(err)
	}
	s := &Schema{resolved: map[string]*jsonschema.Resolved{}, requests: map[string]string{}}
	if err := json.Unmarshal(raw, &s.root); err != nil {
		t.Fatalf("read the schema of %s: %v", version, err)
	}
	s.defs, s.prefix = s.root.Defs, "#/$defs/"
	if s.defs == nil {
		s.defs, s.prefix = s.root.Definitions, "#/definitions/"
	}
	for name, def := range s.defs {
		if method := def.Properties["method"]; method != nil && method.Const != nil {
			if value, ok := (*method.Const).(string); ok {
				s.requests[value] = name
			}
		}
	}
	if len(s.requests) == 0 {
		t.Fatalf("the schema of %s names no methods", version)
	}
	return s
}

// Check holds JSON against a definition, such as "CallToolResult".
func (s *Schema) Check(definition string, raw []byte) error {
	r := s.resolved[definition]
	if r == nil {
		if s.defs[definition] == nil {
			return fmt.Errorf("the schema has no %s", definition)
		}
		root := s.root
		root.Ref = s.prefix + definition
		var err error
		if r, err = root.Resolve(nil); err != nil {
			return fmt.Errorf("resolve %s: %w", definition, err)
		}
		s.resolved[definition] = r
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return fmt.Errorf("decode %s: %w", definition, err)
	}
	if err := r.Validate(value); err != nil {
		return fmt.Errorf("%s is no %s: %w", clip(raw), definition, err)
	}
	return nil
}

// CheckTranscript holds every message of a transcript against the schema:
// each as a JSON-RPC message, and requests, notifications and results of
// methods that the schema knows as what they are.
func (s *Schema) CheckTranscript(t *Transcript) error {
	var errs []error
	methods := map[string]string{} // by id of the client's request
	for _, e := range t.Entries() {
		m := e.Message
		if e.Noise != nil {
			continue
		}
		errs = append(errs, s.Check("JSONRPCMessage", m.Raw))
		name := s.requests[m.Method]
		switch {
		case m.Method != "" && name != "":
			errs = append(errs, s.Check(name, m.Raw))
		case !e.Sent && m.Result != nil:
			name = strings.TrimSuffix(s.requests[methods[string(m.ID)]], "Request") + "Result"
			if string(get(m.Result, "resultType")) == `"input_required"` {
				name = "InputRequiredResult"
			}
			if s.defs[name] != nil {
				errs = append(errs, s.Check(name, m.Result))
			}
		}
		if e.Sent && m.IsRequest() {
			methods[string(m.ID)] = m.Method
		}
	}
	return errors.Join(errs...)
}
