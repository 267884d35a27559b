//go:build unix

package mcptest_test

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon/internal/mcptest"
)

func TestChild(t *testing.T) {
	t.Chdir(t.TempDir())
	cmd := mcptest.Cmd(t, mcptest.Script{Child: mcptest.ChildScript{Stderr: "hello\n", Noise: "not a message\n"}})
	var errs safeBuffer
	cmd.Stderr = &errs
	cmd.Env = append(cmd.Env, "GREETING=hi")
	c := mcptest.Start(t, cmd, mcptest.Options{})
	c.Open()
	if r := c.Tool("env", `{"names":["GREETING"]}`); r.Structured() != `{"GREETING":"hi"}` {
		t.Errorf("env: %s", r.Raw)
	}
	if r := c.Tool("pid", `{}`); r.Structured() != `{"pid":`+strconv.Itoa(cmd.Process.Pid)+`}` {
		t.Errorf("pid: %s", r.Raw)
	}
	here, err := os.Getwd()
	if r := c.Tool("cwd", `{}`); err != nil || r.Text() != here {
		t.Errorf("cwd: %s", r.Raw)
	}
	c.Tool("stderr", `{"text":"there\n"}`)
	c.Tool("noise", `{"text":"more"}`)
	r := c.Tool("fork", `{"n":2,"stubborn":true,"inherit":true,"ms":20000}`)
	pids := strings.FieldsFunc(r.Structured(), func(r rune) bool { return r < '0' || r > '9' })
	if len(pids) != 2 {
		t.Fatalf("fork: %s %v", r.Raw, r.Err)
	}
	c.Go("tools/call", `{"name":"exit","arguments":{"code":7}}`) // whose stream the grandchildren keep open
	if state, err := cmd.Process.Wait(); err != nil || state.ExitCode() != 7 {
		t.Errorf("exit: %v %v", state, err)
	}
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Errorf("grandchild %d is gone: %v", pid, err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		if got := errs.String(); got != "hello\nthere\n" {
			t.Errorf("stderr: %q", got)
		}
	})
	var noise []string
	for _, e := range c.Transcript.Entries() {
		if e.Noise != nil {
			noise = append(noise, string(e.Noise))
		}
	}
	if diff := cmp.Diff([]string{"not a message", "more"}, noise); diff != "" {
		t.Error(diff)
	}
}

func TestSilentChildLives(t *testing.T) {
	cmd := mcptest.Cmd(t, mcptest.Script{Faults: []mcptest.Fault{{Do: mcptest.Silence, Method: "initialize"}}})
	var errs safeBuffer
	cmd.Stderr = &errs
	c := mcptest.Start(t, cmd, mcptest.Options{})
	c.Go("initialize", `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}}`)
	time.Sleep(300 * time.Millisecond) // time enough to die
	if got := errs.String(); got != "" {
		t.Errorf("a silent server says %s", got)
	}
}
