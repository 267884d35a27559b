// Command shannon manages MCP servers: it is the daemon, and the command line that
// talks to it. See package cli for what it does; here is only what ties it to the
// process that it runs in.
package main

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/shannon-mcp/shannon/internal/cli"
)

var version = "dev" // set by the linker

func main() { os.Exit(run()) }

func run() int {
	// What whoever started us wants to be ignored, such as nohup, stays so.
	signals := slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	executable, err := os.Executable()
	if err != nil {
		executable = "" // it then can be neither its own keeper nor the demo server
	}
	return cli.Main(ctx, cli.Env{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Environ: os.Environ(), Executable: executable, Version: version,
	})
}
