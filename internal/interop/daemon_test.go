//go:build interop

package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tools is the folder of what is installed.
func tools(elem ...string) string {
	return filepath.Join(append([]string{os.Getenv("INTEROP_TOOLS")}, elem...)...)
}

// bin is the path of a command of an npm package.
func bin(name string) string { return tools("node_modules", ".bin", name) }

// marker is a variable that servers get, so that their processes can be found,
// whoever their parent is.
func (d *daemon) marker() string { return "SHANNON_INTEROP=" + filepath.Base(d.home) }

// daemon is a running "shannon serve" with a home of its own.
type daemon struct {
	t      *testing.T
	home   string
	work   string // for files of servers and clients
	env    []string
	url    string
	token  string
	cmd    *exec.Cmd
	stderr bytes.Buffer
}

var readyLine = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// newDaemon starts a daemon in an empty home and ends it with the test.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	if os.Getenv("SHANNON_BIN") == "" || os.Getenv("INTEROP_TOOLS") == "" {
		t.Fatal("run scripts/interop.sh, which installs what this needs")
	}
	d := &daemon{t: t, work: t.TempDir()}
	// A socket's path is short; that of a test's folder may not be.
	home, err := os.MkdirTemp("", "shannon") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	d.home = home
	d.env = append(os.Environ(), "SHANNON_HOME="+home, "HOME="+d.work)

	d.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), os.Getenv("SHANNON_BIN"), "serve", "--listen", "127.0.0.1:0")
	d.cmd.Env = d.env
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = &d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			_ = d.cmd.Process.Kill()
			_ = d.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.stderr.String())
		}
	})
	ready := make(chan string, 1)
	go func() {
		buffer := make([]byte, 64<<10)
		n, _ := stdout.Read(buffer)
		ready <- string(buffer[:n])
		for n > 0 { // nobody else reads it
			n, _ = stdout.Read(buffer)
		}
	}()
	select {
	case text := <-ready:
		d.url = readyLine.FindString(text)
	case <-time.After(20 * time.Second):
	}
	if d.url == "" {
		t.Fatalf("the daemon is not ready: %s", d.stderr.String())
	}
	if d.token, err = d.run("token", "show"); err != nil {
		t.Fatal(err)
	}
	d.token = strings.TrimSpace(d.token)
	return d
}

// stop ends the daemon as a service manager does.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(20 * time.Second):
		return errors.New("it did not end within 20 s")
	}
}

// run runs a command of shannon's and returns its stdout.
func (d *daemon) run(args ...string) (string, error) {
	return d.exec(os.Getenv("SHANNON_BIN"), args...)
}

func (d *daemon) exec(name string, args ...string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, talk bytes.Buffer
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, &out, &talk
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("%s %s: %w: %s %s", filepath.Base(name), strings.Join(args, " "), err, out.String(), talk.String())
	}
	return out.String(), err
}

// query runs a command with --json and reads its output into value.
func (d *daemon) query(value any, args ...string) error {
	stdout, err := d.run(append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(stdout), value); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, stdout)
	}
	return nil
}

// status is what "shannon status NAME --json" must say at least.
type status struct {
	State string `json:"state"`
	Tools int    `json:"tools"`
	PID   int    `json:"pid"`
	Era   string `json:"era"`
}

func (d *daemon) status(name string) (s status, err error) {
	err = d.query(&s, "status", name)
	return s, err
}

// call calls a tool by the command line, for the result as the server sent it.
func (d *daemon) call(server, tool, args string) (string, error) {
	return d.run("call", server, tool, "--json", "--json-args", args)
}

// processes returns the command lines of all processes of this daemon and its
// servers, except the first, which we wait for.
func (d *daemon) processes() ([]string, error) {
	folders, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, folder := range folders {
		// One that has ended meanwhile cannot be read.
		environ, _ := os.ReadFile(filepath.Join(folder, "environ"))
		vars := strings.Split(string(environ), "\x00")
		if filepath.Base(folder) == fmt.Sprint(d.cmd.Process.Pid) ||
			!slices.Contains(vars, d.marker()) && !slices.Contains(vars, "SHANNON_HOME="+d.home) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		found = append(found, filepath.Base(folder)+" "+strings.ReplaceAll(string(line), "\x00", " "))
	}
	return found, nil
}

// gone fails while a process runs whose command line contains one of the words.
func (d *daemon) gone(words ...string) error {
	return until(func() error {
		all, err := d.processes()
		for _, p := range all {
			for _, w := range words {
				if strings.Contains(p, w) {
					err = errors.Join(err, fmt.Errorf("still running: %s", p))
				}
			}
		}
		return err
	})
}

// background starts a program that is no child of the daemon, and ends it with the test.
func (d *daemon) background(env string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env)
	if err := cmd.Start(); err != nil {
		return err
	}
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return nil
}

// listens waits until something listens at the address.
func listens(address string) error {
	return until(func() error {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// freeAddress returns an address of this machine on which nothing listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
