// Command embed is a program with a manager of MCP servers inside. It adds a
// server, calls one of its tools and prints the result:
//
//	go run ./examples/embed echo '{"message":"hello"}' npx -y @modelcontextprotocol/server-everything
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/manager"
)

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: embed TOOL ARGUMENTS COMMAND [ARGS…]")
	}
	ctx := context.Background()
	m, err := manager.Open(ctx, manager.Config{Home: ".embed"}, manager.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close(ctx)
	s := shannon.NewServer("mine")
	s.Transport, s.Command, s.Args = shannon.TransportStdio, os.Args[3], os.Args[4:]
	if _, err = m.AddServer(ctx, s); err != nil {
		log.Panic(err)
	}
	result, err := m.CallTool(ctx, "mine", os.Args[1], json.RawMessage(os.Args[2]))
	fmt.Fprintln(os.Stdout, string(result), err)
}
