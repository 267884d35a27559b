package shannon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func sample() Server {
	s := NewServer("git")
	s.Transport, s.Command = TransportStdio, "mcp-git"
	s.Env = map[string]Secret{"TOKEN": "s3cret-value", "REF": "${env:TOKEN}"}
	s.Headers = map[string]Secret{"X-Key": "s3cret-value"}
	s.Config = Opaque(`{"api_key":"s3cret-value"}`)
	return s
}

func TestSecretsNeverPrint(t *testing.T) {
	s := sample()
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "server", s, "env", s.Env, "secret", s.Env["TOKEN"], "config", s.Config)
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"json": string(b), "log": log.String(),
		"verbs": fmt.Sprintf("%v %+v %#v %s %q %x %d", s, s, s, s.Env, s.Env["TOKEN"], s.Env["TOKEN"], s.Config),
	} {
		if strings.Contains(text, "s3cret") || strings.Contains(text, "733363") {
			t.Errorf("%s shows a secret: %s", name, text)
		}
	}
	if !strings.Contains(string(b), "${env:TOKEN}") {
		t.Error("a reference is no secret and should show")
	}
	plain, err := s.Reveal()
	if err != nil || strings.Count(string(plain), "s3cret-value") != 3 {
		t.Errorf("Reveal lost a secret: %s %v", plain, err)
	}
}

func TestPatch(t *testing.T) {
	for _, c := range []struct {
		patch, wantErr string
		check          func(Server) bool
	}{
		{`{"timeout":60,"title":"Git"}`, "", func(s Server) bool { return s.Timeout == Seconds(60) && s.Title == "Git" }},
		{`{"env":{"TOKEN":null,"NEW":"x"}}`, "", func(s Server) bool {
			return len(s.Env) == 2 && s.Env["NEW"] == "x" && s.Env["REF"] == "${env:TOKEN}"
		}},
		{`{"prefix":""}`, "", func(s Server) bool { return s.Prefix != nil && *s.Prefix == "" && s.PublicPrefix() == "" }},
		{`{"timeout":null}`, "", func(s Server) bool { return s.Timeout == Seconds(30) }},
		{`{"config":{"n":9007199254740993}}`, "", func(s Server) bool { return strings.Contains(string(s.Config), "9007199254740993") }},
		{`{"timeuot":1}`, "timeout", nil},
		{`{"id":"x"}`, "", nil},
		{`[]`, "", nil},
		{`{"args":"x"}`, "", nil},
	} {
		s := sample()
		before := fmt.Sprintf("%+v", s)
		err := s.Patch([]byte(c.patch))
		if (err == nil) != (c.check != nil) {
			t.Errorf("%s: error %v", c.patch, err)
			continue
		}
		if err == nil {
			if !c.check(s) || s.Env["REF"] != "${env:TOKEN}" || s.Command != "mcp-git" {
				t.Errorf("%s gives %+v", c.patch, s)
			}
			continue
		}
		if p := ProblemOf(err); p.Code != CodeInvalidRequest || !strings.Contains(p.Hint, c.wantErr) || p.Hint == "" {
			t.Errorf("%s: %+v", c.patch, p)
		}
		if fmt.Sprintf("%+v", s) != before {
			t.Errorf("%s changed the server although it failed", c.patch)
		}
	}
}

func TestPatchSaysWhatIsWrong(t *testing.T) {
	for patch, want := range map[string]string{
		`{"title":"x","args":"--secret"}`:   `the value for "args" has the wrong type: there is a string where a list must be`,
		`{"env":{"KEY":1}}`:                 `the value for "env" has the wrong type: there is a number where a string must be`,
		`{"command":"x","timeout":"later"}`: `the value for "timeout" has the wrong form: "later" is not a number of seconds nor a duration such as 1m30s`,
		`{"retry_count":1.5}`:               `the value for "retry_count" has the wrong type: there is a number 1.5 where a whole number must be`,
		`{"enabled":"yes"}`:                 `the value for "enabled" has the wrong type: there is a string where true or false must be`,
	} {
		s := sample()
		if got := ProblemOf(s.Patch([]byte(patch))).Message; got != want {
			t.Errorf("%s: %s", patch, got)
		}
	}
}

func TestValidate(t *testing.T) {
	for name, spoil := range map[string]func(*Server){
		"name":      func(s *Server) { s.Name = "a b" },
		"two _":     func(s *Server) { s.Name = "a__b" },
		"long":      func(s *Server) { s.Name = strings.Repeat("a", 33) },
		"empty":     func(s *Server) { s.Name = "" },
		"command":   func(s *Server) { s.Command = "" },
		"transport": func(s *Server) { s.Transport = "carrier pigeon" },
		"url":       func(s *Server) { s.Transport, s.Endpoint = TransportHTTP, "ftp://x" },
		"no url":    func(s *Server) { s.Transport = TransportHTTP },
		"ws":        func(s *Server) { s.Transport, s.Endpoint = TransportWebSocket, "http://x" },
		"no host":   func(s *Server) { s.Transport, s.Endpoint = TransportSSE, "http://" },
		"isolation": func(s *Server) { s.Isolation = "total" },
		"start":     func(s *Server) { s.Start = "" },
		"timeout":   func(s *Server) { s.Timeout = 0 },
		"header":    func(s *Server) { s.Headers = map[string]Secret{"X": "a\r\nb"} },
		"env":       func(s *Server) { s.Env = map[string]Secret{"A=B": "x"} },
		"config":    func(s *Server) { s.Config = Opaque(`[1]`) },
		"prefix":    func(s *Server) { p := "a b"; s.Prefix = &p },
	} {
		s := sample()
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		spoil(&s)
		err := s.Validate()
		if p := ProblemOf(err); p == nil || p.Code != CodeInvalidServer || p.Hint == "" || strings.Contains(p.Message+p.Hint, "s3cret") {
			t.Errorf("%s: %+v", name, p)
		}
	}
	s := sample()
	s.Transport, s.Endpoint = TransportHTTP, "https://${HOST:-example.com}/mcp?key=${KEY}"
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"filesystem", "memory", "everything", "time"}
	for word, want := range map[string]string{"memroy": "memory", "Time": "time", "file": "filesystem", "everythin": "everything", "zebra": ""} {
		if got, _ := Nearest(word, words); got != want {
			t.Errorf("nearest to %s is %q, want %q", word, got, want)
		}
	}
}

func TestErrorCodes(t *testing.T) {
	inner := errors.New("inner")
	err := fmt.Errorf("outer: %w", Errorf(CodeTimeout, "hint", "it took long: %w", inner))
	if CodeOf(err) != CodeTimeout || !errors.Is(err, inner) || !errors.Is(err, &Error{Problem: Problem{Code: CodeTimeout}}) ||
		errors.Is(err, &Error{Problem: Problem{Code: CodeQuota}}) || CodeOf(nil) != "" || CodeOf(inner) != CodeInternal {
		t.Error("codes do not compare")
	}
	if p := ProblemOf(err); p.Message != "it took long: inner" || p.Hint != "hint" {
		t.Errorf("%+v", p)
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]Duration{`30`: Seconds(30), `"1m30s"`: Seconds(90), `1.5`: Seconds(1.5), `"2"`: Seconds(2)} {
		var d Duration
		if err := json.Unmarshal([]byte(text), &d); err != nil || d != want {
			t.Errorf("%s is %v, %v", text, d, err)
		}
	}
	var d Duration
	for _, text := range []string{`"soon"`, `true`, `1e30`} {
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"name", "transport", "command"}
	for word, want := range map[string]string{
		"comand": `Did you mean "command"?`, "NAME": `Did you mean "name"?`, "xyzzy": "Known are command, name, transport",
	} {
		if got := DidYouMean(word, known); got != want {
			t.Errorf("%s: %s", word, got)
		}
	}
}
