package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings are what a run measures.
type settings struct {
	Shannon   string        `json:"-"`
	Rounds    int           `json:"rounds"`
	Time      time.Duration `json:"time_ns"`
	Warm      time.Duration `json:"-"`
	Clients   []int         `json:"clients"`
	Eras      []string      `json:"eras"`
	Upstreams []string      `json:"upstreams"`
	Tool      string        `json:"tool"`
	Size      int           `json:"size"`
	Events    bool          `json:"sse"`
	Smoke     bool          `json:"smoke"`
	out       string
	write     bool
}

func parseSettings(args []string) (settings, error) {
	var s settings
	var clients, eras, upstreams string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&s.Shannon, "shannon", "bin/shannon", "the binary to measure")
	fs.IntVar(&s.Rounds, "rounds", 3, "how often everything is measured, in turns; medians are reported")
	fs.DurationVar(&s.Time, "time", 3*time.Second, "time of one measurement")
	fs.DurationVar(&s.Warm, "warm", 700*time.Millisecond, "time before it that does not count")
	fs.StringVar(&clients, "clients", "1,8,64", "numbers of clients")
	fs.StringVar(&eras, "eras", "legacy,modern", "eras of the clients")
	fs.StringVar(&upstreams, "upstreams", "stdio,http", "how the server is reached")
	fs.StringVar(&s.Tool, "tool", "echo", "echo, or len, which answers with the length of its text only")
	fs.IntVar(&s.Size, "size", 32, "bytes of the text")
	fs.BoolVar(&s.Events, "sse", false, "the HTTP server answers with event streams")
	fs.BoolVar(&s.Smoke, "smoke", false, "a short run over stdio that fails when Shannon is far too slow")
	fs.StringVar(&s.out, "out", ".cache/bench", "folder for result.json and result.md")
	fs.BoolVar(&s.write, "write", false, "put the table into docs/benchmarks.md as well")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if s.Smoke {
		s.Time, s.Warm, s.Rounds = time.Second, 300*time.Millisecond, 3
		clients, eras, upstreams = "64", "legacy,modern", "stdio"
	}
	s.Eras, s.Upstreams = strings.Split(eras, ","), strings.Split(upstreams, ",")
	for n := range strings.SplitSeq(clients, ",") {
		count, err := strconv.Atoi(n)
		if err != nil || count < 1 {
			return s, fmt.Errorf("%q is no number of clients", n)
		}
		s.Clients = append(s.Clients, count)
	}
	if fs.NArg() > 0 || s.Rounds < 1 || (s.Tool != "echo" && s.Tool != "len") {
		return s, fmt.Errorf("arguments make no sense: %v", args)
	}
	return s, nil
}

// target is what a load can be pointed at.
type target struct {
	Name     string `json:"target"`   // direct, floor, shannon
	Upstream string `json:"upstream"` // stdio, http
	url      string
	token    string
	tool     string
	pids     []int
}

// point is one row: a target under one kind of load.
type point struct {
	target
	Era     string   `json:"era"`
	Clients int      `json:"clients"`
	Samples []sample `json:"samples"`
}

// runAll is the runner.
func runAll(ctx context.Context, args []string) (err error) {
	s, err := parseSettings(args)
	if err != nil {
		return err
	}
	m := thisMachine()
	targets, stop, err := startTargets(ctx, &s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	points, err := measureAll(ctx, &s, targets, os.Stderr)
	if err != nil {
		return err
	}
	r := newReport(m, s, points)
	fmt.Fprintf(os.Stdout, "\n%s\n", r.markdown())
	if err := r.save(s.out); err != nil {
		return err
	}
	if s.write {
		if err := r.writeInto(filepath.Join("docs", "benchmarks.md")); err != nil {
			return err
		}
	}
	return r.verdict()
}

// startTargets starts everything that can be measured; it is there for the whole
// run, and idle while something else is measured.
func startTargets(ctx context.Context, s *settings) (targets []target, stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var err error
		for _, end := range slices.Backward(stops) {
			err = errors.Join(err, end())
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stop())
		}
	}()
	begin := func(args ...string) (*role, error) {
		r, err := startRole(ctx, args...)
		if err == nil {
			stops = append(stops, r.stop)
		}
		return r, err
	}
	upstream, err := begin("upstream", "--http", fmt.Sprintf("--sse=%t", s.Events))
	if err != nil {
		return nil, stop, err
	}
	targets = append(targets, target{Name: "direct", Upstream: "http", url: upstream.url, tool: s.Tool, pids: upstream.pids()})
	shannon, err := startGateway(ctx, s.Shannon, upstream.url, s.Tool)
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, shannon.stop)
	for _, kind := range s.Upstreams {
		args := []string{"floor"}
		if kind == "http" {
			args = append(args, "--http", upstream.url)
		}
		floor, err := begin(args...)
		if err != nil {
			return nil, stop, err
		}
		targets = append(targets,
			target{Name: "floor", Upstream: kind, url: floor.url, tool: s.Tool, pids: floor.pids()},
			target{Name: "shannon", Upstream: kind, url: shannon.url(), token: shannon.token, tool: shannon.tools[kind], pids: shannon.pids()})
	}
	return targets, stop, nil
}

// measureAll measures in rounds, in each of which every target has its turn under
// one load before the next load comes, so that a noisy moment hits them alike. Who
// begins changes with the round.
func measureAll(ctx context.Context, s *settings, targets []target, progress io.Writer) ([]*point, error) {
	var groups [][]*point
	var points []*point
	for _, era := range s.Eras {
		for _, clients := range s.Clients {
			var group []*point
			for _, t := range targets {
				group = append(group, &point{target: t, Era: era, Clients: clients})
			}
			groups, points = append(groups, group), append(points, group...)
		}
	}
	for round := range s.Rounds {
		for _, group := range groups {
			for i := range group {
				p := group[(i+round)%len(group)]
				found, err := measure(ctx, s, p)
				if err != nil {
					return nil, fmt.Errorf("load %s %s, %s, %d clients: %w", p.Name, p.Upstream, p.Era, p.Clients, err)
				}
				p.Samples = append(p.Samples, found)
				fmt.Fprintf(progress, "%d/%d %-7s %-5s %-6s %3d clients %8.0f calls/s  p50 %6.0f µs  CPU %5.1f µs\n",
					round+1, s.Rounds, p.Name, p.Upstream, p.Era, p.Clients, found.CallsPerSec, found.P50, found.CPU)
			}
		}
	}
	return points, nil
}

// measure runs one load, in a process of its own.
func measure(ctx context.Context, s *settings, p *point) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, fmt.Errorf("find myself: %w", err)
	}
	pids := make([]string, len(p.pids))
	for i, pid := range p.pids {
		pids[i] = strconv.Itoa(pid)
	}
	cmd := exec.CommandContext(ctx, self, "load", "--url", p.url, "--era", p.Era, "--tool", p.tool, "--kind", s.Tool, //nolint:gosec // ourselves
		"--size", strconv.Itoa(s.Size), "--clients", strconv.Itoa(p.Clients),
		"--warm", s.Warm.String(), "--time", s.Time.String(), "--pids", strings.Join(pids, ","))
	cmd.Env = append(os.Environ(), tokenVariable+"="+p.token)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return sample{}, err
	}
	var found sample
	if err := json.Unmarshal(out, &found); err != nil {
		return sample{}, fmt.Errorf("read sample: %w", err)
	}
	return found, nil
}
