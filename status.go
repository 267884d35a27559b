package shannon

import "time"

// State is the state of a server's connection. The values are on disk.
type State string

// The states.
const (
	StateDisconnected State = "disconnected"
	StateConnecting   State = "connecting"
	StateConnected    State = "connected"
	StateReconnecting State = "reconnecting"
	StateError        State = "error"
)

// Era is a generation of the protocol.
type Era string

// The eras.
const (
	EraLegacy Era = "legacy" // handshake and sessions: versions up to 2025-11-25
	EraModern Era = "modern" // stateless: 2026-07-28 and later
)

// Status is what is known of a server's connection now.
type Status struct {
	Server    string    `json:"server"`
	ServerID  string    `json:"server_id"`
	Transport Transport `json:"transport"`
	Enabled   bool      `json:"enabled"`

	State   State     `json:"state"`
	Since   time.Time `json:"since"`
	Problem *Problem  `json:"problem,omitempty"` // nil in plain sailing
	// Healthy means connected, with proof of life within the health check
	// interval plus 5 s.
	Healthy bool `json:"healthy"`

	Era         Era        `json:"era,omitempty"`     // of the main peer
	Eras        []Era      `json:"eras,omitempty"`    // all that the server speaks
	Version     string     `json:"version,omitempty"` // negotiated protocol version
	ServerInfo  string     `json:"server_info,omitempty"`
	PID         int        `json:"pid,omitempty"`
	Command     string     `json:"command,omitempty"` // what the command resolved to
	HandshakeMS int64      `json:"handshake_ms,omitempty"`
	Tools       int        `json:"tools"`
	ConnectedAt *time.Time `json:"connected_at,omitempty"`
	LastPing    *time.Time `json:"last_ping,omitempty"` // last answered health check
	LastSeen    *time.Time `json:"last_seen,omitempty"` // last proof of life of any kind

	ErrorCount        int        `json:"error_count"` // failed health checks in a row
	LastError         string     `json:"last_error,omitempty"`
	ReconnectAttempts int        `json:"reconnect_attempts"`
	NextRetry         *time.Time `json:"next_retry,omitempty"`
}

// Transition is one row of the ledger: how a connection came into a state and,
// once it left that state, when.
type Transition struct {
	ID          int64  `json:"id"`
	ServerID    string `json:"server_id"`
	Server      string `json:"server,omitempty"` // its name at that time
	State       State  `json:"state"`
	Cause       string `json:"cause,omitempty"` // start, connect, disconnect, restart, exit, health, retry, changed, removed, stop
	Problem     Code   `json:"problem,omitempty"`
	Error       string `json:"error,omitempty"`
	Attempt     int    `json:"attempt,omitempty"`
	Era         Era    `json:"era,omitempty"`
	Version     string `json:"version,omitempty"`
	PID         int    `json:"pid,omitempty"`
	Command     string `json:"command,omitempty"`
	HandshakeMS int64  `json:"handshake_ms,omitempty"`
	ExitCode    *int   `json:"exit_code,omitempty"`
	Signal      string `json:"signal,omitempty"`
	Stderr      string `json:"stderr,omitempty"` // the last lines

	ConnectedAt    *time.Time `json:"connected_at,omitempty"` // when the state began
	DisconnectedAt *time.Time `json:"disconnected_at,omitempty"`
	Duration       *float64   `json:"duration_seconds,omitempty"`
	NextRetry      *time.Time `json:"next_retry,omitempty"`
}

// HistoryFilter chooses rows of the ledger, newest first; a zero field does not
// restrict. Limit 0 means 100.
type HistoryFilter struct {
	Server string // a name, present or past, or an id
	State  State
	Since  time.Time
	Limit  int
}

// Phase is where the manager is in its own life.
type Phase string

// The phases.
const (
	PhaseInitializing Phase = "initializing"
	PhaseReady        Phase = "ready"
	PhaseRunning      Phase = "running"
	PhaseStopping     Phase = "stopping"
	PhaseStopped      Phase = "stopped"
	PhaseError        Phase = "error"
)

// Summary is the manager's own state.
type Summary struct {
	Phase     Phase     `json:"phase"`
	Version   string    `json:"version"`
	PID       int       `json:"pid"`
	Home      string    `json:"home"`
	Address   string    `json:"address,omitempty"` // TCP, empty when socket only
	Socket    string    `json:"socket,omitempty"`
	StartedAt time.Time `json:"started_at"`
	Problems  []Problem `json:"problems,omitempty"`

	// The counters of the Python manager.
	TotalServers       int `json:"total_servers"`
	ConnectedServers   int `json:"connected_servers"`
	ErrorConnections   int `json:"error_connections"`
	DiscoveryCacheSize int `json:"discovery_cache_size"`
	ActiveHealthChecks int `json:"active_health_checks"`
}
