package contract

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
)

func testAdd(t *testing.T, s *suite) {
	before := time.Now().Add(-time.Second)
	in := s.server("full")
	in.Title, in.Description, in.Cwd = "A title", "<what> & \"why\"", t.TempDir()
	in.Args = append([]string{}, in.Args...)
	in.Prefix, in.Isolation, in.Start = new(""), shannon.IsolationSession, shannon.StartLazy
	in.Timeout, in.RequestTimeout = shannon.Seconds(1.5), new(shannon.Seconds(0))
	in.RetryCount, in.RetryDelay, in.HealthCheckInterval = 7, shannon.Seconds(0.25), shannon.Seconds(90)
	in.Config = shannon.Opaque(`{"n": 9007199254740993}`)
	got := s.add(t, in)
	if got.ID == "" {
		t.Error("it got no id")
	}
	if got.CreatedAt.Before(before) || got.UpdatedAt.Before(before) {
		t.Errorf("made at %v and %v, which is in the past", got.CreatedAt, got.UpdatedAt)
	}
	in.ID, in.CreatedAt, in.UpdatedAt = got.ID, got.CreatedAt, got.UpdatedAt
	if diff := cmp.Diff(object(t, in), object(t, got)); diff != "" {
		t.Errorf("stored differently (-asked +stored):\n%s", diff)
	}
	if diff := cmp.Diff(object(t, got), object(t, s.get(t, "full"))); diff != "" {
		t.Errorf("read differently (-stored +read):\n%s", diff)
	}
	remote := shannon.NewServer("http")
	remote.Transport, remote.Endpoint, remote.Enabled = shannon.TransportHTTP, "https://127.0.0.1:1/mcp?a=b", false
	remote.ID = "chosen"
	if got := s.add(t, remote); got.ID != "chosen" || got.Endpoint != remote.Endpoint {
		t.Errorf("id %q and endpoint %q are not those that were asked for", got.ID, got.Endpoint)
	}
}

func testAddRefuses(t *testing.T, s *suite) {
	first := s.add(t, s.server("first"))
	tests := []struct {
		name   string
		change func(*shannon.Server)
		want   shannon.Code
	}{
		{"taken name", func(srv *shannon.Server) { srv.Name = "first" }, shannon.CodeNameTaken},
		{"taken id", func(srv *shannon.Server) { srv.ID = first.ID }, shannon.CodeNameTaken},
		{"ill-formed name", func(srv *shannon.Server) { srv.Name = "a__b" }, shannon.CodeInvalidServer},
		{"no name", func(srv *shannon.Server) { srv.Name = "" }, shannon.CodeInvalidServer},
		{"no command", func(srv *shannon.Server) { srv.Command = "" }, shannon.CodeInvalidServer},
		{"unknown transport", func(srv *shannon.Server) { srv.Transport = "pigeon" }, shannon.CodeInvalidServer},
		{"no transport", func(srv *shannon.Server) { srv.Transport = "" }, shannon.CodeInvalidServer},
		{"no isolation", func(srv *shannon.Server) { srv.Isolation = "" }, shannon.CodeInvalidServer},
		{"no time", func(srv *shannon.Server) { srv.Timeout = 0 }, shannon.CodeInvalidServer},
		{"bad URL", func(srv *shannon.Server) {
			srv.Transport, srv.Endpoint = shannon.TransportHTTP, "ftp://x"
		}, shannon.CodeInvalidServer},
	}
	for _, tt := range tests {
		srv := s.server("second")
		tt.change(&srv)
		_, err := s.m.AddServer(s.ctx, srv)
		wantCode(t, tt.name, err, tt.want)
		if tt.want == shannon.CodeInvalidServer && hint(err) == "" {
			t.Errorf("%s: no hint", tt.name)
		}
	}
	all, err := s.m.ListServers(s.ctx, shannon.ServerFilter{})
	if err != nil || names(all) != "first" {
		t.Errorf("there are now %q, %v", names(all), err)
	}
}

func testSecrets(t *testing.T, s *suite) {
	srv := s.server("safe")
	srv.Env = map[string]shannon.Secret{"TOKEN": secret, "REFERENCE": "${env:PATH}"}
	srv.Headers = map[string]shannon.Secret{"Authorization": "Bearer " + secret}
	srv.Config = shannon.Opaque(`{"api_key":"` + secret + `"}`)
	shown := []any{s.add(t, srv)}
	updated, err := s.m.UpdateServer(s.ctx, "safe", json.RawMessage(`{"env":{"OTHER":"`+secret+`"}}`))
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.m.ListServers(s.ctx, shannon.ServerFilter{})
	if err != nil {
		t.Fatal(err)
	}
	_, refused := s.m.UpdateServer(s.ctx, "safe", json.RawMessage(`{"env":{"A=B":"`+secret+`"}}`))
	shown = append(shown, updated, all, s.get(t, "safe"), fmt.Sprintf("%+v %#v %v", updated, all, refused))
	for _, v := range shown {
		if strings.Contains(text(t, v), secret) {
			t.Errorf("a secret is seen: %s", text(t, v))
		}
	}
	got := object(t, s.get(t, "safe"))
	want := map[string]any{"TOKEN": shannon.Hidden, "OTHER": shannon.Hidden, "REFERENCE": "${env:PATH}"}
	if diff := cmp.Diff(want, got["env"]); diff != "" {
		t.Errorf("the environment is not shown by its names:\n%s", diff)
	}
	for e, err := range s.m.Events(s.ctx, shannon.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text(t, e), secret) {
			t.Errorf("a secret is in an event: %s", text(t, e))
		}
	}

	// What is hidden is kept nevertheless: the fixture does not start without its environment.
	s.add(t, s.server("kept"))
	for _, patch := range []string{`{"title":"changed"}`, `{"enabled":true}`, `{"env":{"MORE":"x"}}`} {
		if _, err := s.m.UpdateServer(s.ctx, "kept", json.RawMessage(patch)); err != nil {
			t.Fatalf("%s: %v", patch, err)
		}
	}
	if st, err := s.m.Connect(s.ctx, "kept"); err != nil || st.State != shannon.StateConnected {
		t.Errorf("a change of the title lost the environment: %s, %v", st.State, err)
	}
}

func testGet(t *testing.T, s *suite) {
	s.add(t, s.server("filesystem"))
	_, err := s.m.Server(s.ctx, "filesytem")
	wantCode(t, "a name with a slip", err, shannon.CodeUnknownServer)
	if !strings.Contains(hint(err), "filesystem") {
		t.Errorf("the hint %q does not name the nearest", hint(err))
	}
}

func testList(t *testing.T, s *suite) {
	if all, err := s.m.ListServers(s.ctx, shannon.ServerFilter{}); err != nil || len(all) != 0 {
		t.Fatalf("a new manager has %v, %v", names(all), err)
	}
	for _, name := range []string{"b", "a", "d"} {
		s.add(t, s.server(name))
	}
	c := shannon.NewServer("c")
	// Nothing is there; trying to reach it must not delay anything.
	c.Transport, c.Endpoint, c.Start = shannon.TransportHTTP, "http://127.0.0.1:1/mcp", shannon.StartLazy
	s.add(t, c)
	tests := []struct {
		f    shannon.ServerFilter
		want string
	}{
		{shannon.ServerFilter{}, "a b c d"},
		{shannon.ServerFilter{Transport: shannon.TransportStdio}, "a b d"},
		{shannon.ServerFilter{Transport: shannon.TransportSSE}, ""},
		{shannon.ServerFilter{Enabled: new(true)}, "c"},
		{shannon.ServerFilter{Enabled: new(false)}, "a b d"},
		{shannon.ServerFilter{Enabled: new(true), Transport: shannon.TransportStdio}, ""},
	}
	for _, tt := range tests {
		got, err := s.m.ListServers(s.ctx, tt.f)
		if err != nil || names(got) != tt.want {
			t.Errorf("%s: %q, %v; want %q", text(t, tt.f), names(got), err, tt.want)
		}
	}
}

func testUpdate(t *testing.T, s *suite) {
	in := s.server("old")
	in.Title, in.Description = "title", "description"
	in.Env = map[string]shannon.Secret{"A": "${A}", "B": "${B}"}
	in.Args = []string{"one", "two"}
	in.RequestTimeout = new(shannon.Seconds(5))
	first := s.add(t, in)
	want := object(t, first)
	tests := []struct {
		patch  string
		change map[string]any
	}{
		{`{}`, nil},
		{`{"title":"new & <b>"}`, map[string]any{"title": "new & <b>"}},
		{`{"title":null}`, map[string]any{"title": nil}},
		{`{"env":{"B":null,"C":"${C}"}}`, map[string]any{"env": map[string]any{"A": "${A}", "C": "${C}"}}},
		{`{"args":["three"]}`, map[string]any{"args": []any{"three"}}},
		{`{"args":null}`, map[string]any{"args": nil}},
		{`{"prefix":""}`, map[string]any{"prefix": ""}},
		{`{"prefix":null}`, map[string]any{"prefix": nil}},
		{`{"request_timeout":null}`, map[string]any{"request_timeout": nil}},
		{`{"timeout":"1m30s"}`, map[string]any{"timeout": json.Number("90")}},
		{` { "retry_count" : 0 , "start":"lazy" } `, map[string]any{"retry_count": json.Number("0"), "start": "lazy"}},
		{`{"config":{"a":{"b":1}}}`, map[string]any{"config": map[string]any{"a": shannon.Hidden}}},
		{`{"config":{"a":null,"c":2}}`, map[string]any{"config": map[string]any{"c": shannon.Hidden}}},
		{`{"env":null}`, map[string]any{"env": nil}},
	}
	for _, tt := range tests {
		got, err := s.m.UpdateServer(s.ctx, "old", json.RawMessage(tt.patch))
		if err != nil {
			t.Fatalf("%s: %v", tt.patch, err)
		}
		for k, v := range tt.change {
			if want[k] = v; v == nil {
				delete(want, k)
			}
		}
		for _, g := range []shannon.Server{got, s.get(t, "old")} {
			if g.UpdatedAt.Before(first.UpdatedAt) || !g.CreatedAt.Equal(first.CreatedAt) {
				t.Errorf("%s: created %v, updated %v", tt.patch, g.CreatedAt, g.UpdatedAt)
			}
			shown := object(t, g)
			shown["updated_at"] = want["updated_at"]
			if diff := cmp.Diff(want, shown); diff != "" {
				t.Fatalf("%s (-want +got):\n%s", tt.patch, diff)
			}
		}
	}
	renamed, err := s.m.UpdateServer(s.ctx, "old", json.RawMessage(`{"name":"new"}`))
	if err != nil || renamed.Name != "new" || renamed.ID != first.ID {
		t.Fatalf("renamed: %q with id %q, %v", renamed.Name, renamed.ID, err)
	}
	_, err = s.m.Server(s.ctx, "old")
	wantCode(t, "the old name", err, shannon.CodeUnknownServer)
	s.get(t, "new")
}

func testUpdateRefuses(t *testing.T, s *suite) {
	s.add(t, s.server("other"))
	s.add(t, s.server("same"))
	want := object(t, s.get(t, "same"))
	bad := []shannon.Code{shannon.CodeInvalidRequest, shannon.CodeInvalidServer}
	tests := []struct {
		patch string
		want  []shannon.Code
	}{
		{`{"name":"other"}`, []shannon.Code{shannon.CodeNameTaken}},
		{`{"name":"a b"}`, []shannon.Code{shannon.CodeInvalidServer}},
		{`{"title":"x","timeout":-1}`, bad},
		{`{"transport":null}`, bad},
		{`{"command":""}`, []shannon.Code{shannon.CodeInvalidServer}},
		{`{"tilte":"x"}`, bad},
		{`{"Title":"x"}`, bad},
		{`{"id":"x"}`, bad},
		{`{"created_at":"2020-01-01T00:00:00Z"}`, bad},
		{`{"updated_at":null}`, bad},
		{`{"retry_count":"many"}`, bad},
		{`{"title":`, bad},
		{``, bad},
		{`[]`, bad},
		{`"title"`, bad},
		{`null`, bad},
	}
	for _, tt := range tests {
		_, err := s.m.UpdateServer(s.ctx, "same", json.RawMessage(tt.patch))
		wantCode(t, tt.patch, err, tt.want...)
		if diff := cmp.Diff(want, object(t, s.get(t, "same"))); diff != "" {
			t.Fatalf("%s was refused and changed it nevertheless:\n%s", tt.patch, diff)
		}
	}
}

func testRemove(t *testing.T, s *suite) {
	s.connected(t, "gone")
	id := s.get(t, "gone").ID
	if err := s.m.RemoveServer(s.ctx, "gone"); err != nil {
		t.Fatal(err)
	}
	_, err := s.m.Server(s.ctx, "gone")
	wantCode(t, "get", err, shannon.CodeUnknownServer)
	_, err = s.m.Status(s.ctx, "gone")
	wantCode(t, "status", err, shannon.CodeUnknownServer)
	wantCode(t, "remove again", s.m.RemoveServer(s.ctx, "gone"), shannon.CodeUnknownServer)
	for _, who := range []string{"gone", id} {
		rows, err := s.m.History(s.ctx, shannon.HistoryFilter{Server: who, State: shannon.StateConnected})
		if err != nil || len(rows) == 0 {
			t.Errorf("its history, asked for by %q, has %d rows, %v", who, len(rows), err)
		}
	}
	if again := s.add(t, s.server("gone")); again.ID == id {
		t.Error("the id was used again")
	}
}
