// Command bench measures what Shannon costs. It puts a load generator, a fast
// server and, between them, either nothing (direct), a relay without a single
// check (floor) or the real shannon binary on one machine, in turns, and reports
// throughput, latency, CPU and memory of each with their ratios.
//
// Every role is a process of its own: this binary anew with the role as its first
// argument, and shannon with a temporary home folder. The roles know MCP's
// bytes and nothing of Shannon: neither the server nor the check of the replies
// uses any of its packages, so that what it breaks cannot be hidden by using the
// same code twice. Only the runner speaks to its management API.
//
// The runner is sequential: one load at a time, so that nothing but the
// machine's other tenants disturbs it. A load runs a goroutine for each client,
// which share nothing but the HTTP transport.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	role, args := "", os.Args[1:]
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		role, args = args[0], args[1:]
	}
	err := run(ctx, role, args)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run plays a role; without one it is the runner, which starts all the others.
func run(ctx context.Context, role string, args []string) error {
	switch role {
	case "":
		return runAll(ctx, args)
	case "load":
		return runLoad(ctx, args)
	case "upstream":
		return runUpstream(ctx, args)
	case "floor":
		return runFloor(ctx, args)
	default:
		return fmt.Errorf("unknown role %q: load, upstream, floor, or none to measure everything", role)
	}
}
