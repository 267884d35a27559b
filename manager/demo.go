package manager

import (
	"context"
	"io"

	"github.com/shannon-mcp/shannon/internal/builtin"
)

// Demo serves a small MCP server on in and out until in ends. A program that sets
// [Options.Demo] runs it in the process which that command starts.
func Demo(ctx context.Context, in io.Reader, out io.Writer) error {
	return builtin.Demo(ctx, in, out)
}
