package transport

import (
	"context"
	"io"
	"strings"

	"github.com/shannon-mcp/shannon/internal/process"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// Program is what a stdio server is started from.
type Program struct {
	Command string
	Args    []string
	Dir     string
	Env     []string // the complete environment
	// Stderr takes each line, valid during the call only. It must not block.
	Stderr func(line []byte)
}

// Starter starts programs. The error is a [*shannon.Error].
type Starter interface {
	Start(ctx context.Context, p Program) (Child, error)
}

// Child is a program that was started.
type Child interface {
	PID() int
	Path() string // what the command resolved to
	Stdin() io.WriteCloser
	Stdout() io.Reader
	// Done is closed once the program has ended and its stderr was read.
	Done() <-chan struct{}
	// Exit tells how it ended; only after Done.
	Exit() *wire.Exit
	// Stop closes stdin, waits, and kills what is left. It ends Stdout. It must be
	// called also when the program ended by itself. ctx bounds the patience.
	Stop(ctx context.Context)
}

// Host is a [Starter] of real processes.
type Host struct{ *process.Host }

// Start implements [Starter].
func (h Host) Start(ctx context.Context, p Program) (Child, error) {
	c, err := h.Host.Start(ctx, process.Spec{Command: p.Command, Args: p.Args, Dir: p.Dir, Env: p.Env, Stderr: p.Stderr})
	if err != nil {
		return nil, err
	}
	return child{c}, nil
}

// child gives a process the shape of [Child].
type child struct{ *process.Child }

func (c child) Stdin() io.WriteCloser    { return c.Child.Stdin() }
func (c child) Stdout() io.Reader        { return c.Child.Stdout() }
func (c child) Stop(ctx context.Context) { c.Child.Stop(ctx) }

func (c child) Exit() *wire.Exit {
	e := c.Child.Exit()
	return &wire.Exit{PID: c.PID(), Code: e.Code, Signal: e.Signal, Stderr: strings.Join(e.Stderr, "\n")}
}
