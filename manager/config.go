package manager

import (
	"os"
	"path/filepath"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/catalog"
)

// DefaultListen is the address where a daemon listens unless told otherwise.
const DefaultListen = "127.0.0.1:7426"

// Config is everything that can be configured. The zero value of a field means
// its default; [Config.SetDefaults] fills it in. The toml tags are the keys of the
// configuration file, of which SHANNON_* variables and flags are made.
type Config struct {
	// Home holds the database, the socket, the logs. Default ~/.shannon-mcp.
	Home string `toml:"home"`
	// Listen is the TCP address, "off" for the socket alone.
	Listen string `toml:"listen"`
	// ListenChosen tells that a person chose Listen: that it is taken is then an
	// error, not a problem.
	ListenChosen bool     `toml:"-"`
	AllowedHosts []string `toml:"allowed_hosts"`
	NoAuth       bool     `toml:"no_auth"`
	TLSCert      string   `toml:"tls_cert"`
	TLSKey       string   `toml:"tls_key"`
	InsecureHTTP bool     `toml:"insecure_http"`

	Log struct {
		Level  string `toml:"level"`  // debug, info, warn, error
		Format string `toml:"format"` // text, json
	} `toml:"log"`

	// ConnectionTimeout is the timeout of new servers that do not say.
	ConnectionTimeout shannon.Duration `toml:"connection_timeout"`
	// RequestTimeout bounds relayed calls; negative means none.
	RequestTimeout shannon.Duration `toml:"request_timeout"`
	MaxMessageSize Size             `toml:"max_message_size"`
	MaxName        int              `toml:"max_name"`

	Discovery struct {
		Auto     *bool            `toml:"auto"`     // look for servers by itself; nil means yes
		Interval shannon.Duration `toml:"interval"` // how often
	} `toml:"discovery"`
	History struct {
		Retention shannon.Duration `toml:"retention"`
	} `toml:"history"`
	Limits struct {
		Sessions int `toml:"sessions"` // client sessions at a time
	} `toml:"limits"`

	// Demo adds a small server that is part of the binary and never stored.
	Demo bool `toml:"-"`
	// Passive starts nothing by itself: servers are connected when a call needs
	// them. It is what a command does that runs without a daemon.
	Passive bool `toml:"-"`
}

// Size is a number of bytes; configuration may write it as 10485760, "10MiB" or "10MB".
type Size int64

// SetDefaults fills in what is not set.
func (c *Config) SetDefaults() {
	if c.Home == "" {
		c.Home = defaultHome
		if dir, err := os.UserHomeDir(); err == nil {
			c.Home = filepath.Join(dir, c.Home)
		}
	}
	setDefault(&c.Listen, DefaultListen)
	setDefault(&c.Log.Level, "info")
	setDefault(&c.Log.Format, "text")
	setDefault(&c.ConnectionTimeout, shannon.Seconds(30))
	setDefault(&c.RequestTimeout, shannon.Seconds(300))
	setDefault(&c.MaxMessageSize, 10<<20)
	setDefault(&c.MaxName, catalog.DefaultMaxName)
	if c.Discovery.Auto == nil {
		c.Discovery.Auto = new(bool)
		*c.Discovery.Auto = true
	}
	setDefault(&c.Discovery.Interval, shannon.Duration(time.Hour))
	setDefault(&c.History.Retention, shannon.Duration(90*24*time.Hour))
	setDefault(&c.Limits.Sessions, 20_000)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
