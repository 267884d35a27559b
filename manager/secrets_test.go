package manager_test

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/mcptest"
	"github.com/shannon-mcp/shannon/manager"
)

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestSecretsStay runs servers that tell everybody their secrets, on stderr, on
// stdout, in notifications and as last words, and looks for them everywhere.
func TestSecretsStay(t *testing.T) {
	t.Parallel()
	secrets := []string{"sk-plain-1111", "sk-plain-1111-longer", "sk-expanded-2222", "sk-argument-3333", "sk-apikey-4444", "sk-header-5555", "line-one-6666", "line-two-7777"}
	said := strings.Join(secrets, " and ") + "\n"
	home := t.TempDir()
	var logged safeBuffer
	m := openWith(t, configOf(home, nil), manager.Options{
		Log:     slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Environ: append(os.Environ(), "UPSTREAM_TOKEN=sk-expanded-2222", "ARG_TOKEN=sk-argument-3333"),
	})
	talker := func(name string, script mcptest.Script) shannon.Server {
		s := fake(t, name, script)
		s.Args = []string{"--token=${ARG_TOKEN}"}
		s.Env["A"], s.Env["B"], s.Env["C"] = "sk-plain-1111", "sk-plain-1111-longer", "${UPSTREAM_TOKEN}"
		s.Env["PEM"] = "line-one-6666\nline-two-7777"
		s.Headers = map[string]shannon.Secret{"Authorization": "Bearer sk-header-5555"}
		s.Config = shannon.Opaque(`{"api_key":"sk-apikey-4444"}`)
		s.RetryDelay = shannon.Seconds(60)
		return s
	}
	add(t, m, talker("talks", mcptest.Script{Versions: []string{"2025-11-25"}, Child: mcptest.ChildScript{Stderr: said, Noise: said}}))
	for _, tool := range []string{"stderr", "noise"} {
		if _, err := m.CallTool(t.Context(), "talks", tool, []byte(`{"text":"`+strings.TrimSpace(said)+`\n"}`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.CallTool(t.Context(), "talks", "notify", []byte(`{"method":"notifications/message","params":{"level":"info","data":"`+strings.TrimSpace(said)+`"}}`)); err != nil {
		t.Logf("notify: %v", err) // what it takes is its own business
	}
	if _, err := m.AddServer(t.Context(), talker("dies", mcptest.Script{Child: mcptest.ChildScript{Exit: 3, Stderr: said}})); err != nil {
		t.Fatal(err)
	}
	_, dead := m.Connect(t.Context(), "dies")
	if shannon.CodeOf(dead) != shannon.CodeExited || !strings.Contains(dead.Error(), shannon.Hidden) {
		t.Errorf("last words: %v", dead)
	}
	missing := talker("missing", mcptest.Script{})
	missing.Env["D"] = "sk-plain-1111 ${NO_SUCH_VARIABLE}"
	if _, err := m.AddServer(t.Context(), missing); err != nil {
		t.Fatal(err)
	}
	st, err := m.Connect(t.Context(), "missing")
	if shannon.CodeOf(err) != shannon.CodeMissingVariable || !strings.Contains(err.Error(), "NO_SUCH_VARIABLE") || st.Problem == nil || st.Problem.Code != shannon.CodeMissingVariable {
		t.Errorf("a missing variable: %v %+v", err, st)
	}
	_, ended := m.CallTool(t.Context(), "talks", "exit", []byte(`{"code":1}`))

	seen := map[string]string{"the log": logged.String(), "an error": dead.Error() + err.Error() + ended.Error()}
	show := func(what string, v any, err error) {
		b, e := json.Marshal(v)
		if err != nil || e != nil {
			t.Errorf("%s: %v %v", what, err, e)
		}
		seen[what] = string(b)
	}
	eventually(t, "the end in the history", func() bool {
		rows, err := m.History(t.Context(), shannon.HistoryFilter{Server: "talks", State: shannon.StateReconnecting})
		return err == nil && len(rows) == 1
	})
	rows, err := m.History(t.Context(), shannon.HistoryFilter{})
	show("the history", rows, err)
	statuses, err := m.Statuses(t.Context())
	show("the states", statuses, err)
	servers, err := m.ListServers(t.Context(), shannon.ServerFilter{})
	show("the servers", servers, err)
	var events []shannon.Event
	for e, err := range m.Events(t.Context(), shannon.EventFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	show("the events", events, nil)
	var lines []string
	for l, err := range m.Logs(t.Context(), "talks", shannon.LogFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l.Text)
	}
	show("the server's log", lines, nil)
	url := endpoint(t, m)
	for _, path := range []string{"/api/v1/servers", "/api/v1/servers/talks", "/api/v1/history", "/api/v1/status"} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		seen[path] = string(b)
	}
	err = filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(d.Name(), ".db") {
			return err
		}
		b, err := os.ReadFile(path)
		seen[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(seen["the server's log"], shannon.Hidden) || !strings.Contains(seen["the history"], shannon.Hidden) {
		t.Error("nothing was hidden: the servers said nothing")
	}
	for what, text := range seen {
		for _, secret := range secrets {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s holds %s: …%s…", what, secret, text[max(0, i-100):min(len(text), i+50)])
			}
		}
	}
}

// TestCredentials are presented as the definition says.
func TestCredentials(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*shannon.Server)
		want   string
	}{
		"the key of the configuration": {func(s *shannon.Server) { s.Config = shannon.Opaque(`{"api_key":"k-1","other":{"api_key":"no"}}`) }, "Bearer k-1"},
		"a reference in it":            {func(s *shannon.Server) { s.Config = shannon.Opaque(`{"api_key":"${env:THE_KEY}"}`) }, "Bearer from-environment"},
		"a header wins": {func(s *shannon.Server) {
			s.Config = shannon.Opaque(`{"api_key":"k-1"}`)
			s.Headers = map[string]shannon.Secret{"authorization": "Basic ${NONE:-eA==}"}
		}, "Basic eA=="},
		"no text is no key": {func(s *shannon.Server) { s.Config = shannon.Opaque(`{"api_key":17}`) }, ""},
		"nothing":           {func(*shannon.Server) {}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			upstream := mcptest.NewServer(t, mcptest.Script{})
			var mu sync.Mutex
			seen := map[string]bool{}
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				seen[r.Header.Get("Authorization")] = true
				mu.Unlock()
				upstream.ServeHTTP(w, r)
			}))
			t.Cleanup(web.Close)
			m := openWith(t, configOf(t.TempDir(), nil), manager.Options{Environ: append(os.Environ(), "THE_KEY=from-environment")})
			s := shannon.NewServer("web")
			s.Transport, s.Endpoint = shannon.TransportHTTP, web.URL
			tt.change(&s)
			add(t, m, s)
			if _, err := m.CallTool(t.Context(), "web", "echo", []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			closeNow(t, m)
			mu.Lock()
			defer mu.Unlock()
			if len(seen) != 1 || !seen[tt.want] {
				t.Errorf("presented %v, want %q", seen, tt.want)
			}
		})
	}
}

// TestVendorsTime makes sure that what a server says in HTTP reaches the policy.
func TestVendorsTime(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]shannon.Code{http.StatusTooManyRequests: shannon.CodeQuota, http.StatusUnauthorized: shannon.CodeNeedsAuth} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(status)
		}))
		m := openWith(t, configOf(t.TempDir(), nil))
		s := shannon.NewServer("web")
		s.Transport, s.Endpoint = shannon.TransportHTTP, web.URL
		if _, err := m.AddServer(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		st, err := m.Connect(t.Context(), "web")
		if shannon.CodeOf(err) != code || st.Problem == nil || st.Problem.Code != code {
			t.Errorf("%v %+v", err, st)
		}
		if code == shannon.CodeQuota && (st.NextRetry == nil || st.NextRetry.Sub(st.Since).Seconds() < 3590) {
			t.Errorf("next retry %v, although the vendor said in an hour", st.NextRetry)
		}
		if code == shannon.CodeNeedsAuth && st.NextRetry != nil {
			t.Errorf("it will be tried again without credentials: %v", st.NextRetry)
		}
		closeNow(t, m)
		web.Close()
	}
}
