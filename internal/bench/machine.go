package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// usage is what processes have used of the machine.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
}

// clockTick is the unit of CPU times in /proc, whatever the kernel counts in.
const clockTick = 10 * time.Millisecond

// usageOf sums up what processes have used. It knows Linux; elsewhere, and for
// processes that have ended, there is nothing to sum.
func usageOf(pids []int) usage {
	var u usage
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		// The name of the program, which comes before, may hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 22 {
			continue
		}
		number := func(i int) int64 {
			n, _ := strconv.ParseInt(string(fields[i]), 10, 64) // the kernel writes numbers
			return n
		}
		u.cpu += time.Duration(number(11)+number(12)) * clockTick
		u.rss += number(21) * int64(os.Getpagesize())
	}
	return u
}

// machine describes where the figures are from.
type machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	System string `json:"system"`
	Go     string `json:"go"`
	Load   string `json:"load_average"` // before the first measurement
}

func thisMachine() machine {
	m := machine{
		CPU: runtime.GOARCH, CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Load: "unknown",
	}
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				m.CPU = strings.Trim(name, "\t :\n")
				break
			}
		}
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System += " " + strings.TrimSpace(string(kernel))
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	return m
}

// role is a process that plays one.
type role struct {
	cmd   *exec.Cmd
	stdin io.Closer
	url   string
}

// patience is how long a process has to begin, and to end.
const patience = 15 * time.Second

// startRole starts this binary in a role that serves, and returns when it does.
func startRole(ctx context.Context, args ...string) (*role, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find myself: %w", err)
	}
	r := &role{cmd: exec.CommandContext(ctx, self, args...)} //nolint:gosec // ourselves
	r.cmd.Stderr, r.cmd.WaitDelay = os.Stderr, patience
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", args[0], err)
	}
	r.stdin = stdin
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", args[0], err)
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: it says no address: %w", args[0], err), r.stop())
	}
	r.url = strings.TrimSpace(line)
	return r, nil
}

func (r *role) pids() []int { return []int{r.cmd.Process.Pid} }

// stop ends the role, which ends with its stdin, and waits.
func (r *role) stop() error {
	err := r.stdin.Close()
	late := time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() }) // it may have ended just now
	defer late.Stop()
	return errors.Join(err, r.cmd.Wait())
}
