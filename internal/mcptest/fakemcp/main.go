// Command fakemcp is the scripted MCP server of package mcptest as a program,
// for shell scripts and for trying things by hand:
//
//	fakemcp -script '{"versions":["2025-11-25"]}'
//	fakemcp -listen 127.0.0.1:0
//
// It speaks over its standard streams, or over HTTP with -listen or a script
// that says so; then it prints its URL first. It ends with its stdin.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/shannon-mcp/shannon/internal/mcptest"
)

func main() {
	mcptest.Main() // a grandchild of the tool fork is this program too
	text := flag.String("script", "{}", "what the server does: a mcptest.Script as `JSON`")
	listen := flag.String("listen", "", "serve HTTP on this `address`")
	flag.Parse()

	var script mcptest.Script
	if err := json.Unmarshal([]byte(*text), &script); err != nil {
		fmt.Fprintln(os.Stderr, "fakemcp: read script:", err) //nolint:forbidigo // it is a main
		os.Exit(2)                                            //nolint:forbidigo // it is a main
	}
	if *listen != "" {
		script.Child.Listen = *listen
	}
	mcptest.Serve(script)
}
