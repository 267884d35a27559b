package manager

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
)

func writeConfig(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadConfigOrder(t *testing.T) {
	home := t.TempDir()
	environ := []string{"SHANNON_HOME=" + home, "SHANNON_MARK=x", "OTHER=1", "SHANNON_LISTEN="}
	origins := func(flags map[string]string, environ []string) (Config, map[string]string) {
		t.Helper()
		cfg, settings, err := LoadConfig(flags, environ, "")
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for _, s := range settings {
			m[s.Key] = s.Value + " " + s.Origin
		}
		return cfg, m
	}
	cfg, m := origins(nil, environ)
	if cfg.Home != home || cfg.Listen != DefaultListen || cfg.ListenChosen || m["listen"] != "127.0.0.1:7426 default" {
		t.Errorf("defaults: %+v %v", cfg, m)
	}
	file := filepath.Join(home, ConfigFile)
	if err := os.WriteFile(file, []byte("listen = '127.0.0.1:1'\nmax_name = 40\n[log]\nlevel = 'warn'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, m = origins(nil, environ)
	if cfg.Listen != "127.0.0.1:1" || !cfg.ListenChosen || m["listen"] != "127.0.0.1:1 "+file+":1" || m["log.level"] != "warn "+file+":4" {
		t.Errorf("file: %+v %v", cfg, m)
	}
	environ = append(environ, "SHANNON_LISTEN=127.0.0.1:2", "SHANNON_LOG_LEVEL=error")
	cfg, m = origins(map[string]string{"listen": "127.0.0.1:3"}, environ)
	if cfg.Listen != "127.0.0.1:3" || m["listen"] != "127.0.0.1:3 --listen" || m["log.level"] != "error SHANNON_LOG_LEVEL" || cfg.MaxName != 40 {
		t.Errorf("flag: %+v %v", cfg, m)
	}
}

func TestLoadConfigFormats(t *testing.T) {
	want := Config{
		AllowedHosts: []string{"a.example", "b.example:8443"}, Listen: "off", ListenChosen: true, NoAuth: true,
		RequestTimeout: -1, ConnectionTimeout: shannon.Duration(90 * time.Second), MaxMessageSize: 20 << 20, MaxName: 64,
	}
	want.Log.Level, want.Log.Format = "debug", "json"
	want.History.Retention = shannon.Duration(7 * 24 * time.Hour)
	want.Limits.Sessions = 5
	want.Discovery.Auto, want.Discovery.Interval = new(bool), shannon.Duration(30*time.Minute)
	want.Home = t.TempDir()
	for name, text := range map[string]string{
		"c.toml": `# everything
allowed_hosts = [
  "a.example", # one
  "b.example:8443",
]
listen = "off"
no_auth = true
request_timeout = 0
connection_timeout = "1m30s"
max_message_size = 20_971_520
max_name = 0x40
log = { level = "debug", format = "json" }
history.retention = "7d"
discovery = { auto = false, interval = "30m" }
[limits]
sessions = 5
`,
		"c.yaml": `# everything
allowed_hosts: [a.example, "b.example:8443"]
listen: "off"
no_auth: true
request_timeout: 0
connection_timeout: 90
max_message_size: 20MiB
max_name: 64
log: {level: debug, format: json}
history:
  retention: 7d
discovery:
  auto: false
  interval: 30m
limits:
  sessions: 5
`,
		"c.json": `{"allowed_hosts": ["a.example", "b.example:8443"], "listen": "off", "no_auth": true,
"request_timeout": "0", "connection_timeout": 90.0, "max_message_size": "20MiB", "max_name": 64,
"log": {"level": "debug", "format": "json"}, "history": {"retention": 604800}, "discovery": {"auto": false, "interval": 1800}, "limits": {"sessions": 5}}`,
		"d.yml": "---\nallowed_hosts:\n  - a.example\n  - b.example:8443\nlisten: 'off'\nno_auth: true\nrequest_timeout: 0s\n" +
			"connection_timeout: 1m30s\nmax_message_size: 20480KiB\nmax_name: 64\nlog:\n  level: debug\n  format: json\n" +
			"history: {retention: 168h}\ndiscovery: {auto: false, interval: 1800s}\nlimits: {sessions: 5}\n",
	} {
		got, _, err := LoadConfig(nil, []string{"SHANNON_HOME=" + want.Home}, writeConfig(t, name, text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s:\n%s", name, d)
		}
	}
	for name, text := range map[string]string{"empty.toml": "", "empty.yaml": "", "comment.yaml": "# nothing\n", "group.yaml": "log:\n", "empty.json": "{}", "group.toml": "[log]\n"} {
		if _, _, err := LoadConfig(nil, []string{"SHANNON_HOME=" + want.Home}, writeConfig(t, name, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	for _, tc := range []struct{ name, text, want, hint string }{
		{"c.toml", "\nlisten = 'off'\nlog.levels = 'debug'", `c.toml:3: unknown key "log.levels"`, "Did you mean log.level?"},
		{"c.toml", "[log]\ndepth = 'debug'", `c.toml:2: unknown key "log.depth"`, "log.level"},
		{"c.toml", "[logs]\n", `c.toml:1: unknown key "logs"`, "Known keys are listen"},
		{"c.toml", "[[log]]\nlevel = 'debug'", `unknown key "log"`, ""},
		{"c.toml", "max_name = 'many'", `c.toml:1: max_name cannot be "many"`, "a number from"},
		{"c.toml", "max_name = 3", "max_name cannot be 3", "a number from"},
		{"c.toml", "no_auth = 'perhaps'", "no_auth cannot be", "true or false"},
		{"c.toml", "request_timeout = true", "request_timeout cannot be true", "0 for none"},
		{"c.toml", "request_timeout = -1", "request_timeout cannot be -1", ""},
		{"c.toml", "connection_timeout = 0", "connection_timeout cannot be 0", ""},
		{"c.toml", "max_message_size = '10 apples'", "max_message_size cannot be", "10MiB"},
		{"c.toml", "max_message_size = 1", "max_message_size cannot be 1", "64KiB"},
		{"c.toml", "listen = 7426", "listen cannot be 7426", "host:port"},
		{"c.toml", "listen = 'localhost'", "listen cannot be", "127.0.0.1:7426"},
		{"c.toml", "listen = 2026-01-01", "listen cannot be that", ""},
		{"c.toml", "allowed_hosts = 'a b'", "allowed_hosts cannot be", "a list"},
		{"c.toml", "allowed_hosts = [1]", "allowed_hosts cannot be", "a list"},
		{"c.toml", "tls_cert = '/nowhere.pem'", "tls_cert cannot be", "PEM"},
		{"c.toml", "home = '/tmp'", "the home folder cannot be set in a file", "SHANNON_HOME"},
		{"c.toml", "listen = 'off'\nlisten = 'off'", "c.toml:2", ""},
		{"c.toml", "a = 1\nb = [", "c.toml:2", "listen = "},
		{"c.yaml", "log:\n  depth: debug\n", `c.yaml:2: unknown key "log.depth"`, ""},
		{"c.yaml", "listen: [off]\n", "c.yaml:1: listen cannot be", ""},
		{"c.yaml", "listen: off\nlisten: off\n", "c.yaml:2", ""},
		{"c.yaml", "- listen\n", "c.yaml:1: there must be keys", ""},
		{"c.yaml", "listen: \"off\n", "c.yaml:1", `: listen: "127.`},
		{"c.yaml", "listen: &a off\nmax_name: *a\n", "c.yaml:", ""},
		{"c.yaml", "max_name: 40\n---\nmax_name: 41\n", "c.yaml:3: only one document", ""},
		{"c.json", "{\"log\": {\n\"depth\": 1}}", `c.json:2: unknown key "log.depth"`, ""},
		{"c.json", "{\"max_name\": 40,\n}", "c.json:2", `{"listen":`},
		{"c.json", "[]", "c.json:1: there must be a JSON object", ""},
		{"c.json", `{"max_name": 40, "max_name": 41}`, "max_name is there twice", ""},
		{"c.json", `{"max_name": null}`, "max_name cannot be that", ""},
		{"c.json", `{"allowed_hosts": [{}]}`, "a list of objects", ""},
		{"c.ini", "a=1", "format", "config.toml"},
	} {
		_, _, err := LoadConfig(nil, []string{"SHANNON_HOME=" + t.TempDir()}, writeConfig(t, tc.name, tc.text))
		p := shannon.ProblemOf(err)
		if p == nil || p.Code != shannon.CodeInvalidConfig || !strings.Contains(p.Message, tc.want) || !strings.Contains(p.Hint, tc.hint) {
			t.Errorf("%s %q: %+v, want %q and hint %q", tc.name, tc.text, p, tc.want, tc.hint)
		}
	}
	for _, tc := range []struct{ variable, want string }{
		{"SHANNON_LISTN=x", "Did you mean SHANNON_LISTEN?"},
		{"SHANNON_LOG_LEVEL=loud", "debug, info"},
	} {
		_, _, err := LoadConfig(nil, []string{tc.variable, "SHANNON_HOME=" + t.TempDir()}, "")
		if p := shannon.ProblemOf(err); p == nil || !strings.Contains(p.Hint, tc.want) {
			t.Errorf("%s: %+v", tc.variable, p)
		}
	}
	if _, _, err := LoadConfig(nil, nil, filepath.Join(t.TempDir(), "none.toml")); shannon.CodeOf(err) != shannon.CodeInvalidConfig {
		t.Errorf("missing file: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "10MiB": 10 << 20, "10 MiB": 10 << 20, "2MB": 2e6, "3kB": 3000, "4KiB": 4096, "1GiB": 1 << 30, "5B": 5} {
		if n, ok := parseSize(text); !ok || n != want {
			t.Errorf("%s: %d %v", text, n, ok)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "10 apples", "99999999999999999999"} {
		if n, ok := parseSize(text); ok {
			t.Errorf("%q: %d", text, n)
		}
	}
	for n, want := range map[Size]string{10 << 20: "10MiB", 1_000_000: "1MB", 1000: "1kB", 7: "7B"} {
		if n.String() != want {
			t.Errorf("%d: %s", int64(n), n)
		}
	}
}
