package shannon

import (
	"fmt"
	"time"
)

// Priority orders events by urgency.
type Priority string

// The priorities, from low to critical.
const (
	PriorityLow      Priority = "low"
	PriorityNormal   Priority = "normal"
	PriorityHigh     Priority = "high"
	PriorityCritical Priority = "critical"
)

// AtLeast tells whether p is as urgent as low or more so; unknown values count as normal.
func (p Priority) AtLeast(low Priority) bool { return p.rank() >= low.rank() }

func (p Priority) rank() int {
	switch p {
	case PriorityLow:
		return 0
	case PriorityHigh:
		return 2
	case PriorityCritical:
		return 3
	default:
		return 1
	}
}

// The names of events. Data of each holds server_id and name, and what is said beside it.
const (
	EventAdded            = "mcp_server_added"             // transport
	EventUpdated          = "mcp_server_updated"           // fields: what changed
	EventRemoved          = "mcp_server_removed"           //
	EventConnected        = "mcp_server_connected"         // transport, era, version, handshake_ms, pid
	EventConnectionFailed = "mcp_server_connection_failed" // error, code, attempt, next_retry
	EventDisconnected     = "mcp_server_disconnected"      // duration, cause, error
	EventNotification     = "mcp_server_notification"      // method; params, if not over 16 KiB
	EventToolsChanged     = "mcp_tools_changed"            // tools: how many there are now
	EventLagged           = "lagged"                       // missed: the subscriber was too slow for so many
)

// CategoryMCP is the category of every event about servers.
const CategoryMCP = "mcp"

// Event is something that happened. Events are numbered from 1 in the order in
// which they happened, per manager.
type Event struct {
	Seq           uint64         `json:"seq"`
	Name          string         `json:"name"`
	Category      string         `json:"category"`
	Priority      Priority       `json:"priority"`
	Timestamp     time.Time      `json:"timestamp"`
	Source        string         `json:"source"`
	CorrelationID string         `json:"correlation_id,omitempty"`
	Data          map[string]any `json:"data,omitempty"`
}

// EventFilter chooses events; a zero field does not restrict.
type EventFilter struct {
	Category    string
	Name        string
	MinPriority Priority
	// After resumes behind that Seq, within the last 1,000 events.
	After uint64
	// Follow goes on with new events until the context ends.
	Follow bool
	// Match is asked last. It runs where the subscriber is, never in a daemon.
	Match func(*Event) bool
}

// Pass tells whether e passes all of the filter but After.
func (f *EventFilter) Pass(e *Event) bool {
	return (f.Category == "" || f.Category == e.Category) &&
		(f.Name == "" || f.Name == e.Name) &&
		(f.MinPriority == "" || e.Priority.AtLeast(f.MinPriority)) &&
		(f.Match == nil || f.Match(e))
}

// LogLine is a line that a server wrote to its standard error, or that Shannon
// logged about it.
type LogLine struct {
	Time   time.Time `json:"time"`
	Source string    `json:"source"` // stderr, stdout (noise), shannon
	Text   string    `json:"text"`
}

// String gives the line as a log file holds it.
func (l LogLine) String() string {
	return fmt.Sprintf("%s %s %s", l.Time.UTC().Format(time.RFC3339Nano), l.Source, l.Text)
}
