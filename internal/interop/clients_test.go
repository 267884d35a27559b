//go:build interop

package interop_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// newServed starts a daemon with the servers that the clients are tried on.
func newServed(t *testing.T) *daemon {
	t.Helper()
	d := newDaemon(t)
	need(t, "clients: add everything", func() error {
		_, err := d.run("add", "everything", "--", bin("mcp-server-everything"))
		return err
	})
	need(t, "clients: add gosdk", func() error {
		_, err := d.run("add", "gosdk", "-e", serverMode+"=1", "--", os.Args[0])
		return err
	})
	return d
}

// endpoint is a place where clients connect: it offers one server, or all, with
// what stands before the names of their tools.
type endpoint struct {
	name string
	url  func(server string) string
	tool func(server, tool string) string
}

func (d *daemon) endpoints() []endpoint {
	return []endpoint{
		{
			"all servers", func(string) string { return d.url + "/mcp" },
			func(server, tool string) string { return server + "__" + tool },
		},
		{
			"one server", func(server string) string { return d.url + "/servers/" + server + "/mcp" },
			func(_, tool string) string { return tool },
		},
	}
}

// TestTypeScript runs the scripts that use the TypeScript SDKs; see
// scripts/interop/checks.mjs for what they check.
func TestTypeScript(t *testing.T) {
	d := newServed(t)
	for _, args := range [][]string{{"client-v1.mjs"}, {"client-v2.mjs", "legacy"}, {"client-v2.mjs", "auto"}, {"client-v2.mjs", "modern"}} {
		if err := d.relay(t, args); err != nil {
			check(t, strings.Join(args, " "), func() error { return err })
		}
	}
}

// relay runs a script and takes over its checks.
func (d *daemon) relay(t *testing.T, args []string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args = append([]string{tools(args[0])}, args[1:]...)
	cmd := exec.CommandContext(ctx, bin("node"), args...)
	if _, err := os.Stat(bin("node")); err != nil {
		cmd = exec.CommandContext(ctx, "node", args...)
	}
	cmd.Env = append(d.env, "SHANNON_URL="+d.url, "SHANNON_TOKEN="+d.token, "INTEROP_WORK="+d.work, "INTEROP_GOSDK="+os.Args[0])
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	passed, failed := 0, 0
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "ok "):
			passed++
		case strings.HasPrefix(line, "not ok "):
			failed++
			t.Fail()
		}
		fmt.Println(line)
	}
	err = cmd.Wait()
	if failed > 0 {
		return nil // they have been told
	}
	if err == nil && passed == 0 {
		err = errors.New("it checked nothing")
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return err
}

// TestInspector runs the command line of the MCP Inspector in each era.
func TestInspector(t *testing.T) {
	d := newServed(t)
	for _, era := range []string{"legacy", "auto", "modern"} {
		for _, at := range d.endpoints() {
			i := inspector{d, at, era}
			name := func(what string) string { return fmt.Sprintf("Inspector %s, %s: %s", era, at.name, what) }
			check(t, name("list tools"), i.lists)
			check(t, name("call"), i.calls)
			check(t, name("error of a tool"), i.toolFails)
			check(t, name("JSON-RPC error"), i.requestFails)
		}
	}
	check(t, "Inspector: refused without the token", func() error {
		refused := *d
		refused.token = "wrong"
		out, err := (&inspector{&refused, d.endpoints()[0], "modern"}).run("--method", "tools/list")
		if err == nil || !strings.Contains(err.Error(), "401") && !strings.Contains(err.Error(), "auth") {
			return fmt.Errorf("got %q, %w", out, err)
		}
		return nil
	})
}

type inspector struct {
	d   *daemon
	at  endpoint
	era string
}

func (i *inspector) run(args ...string) (string, error) {
	return i.d.exec(bin("mcp-inspector"), append([]string{
		"--cli", "--server-url", i.at.url("everything"), "--transport", "http", "--protocol-era", i.era, "--format", "json", "--stored-auth-only",
		"--header", "Authorization: Bearer " + i.d.token,
	}, args...)...)
}

func (i *inspector) call(tool, args string) (string, error) {
	return i.run("--method", "tools/call", "--tool-name", i.at.tool("everything", tool), "--tool-args-json", args)
}

func (i *inspector) lists() error {
	out, err := i.run("--method", "tools/list")
	if err != nil {
		return err
	}
	var list struct {
		Result struct {
			Tools []struct{ Name string }
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	want := i.at.tool("everything", "echo")
	if !slices.ContainsFunc(list.Result.Tools, func(t struct{ Name string }) bool { return t.Name == want }) {
		return fmt.Errorf("no %s in %s", want, out)
	}
	return nil
}

func (i *inspector) calls() error {
	out, err := i.call("echo", `{"message":"Grüße"}`)
	if err == nil && !strings.Contains(out, "Echo: Grüße") {
		err = fmt.Errorf("got %s", out)
	}
	return err
}

func (i *inspector) toolFails() error {
	out, err := i.call("get-sum", `{"a":1}`)
	if err == nil {
		return fmt.Errorf("the exit code is 0: %s", out)
	}
	if !strings.Contains(err.Error(), `"isError":true`) {
		return err
	}
	return nil
}

func (i *inspector) requestFails() error {
	out, err := i.call("no-such-tool", `{}`)
	if err == nil {
		return fmt.Errorf("the exit code is 0: %s", out)
	}
	if !strings.Contains(err.Error(), "no-such-tool") {
		return err
	}
	return nil
}
