package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/shannon-mcp/shannon/internal/mcptest"
)

// asProgram makes the test binary the example itself.
const asProgram = "EMBED_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Unsetenv(asProgram) // the server is not to be the example again
		main()
		return
	}
	mcptest.Main()
	os.Exit(m.Run())
}

func TestEmbed(t *testing.T) {
	command, args, env := mcptest.Command(t, mcptest.Script{})
	// The example has no flag for variables; env(1) gives them to the server.
	run := []string{"echo", `{"message":"hello","n":9007199254740993}`, "env"}
	for k, v := range env {
		run = append(run, k+"="+v)
	}
	cmd := exec.CommandContext(t.Context(), command, append(append(run, command), args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Dir = t.TempDir()
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "9007199254740993") || !strings.HasSuffix(strings.TrimSpace(string(out)), "<nil>") {
		t.Errorf("the example printed %s%s%v", out, errs.String(), err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(source, []byte("\n")); n >= 40 {
		t.Errorf("the program has %d lines, which is too many for an example of how little it takes", n)
	}
}
