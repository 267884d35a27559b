package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/remote"
)

// gateway is a Shannon of our own: the real binary, with a temporary home folder.
type gateway struct {
	cmd    *exec.Cmd
	home   string
	output bytes.Buffer
	ended  chan struct{}
	err    error // why it ended, once ended is closed

	daemon remote.Daemon
	token  string
	tools  map[string]string // server → public name of the tool
}

// startGateway starts the binary and gives it two servers, "stdio" and "http".
func startGateway(ctx context.Context, binary, upstreamURL, tool string) (*gateway, error) {
	home, err := os.MkdirTemp("", "shannon-bench-")
	if err != nil {
		return nil, fmt.Errorf("make home folder: %w", err)
	}
	g := &gateway{home: home, ended: make(chan struct{}), tools: map[string]string{}}
	// Ended by stop, which asks before it kills.
	g.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, "serve", "--listen", "127.0.0.1:0") //nolint:gosec // what to measure is for the user to say
	g.cmd.Env = append(os.Environ(), "SHANNON_HOME="+home)
	g.cmd.Stdout, g.cmd.Stderr, g.cmd.WaitDelay = &g.output, &g.output, patience
	if err := g.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s (make build makes it): %w", binary, err), os.RemoveAll(home))
	}
	go func() {
		g.err = g.cmd.Wait()
		close(g.ended)
	}()
	if err := g.setUp(ctx, upstreamURL, tool); err != nil {
		err = errors.Join(fmt.Errorf("set up %s: %w", binary, err), g.stop())
		return nil, fmt.Errorf("%w\n%s", err, g.output.Bytes())
	}
	return g, nil
}

func (g *gateway) setUp(ctx context.Context, upstreamURL, tool string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := g.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	token, err := os.ReadFile(filepath.Join(g.home, "token"))
	if err != nil {
		return fmt.Errorf("read token: %w", err)
	}
	g.token = strings.TrimSpace(string(token))
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find myself: %w", err)
	}
	for _, name := range []string{"stdio", "http"} {
		s := shannon.NewServer(name)
		if name == "http" {
			s.Transport, s.Endpoint = shannon.TransportHTTP, upstreamURL
		} else {
			s.Transport, s.Command, s.Args = shannon.TransportStdio, self, []string{"upstream"}
		}
		if err := g.add(ctx, client, s, tool); err != nil {
			return err
		}
	}
	return nil
}

// dial connects to the management API as soon as the daemon says where it is.
func (g *gateway) dial(ctx context.Context) (*remote.Client, error) {
	for {
		var err error
		if g.daemon, err = remote.ReadDaemon(g.home); err == nil {
			return remote.Connect(ctx, g.home)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-g.ended:
			return nil, errors.Join(errors.New("it has ended"), g.err)
		case <-ctx.Done():
			return nil, err
		}
	}
}

// add adds a server, connects it and learns what its tool is called.
func (g *gateway) add(ctx context.Context, client *remote.Client, s shannon.Server, tool string) error {
	if _, err := client.AddServer(ctx, s); err != nil {
		return fmt.Errorf("add server: %w", err)
	}
	if _, err := client.Connect(ctx, s.Name); err != nil {
		return fmt.Errorf("connect server %s: %w", s.Name, err)
	}
	for {
		tools, err := client.Tools(ctx, s.Name)
		if err != nil {
			return fmt.Errorf("list tools of %s: %w", s.Name, err)
		}
		for _, t := range tools {
			if t.Name == tool {
				g.tools[s.Name] = t.PublicName
				return nil
			}
		}
		// The catalog may take a moment to learn of them.
		if wait(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("server %s has no tool %q", s.Name, tool)
		}
	}
}

// pids are the keeper, which we started, and the daemon; they may be one.
func (g *gateway) pids() []int {
	if g.daemon.PID == g.cmd.Process.Pid {
		return []int{g.daemon.PID}
	}
	return []int{g.cmd.Process.Pid, g.daemon.PID}
}

func (g *gateway) url() string { return "http://" + g.daemon.Address + "/mcp" }

// stop ends it in order, or else by force.
func (g *gateway) stop() error {
	var err error
	if g.cmd.Process.Signal(os.Interrupt) != nil { // not on every system
		err = g.cmd.Process.Kill()
	}
	select {
	case <-g.ended: // interrupted, it says so
	case <-time.After(patience):
		err = errors.Join(errors.New("shannon does not stop"), g.cmd.Process.Kill())
		<-g.ended
	}
	return errors.Join(err, os.RemoveAll(g.home))
}
