package manager

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
)

// Setting is one value of the configuration and where it comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"` // default, a file with its line, a variable, or a flag
}

// environPrefix is what our variables begin with: log.level is SHANNON_LOG_LEVEL.
const environPrefix = "SHANNON_"

// ConfigFile is the name of the configuration file in a home folder.
const ConfigFile = "config.toml"

// LoadConfig reads the configuration: flags, by key, over SHANNON_* variables over
// the file over the defaults. Without a file's name it is [ConfigFile] in the home
// folder, if there is one. The first thing that is wrong is an error of code
// [shannon.CodeInvalidConfig] that says where it is and what would be right.
//
// A variable that begins with SHANNON_ and is none of ours is refused when it is
// nearly one of ours, and else it is somebody else's. Home is no key of the file:
// the file is found by it, and so is the daemon.
func LoadConfig(flags map[string]string, environ []string, file string) (Config, []Setting, error) {
	l := loader{settings: make([]Setting, len(options))}
	vars, err := ownVariables(environ)
	if err != nil {
		return l.cfg, nil, err
	}
	if home, ok := vars["home"]; ok {
		l.cfg.Home = home
	}
	if home, ok := flags["home"]; ok {
		l.cfg.Home = home
	}
	l.cfg.SetDefaults()
	if l.cfg.Home, err = filepath.Abs(l.cfg.Home); err != nil {
		return l.cfg, nil, badConfig("Set SHANNON_HOME to a folder", "find home folder: %w", err)
	}
	if err := l.file(file); err != nil {
		return l.cfg, nil, err
	}
	for _, o := range options {
		if text, ok := vars[o.key]; ok {
			if err := l.set(o, text, variable(o.key)); err != nil {
				return l.cfg, nil, err
			}
		}
	}
	for _, o := range options {
		if text, ok := flags[o.key]; ok {
			if err := l.set(o, text, "--"+strings.NewReplacer(".", "-", "_", "-").Replace(o.key)); err != nil {
				return l.cfg, nil, err
			}
		}
	}
	return l.cfg, l.result(), nil
}

func variable(key string) string {
	return environPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// ownVariables returns the values of our variables by key. An empty one counts as
// not set.
func ownVariables(environ []string) (map[string]string, error) {
	vars, names, keys := map[string]string{}, []string{}, map[string]string{}
	for _, o := range options {
		name := strings.TrimPrefix(variable(o.key), environPrefix)
		names, keys[name] = append(names, name), o.key
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		name, ours := strings.CutPrefix(name, environPrefix)
		if !ours || value == "" {
			continue
		}
		if key, ok := keys[name]; ok {
			vars[key] = value
			continue
		}
		if near, ok := shannon.Nearest(name, names); ok {
			return nil, badConfig("Did you mean "+environPrefix+near+"?", "the variable %s%s sets nothing", environPrefix, name)
		}
	}
	return vars, nil
}

// loader puts a configuration together.
type loader struct {
	cfg      Config
	settings []Setting // by the index of the option; no key where it is the default
}

func (l *loader) file(name string) error {
	chosen := name != ""
	if !chosen {
		name = filepath.Join(l.cfg.Home, ConfigFile)
	}
	text, err := os.ReadFile(name)
	if !chosen && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil && !chosen {
		return badConfig("Set SHANNON_HOME to a folder that you may read", "read home folder: %w", err)
	}
	if err != nil {
		return badConfig("Give the path of a .toml, .yaml or .json file", "read configuration file: %w", err)
	}
	entries, err := parseFile(name, text)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := l.entry(name, e); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) entry(name string, e entry) error {
	origin := fmt.Sprintf("%s:%d", name, e.line)
	keys := []string{}
	for _, o := range options {
		if o.key == "home" {
			continue
		}
		if o.key == e.key {
			return l.set(o, e.value, origin)
		}
		keys = append(keys, o.key)
		group, _, grouped := strings.Cut(o.key, ".")
		if s, ok := e.value.(section); ok && grouped && group == e.key && !s.repeated {
			return nil
		}
	}
	if e.key == "home" {
		return badConfig("Set the variable SHANNON_HOME", "%s: the home folder cannot be set in a file", origin)
	}
	hint := "Known keys are " + strings.Join(keys, ", ")
	if near, ok := shannon.Nearest(e.key, keys); ok {
		hint = "Did you mean " + near + "?"
	}
	return badConfig(hint, "%s: unknown key %q", origin, e.key)
}

func (l *loader) set(o option, value any, origin string) error {
	if !o.set(&l.cfg, value) {
		return badConfig("Give "+o.want, "%s: %s cannot be %s", origin, o.key, describe(value))
	}
	if o.key == "listen" {
		l.cfg.ListenChosen = true
	}
	i := slices.IndexFunc(options, func(x option) bool { return x.key == o.key })
	l.settings[i] = Setting{Key: o.key, Origin: origin}
	return nil
}

func describe(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case nil:
		return "that"
	case section:
		return "empty or a table"
	default:
		return fmt.Sprint(v)
	}
}

func (l *loader) result() []Setting {
	for i, o := range options {
		s := &l.settings[i]
		if s.Key == "" {
			s.Key, s.Origin = o.key, "default"
		}
		s.Value = o.show(&l.cfg)
	}
	return l.settings
}

// option is something that can be configured.
type option struct {
	key  string
	want string // what its values are, for people
	// set takes a value of a file, or the text of a variable or flag; false when
	// it makes no sense.
	set  func(c *Config, value any) bool
	show func(c *Config) string
}

// options are all of them, in the order in which they are shown.
var options = []option{
	textOption("home", "a folder", func(c *Config) *string { return &c.Home }, func(string) bool { return true }),
	textOption("listen", `host:port, such as 127.0.0.1:7426, or "off" for the socket alone`, func(c *Config) *string { return &c.Listen }, validListen),
	hostsOption,
	boolOption("no_auth", func(c *Config) *bool { return &c.NoAuth }),
	textOption("tls_cert", "the path of a PEM file", func(c *Config) *string { return &c.TLSCert }, isFile),
	textOption("tls_key", "the path of a PEM file", func(c *Config) *string { return &c.TLSKey }, isFile),
	boolOption("insecure_http", func(c *Config) *bool { return &c.InsecureHTTP }),
	wordOption("log.level", []string{"debug", "info", "warn", "error"}, func(c *Config) *string { return &c.Log.Level }),
	wordOption("log.format", []string{"text", "json"}, func(c *Config) *string { return &c.Log.Format }),
	timeOption("connection_timeout", false, func(c *Config) *shannon.Duration { return &c.ConnectionTimeout }),
	timeOption("request_timeout", true, func(c *Config) *shannon.Duration { return &c.RequestTimeout }),
	sizeOption("max_message_size", func(c *Config) *Size { return &c.MaxMessageSize }),
	countOption("max_name", 32, 128, func(c *Config) *int { return &c.MaxName }),
	boolOption("discovery.auto", func(c *Config) *bool { return c.Discovery.Auto }),
	timeOption("discovery.interval", false, func(c *Config) *shannon.Duration { return &c.Discovery.Interval }),
	timeOption("history.retention", false, func(c *Config) *shannon.Duration { return &c.History.Retention }),
	countOption("limits.sessions", 1, 1_000_000, func(c *Config) *int { return &c.Limits.Sessions }),
}

func textOption(key, want string, at func(*Config) *string, valid func(string) bool) option {
	return option{
		key, want,
		func(c *Config, value any) bool {
			text, ok := value.(string)
			if !ok || !valid(text) {
				return false
			}
			*at(c) = text
			return true
		},
		func(c *Config) string { return *at(c) },
	}
}

func wordOption(key string, words []string, at func(*Config) *string) option {
	return textOption(key, "one of "+strings.Join(words, ", "), at, func(s string) bool { return slices.Contains(words, s) })
}

func validListen(s string) bool {
	if s == "off" {
		return true
	}
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

var hostsOption = option{
	"allowed_hosts", `a list of host names, such as ["shannon.example.com"], separated by commas outside of a file`,
	func(c *Config, value any) bool {
		var list []any
		switch v := value.(type) {
		case []any:
			list = v
		case string:
			for host := range strings.SplitSeq(v, ",") {
				list = append(list, strings.TrimSpace(host))
			}
		}
		hosts := make([]string, 0, len(list))
		for _, item := range list {
			host, ok := item.(string)
			if !ok || host == "" || strings.ContainsAny(host, "/ @*") {
				return false
			}
			hosts = append(hosts, host)
		}
		c.AllowedHosts = hosts
		return list != nil
	},
	func(c *Config) string { return strings.Join(c.AllowedHosts, ",") },
}

func boolOption(key string, at func(*Config) *bool) option {
	return option{
		key, "true or false",
		func(c *Config, value any) bool {
			switch value {
			case true, "true", "1":
				*at(c) = true
			case false, "false", "0":
				*at(c) = false
			default:
				return false
			}
			return true
		},
		func(c *Config) string { return strconv.FormatBool(*at(c)) },
	}
}

// timeOption is a time span of which zero may mean none, which a Config has as a
// negative one.
func timeOption(key string, none bool, at func(*Config) *shannon.Duration) option {
	want := "seconds or a time such as 1m30s, 12h, 90d"
	if none {
		want += ", or 0 for none"
	}
	return option{
		key, want,
		func(c *Config, value any) bool {
			d, ok := timeSpan(value)
			if !ok || d < 0 || d == 0 && !none {
				return false
			}
			if d == 0 {
				d = -1
			}
			*at(c) = d
			return true
		},
		func(c *Config) string {
			switch d := *at(c); {
			case d < 0:
				return "none"
			case d.Std()%(24*time.Hour) == 0:
				return strconv.Itoa(int(d.Std().Hours()/24)) + "d"
			default:
				return d.String()
			}
		},
	}
}

func timeSpan(value any) (shannon.Duration, bool) {
	const day = 24 * 3600
	switch v := value.(type) {
	case int64:
		return shannon.Seconds(float64(v)), v < 1e9
	case float64:
		return shannon.Seconds(v), v < 1e9
	case string:
		if days, ok := strings.CutSuffix(v, "d"); ok {
			n, err := strconv.ParseUint(days, 10, 14)
			return shannon.Seconds(float64(n) * day), err == nil
		}
		d, err := shannon.ParseDuration(v)
		return d, err == nil
	}
	return 0, false
}

func sizeOption(key string, at func(*Config) *Size) option {
	return option{
		key, "bytes, or a size such as 10MiB, of at least 64KiB and at most 1GiB",
		func(c *Config, value any) bool {
			n, ok := value.(int64)
			if text, isText := value.(string); isText {
				n, ok = parseSize(text)
			}
			if !ok || n < 64<<10 || n > 1<<30 {
				return false
			}
			*at(c) = Size(n)
			return true
		},
		func(c *Config) string { return at(c).String() },
	}
}

// units of sizes; the longer endings come first.
var units = []struct {
	name string
	n    int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1}, {"", 1}}

func parseSize(text string) (int64, bool) {
	for _, u := range units {
		if number, ok := strings.CutSuffix(text, u.name); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 31)
			return int64(n) * u.n, err == nil
		}
	}
	return 0, false
}

// String gives the largest unit that leaves a whole number.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && int64(s)%u.n == 0 {
			return strconv.FormatInt(int64(s)/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

func countOption(key string, low, high int64, at func(*Config) *int) option {
	return option{
		key, fmt.Sprintf("a number from %d to %d", low, high),
		func(c *Config, value any) bool {
			n, ok := value.(int64)
			if text, isText := value.(string); isText {
				v, err := strconv.ParseInt(text, 10, 64)
				n, ok = v, err == nil
			}
			if !ok || n < low || n > high {
				return false
			}
			*at(c) = int(n)
			return true
		},
		func(c *Config) string { return strconv.Itoa(*at(c)) },
	}
}
