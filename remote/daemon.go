package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/shannon-mcp/shannon"
)

const (
	// DaemonFile is the file in a home folder that says where its daemon is.
	DaemonFile = "daemon.json"
	// SocketFile is the socket in a home folder, unless the daemon's file names another.
	SocketFile = "shannon.sock"
)

// patience is how long a daemon may be silent before it counts as stuck.
const patience = 2 * time.Second

// Daemon is what a running daemon says of itself in its home folder.
type Daemon struct {
	PID     int    `json:"pid"`
	Start   string `json:"start"` // tells the process from a later one with its pid
	Socket  string `json:"socket"`
	Address string `json:"address,omitempty"` // TCP, empty when socket only
	Version string `json:"version"`
}

// ReadDaemon reads the daemon's file of a home folder. Without one the error is
// [fs.ErrNotExist]. That there is one does not mean that the daemon still runs.
func ReadDaemon(home string) (Daemon, error) {
	var d Daemon
	text, err := os.ReadFile(filepath.Join(home, DaemonFile))
	if err != nil {
		return d, fmt.Errorf("read daemon's file: %w", err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		return d, fmt.Errorf("read daemon's file: %w", err)
	}
	return d, nil
}

// Write writes the daemon's file of a home folder, as a whole or not at all.
func (d Daemon) Write(home string) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode daemon's file: %w", err)
	}
	f, err := os.CreateTemp(home, "."+DaemonFile+"-*") // 0600
	if err != nil {
		return fmt.Errorf("write daemon's file: %w", err)
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(home, DaemonFile))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write daemon's file: %w", err), os.Remove(f.Name()))
	}
	return nil
}

// Connect connects to the daemon of a home folder. Where nobody listens the
// error is [shannon.CodeNoDaemon]; where somebody does and says nothing for two
// seconds, [shannon.CodeDaemonSilent].
func Connect(ctx context.Context, home string) (*Client, error) {
	socket := filepath.Join(home, SocketFile)
	if d, err := ReadDaemon(home); err == nil && d.Socket != "" {
		socket = d.Socket
	}
	c, err := New(Options{Dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}})
	if err != nil {
		return nil, err
	}
	if err := c.Probe(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Probe asks whether anybody is there. The error is [shannon.CodeNoDaemon],
// [shannon.CodeDaemonSilent], or the context's.
func (c *Client) Probe(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(limited, http.MethodGet, c.base+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	res, err := c.http.Do(req)
	if err == nil {
		return res.Body.Close() // whatever it answered, it answers
	}
	err = lost(ctx, call{}, err)
	// A stopped process does not accept, and the queue of its socket fills up.
	if ctx.Err() == nil && (limited.Err() != nil || errors.Is(err, syscall.EAGAIN)) {
		return shannon.Errorf(shannon.CodeDaemonSilent, "Look at its process; end it, and start it again with: shannon serve",
			"the daemon does not answer: %w", err)
	}
	return err
}

const startHint = "Start it with: shannon serve"
