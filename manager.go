package shannon

import (
	"context"
	"encoding/json"
	"iter"
)

// Manager is everything that a manager of servers does for its callers. All
// methods of all roles may be called concurrently. Errors are [*Error] wherever
// a caller may want to tell them apart.
type Manager interface {
	Servers
	Links
	Calls
	Records
}

// Servers is the registry: what the user asked for.
type Servers interface {
	// AddServer validates and stores s. ID may be empty; a taken ID or name is
	// [CodeNameTaken]. It returns s as stored.
	AddServer(ctx context.Context, s Server) (Server, error)
	// Server returns the server of that name, or [CodeUnknownServer] with the
	// nearest name as its hint.
	Server(ctx context.Context, name string) (Server, error)
	// ListServers returns the servers that pass the filter, by name.
	ListServers(ctx context.Context, f ServerFilter) ([]Server, error)
	// UpdateServer applies a JSON merge patch (RFC 7396) to the JSON form of a
	// server. Unknown keys and the keys id, created_at and updated_at are
	// refused; nothing is stored unless the result is valid. A connection whose
	// definition changed is made anew.
	UpdateServer(ctx context.Context, name string, patch json.RawMessage) (Server, error)
	// RemoveServer disconnects and deletes the server. Its history stays.
	RemoveServer(ctx context.Context, name string) error
}

// Links are the live connections.
type Links interface {
	// Connect connects now, whatever the backoff says, and returns when the
	// server answers or the attempt has failed. It returns at once for a server
	// that is connected and refuses a disabled one with [CodeDisabled].
	Connect(ctx context.Context, name string) (Status, error)
	// Disconnect ends the connection and keeps it ended until Connect, Restart,
	// or the daemon's next start. The bool is false when nothing was connected.
	Disconnect(ctx context.Context, name string) (bool, error)
	// Restart is Disconnect and Connect.
	Restart(ctx context.Context, name string) (Status, error)
	// Status returns the state of one connection.
	Status(ctx context.Context, name string) (Status, error)
	// Statuses returns the state of every connection, by name.
	Statuses(ctx context.Context) ([]Status, error)
	// Summary returns the manager's own state.
	Summary(ctx context.Context) (Summary, error)
}

// Tool is a tool that a server offers.
type Tool struct {
	Server     string          `json:"server"`
	Name       string          `json:"name"`        // the server's own name for it
	PublicName string          `json:"public_name"` // its name at /mcp
	Definition json.RawMessage `json:"definition"`  // as the server gave it
}

// Calls reaches the servers' offers. Results are the bytes that the server sent.
type Calls interface {
	// Tools returns the tools of a server, or of all servers when it is "". A
	// single server is connected when it has to be; for all of them the known
	// ones are returned.
	Tools(ctx context.Context, server string) ([]Tool, error)
	// CallTool calls a tool by the server's own name for it and returns the
	// result object, whose isError the caller must look at. A JSON-RPC error is
	// [CodeCallFailed] with the error object in [Error.RPC].
	CallTool(ctx context.Context, server, tool string, args json.RawMessage) (json.RawMessage, error)
	// Request sends any request to a server, within the server's Timeout unless
	// ctx ends sooner, and returns the result.
	Request(ctx context.Context, server, method string, params json.RawMessage) (json.RawMessage, error)
	// Notify sends a notification to a connected server.
	Notify(ctx context.Context, server, method string, params json.RawMessage) error
}

// Records is what happened.
type Records interface {
	// History returns rows of the ledger, newest first.
	History(ctx context.Context, f HistoryFilter) ([]Transition, error)
	// Events yields events in order: those kept that pass the filter, then, if
	// asked to follow, new ones until ctx ends. A subscriber that is too slow
	// gets one [EventLagged] in the place of what it missed and delays nobody. An
	// error is the last thing yielded.
	Events(ctx context.Context, f EventFilter) iter.Seq2[Event, error]
	// Logs yields the last lines of a server's log and, if asked to follow, new
	// ones until ctx ends.
	Logs(ctx context.Context, server string, f LogFilter) iter.Seq2[LogLine, error]
}

// LogFilter chooses log lines. Lines 0 means 100.
type LogFilter struct {
	Lines  int
	Follow bool
}
