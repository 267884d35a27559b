package shannon

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Transport says how a server is reached.
type Transport string

// The transports of the stored format; the values are on disk and on the wire.
const (
	TransportStdio     Transport = "stdio"     // a child process
	TransportSSE       Transport = "sse"       // HTTP+SSE, protocol version 2024-11-05
	TransportHTTP      Transport = "http"      // Streamable HTTP
	TransportWebSocket Transport = "websocket" // WebSocket
)

// Transports lists every transport that a server may name.
var Transports = []Transport{TransportStdio, TransportHTTP, TransportSSE, TransportWebSocket}

// Isolation says who may share a peer.
type Isolation string

// The kinds of isolation.
const (
	IsolationAuto    Isolation = "auto"
	IsolationShared  Isolation = "shared"
	IsolationSession Isolation = "session"
)

// StartMode says when a server is taken up.
type StartMode string

// The start modes.
const (
	StartEager StartMode = "eager" // with the daemon
	StartLazy  StartMode = "lazy"  // with the first call
)

// Server is the definition of an MCP server: what the user asked for.
type Server struct {
	ID          string    `json:"id"`   // opaque, never reused; history refers to it
	Name        string    `json:"name"` // the handle: unique, see [ValidName]
	Title       string    `json:"title,omitempty"`
	Description string    `json:"description,omitempty"`
	Transport   Transport `json:"transport"`

	Command string            `json:"command,omitempty"` // stdio: the executable
	Args    []string          `json:"args,omitempty"`
	Cwd     string            `json:"cwd,omitempty"`
	Env     map[string]Secret `json:"env,omitempty"`

	Endpoint string            `json:"endpoint,omitempty"` // sse, http, websocket: the URL
	Headers  map[string]Secret `json:"headers,omitempty"`

	// Prefix of the public names of this server's tools; nil means its name,
	// empty means none.
	Prefix    *string   `json:"prefix,omitempty"`
	Isolation Isolation `json:"isolation"`
	Start     StartMode `json:"start"`
	Enabled   bool      `json:"enabled"`

	// Timeout bounds the handshake, lists and Request.
	Timeout Duration `json:"timeout"`
	// RequestTimeout bounds a relayed call and is restarted by its progress;
	// nil means the manager's, zero means none.
	RequestTimeout      *Duration `json:"request_timeout,omitempty"`
	RetryCount          int       `json:"retry_count"` // failed health checks before a reconnect
	RetryDelay          Duration  `json:"retry_delay"`
	HealthCheckInterval Duration  `json:"health_check_interval"`

	// Config is free JSON that came with the definition. Its api_key becomes
	// the header "Authorization: Bearer …" where the server has a URL.
	Config Opaque `json:"config,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// NewServer returns an enabled server with the defaults of the stored format.
func NewServer(name string) Server {
	return Server{
		Name: name, Isolation: IsolationAuto, Start: StartEager, Enabled: true,
		Timeout: Seconds(30), RetryCount: 3, RetryDelay: Seconds(1), HealthCheckInterval: Seconds(60),
	}
}

// nameForm is the form of a name; a name holds no "__" besides, because the
// first "__" of a public tool name ends the server's part.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

// ValidName tells whether name may be the handle of a server.
func ValidName(name string) bool {
	return nameForm.MatchString(name) && !strings.Contains(name, "__")
}

// Validate reports the first thing that is wrong with s as an [*Error] of code
// [CodeInvalidServer], nil when nothing is.
func (s *Server) Validate() error {
	for _, check := range []func() error{s.validName, s.validReach, s.validWords, s.validTimes, s.validValues} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func invalidServer(hint, format string, args ...any) error {
	return Errorf(CodeInvalidServer, hint, format, args...)
}

func (s *Server) validName() error {
	if !ValidName(s.Name) {
		return invalidServer("Use letters, digits, - and _ (not twice in a row), at most 32 characters, starting with a letter or digit: my-server",
			"%q cannot be the name of a server", s.Name)
	}
	return nil
}

// validReach checks what the transport needs.
func (s *Server) validReach() error {
	switch s.Transport {
	case TransportStdio:
		if s.Command == "" {
			return invalidServer("Give the command after --: shannon add "+s.Name+" -- npx -y @modelcontextprotocol/server-everything; or change it: shannon set "+s.Name+" command=npx",
				"server %q has no command to start", s.Name)
		}
	case TransportHTTP, TransportSSE, TransportWebSocket:
		if err := validEndpoint(s.Endpoint, s.Transport); err != nil {
			return invalidServer("Give an address such as "+exampleURL(s.Transport), "server %q: %s", s.Name, err)
		}
	default:
		return invalidServer("Use one of "+joinWords(Transports), "unknown transport %q", s.Transport)
	}
	return nil
}

func (s *Server) validWords() error {
	if !slices.Contains([]Isolation{IsolationAuto, IsolationShared, IsolationSession}, s.Isolation) {
		return invalidServer("Use auto, shared or session", "unknown isolation %q", s.Isolation)
	}
	if s.Start != StartEager && s.Start != StartLazy {
		return invalidServer("Use eager or lazy", "unknown start mode %q", s.Start)
	}
	if s.Prefix != nil && !prefixForm.MatchString(*s.Prefix) {
		return invalidServer("Use letters, digits, - and _, or nothing at all", "%q cannot be a prefix", *s.Prefix)
	}
	return nil
}

func (s *Server) validTimes() error {
	if s.Timeout <= 0 || min(s.RetryDelay, s.HealthCheckInterval) < 0 || s.RetryCount < 0 ||
		(s.RequestTimeout != nil && *s.RequestTimeout < 0) {
		return invalidServer("Give seconds, such as timeout=30", "server %q has a negative or zero time", s.Name)
	}
	return nil
}

func (s *Server) validValues() error {
	for k := range s.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") {
			return invalidServer("Give variables as KEY=VALUE", "%q cannot be the name of an environment variable", k)
		}
	}
	for k, v := range s.Headers {
		if !headerForm.MatchString(k) || strings.ContainsAny(string(v), "\r\n\x00") {
			return invalidServer("Give headers as 'Name: value'", "header %q is not a valid HTTP header", k)
		}
	}
	if len(s.Config) > 0 && !isObject(s.Config) {
		return invalidServer(`Give config as a JSON object: {"api_key": "…"}`, "config of server %q is not a JSON object", s.Name)
	}
	return nil
}

var (
	prefixForm = regexp.MustCompile(`^[A-Za-z0-9_-]{0,32}$`)
	headerForm = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

func validEndpoint(endpoint string, t Transport) error {
	if endpoint == "" {
		return fmt.Errorf("transport %s needs an address", t)
	}
	// The address may hold ${VAR} references, which are expanded when used.
	u, err := url.Parse(reference.ReplaceAllString(endpoint, "x"))
	if err != nil {
		return fmt.Errorf("the address is not a URL")
	}
	schemes := []string{"http", "https"}
	if t == TransportWebSocket {
		schemes = []string{"ws", "wss"}
	}
	if !slices.Contains(schemes, strings.ToLower(u.Scheme)) && !reference.MatchString(endpoint) {
		return fmt.Errorf("the address must begin with %s://", strings.Join(schemes, ":// or "))
	}
	if u.Host == "" && !strings.HasPrefix(endpoint, "${") {
		return fmt.Errorf("the address has no host")
	}
	return nil
}

func exampleURL(t Transport) string {
	switch t {
	case TransportWebSocket:
		return "wss://example.com/mcp"
	case TransportSSE:
		return "https://example.com/sse"
	default:
		return "https://example.com/mcp"
	}
}

func isObject(raw []byte) bool {
	b := bytes.TrimSpace(raw)
	return json.Valid(b) && len(b) > 0 && b[0] == '{'
}

// Reveal returns the JSON form of s with its secrets in plain text, for the few
// places that must carry them: the store and the request that adds a server.
// Everything else marshals s itself, which hides them.
func (s *Server) Reveal() ([]byte, error) {
	type plain Server
	b, err := json.Marshal(struct {
		*plain
		Env     map[string]string `json:"env,omitempty"`
		Headers map[string]string `json:"headers,omitempty"`
		Config  json.RawMessage   `json:"config,omitempty"`
	}{(*plain)(s), revealed(s.Env), revealed(s.Headers), json.RawMessage(s.Config)})
	if err != nil {
		return nil, fmt.Errorf("encode server %q: %w", s.Name, err)
	}
	return b, nil
}

func revealed(m map[string]Secret) map[string]string {
	if m == nil {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v.Reveal()
	}
	return out
}

// DefinitionHash identifies what the server is, apart from how it is called and
// supervised: two servers with the same hash start the same program or reach
// the same address with the same credentials.
func (s *Server) DefinitionHash() string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	// Encoding these to a hash cannot fail: they are strings, and Config is kept valid.
	_ = enc.Encode([]any{s.Transport, s.Command, s.Args, s.Cwd, revealed(s.Env), s.Endpoint, revealed(s.Headers), string(s.Config)})
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// PublicPrefix is what stands before the names of this server's tools where
// several servers are offered together: "name__", or nothing.
func (s *Server) PublicPrefix() string {
	p := s.Name
	if s.Prefix != nil {
		p = *s.Prefix
	}
	if p == "" {
		return ""
	}
	return p + "__"
}

// ServerFilter chooses servers; a zero field does not restrict.
type ServerFilter struct {
	Transport Transport
	Enabled   *bool
}

// Match tells whether s passes the filter.
func (f ServerFilter) Match(s *Server) bool {
	return (f.Transport == "" || f.Transport == s.Transport) && (f.Enabled == nil || *f.Enabled == s.Enabled)
}

func joinWords[T ~string](words []T) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}
