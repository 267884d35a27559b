package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// row is a point as it is reported: medians of its samples. A ratio is the median
// of the ratios within each round; 0 where there is nothing to compare with.
type row struct {
	*point
	CallsPerSec float64 `json:"calls_per_s"`
	Spread      float64 `json:"spread"` // of the calls per second: (largest - least) / median
	P50         float64 `json:"p50_us"`
	P99         float64 `json:"p99_us"`
	CPU         float64 `json:"cpu_us_per_call"`
	RSS         float64 `json:"rss_mb"`
	OfDirect    float64 `json:"of_direct,omitempty"`
	OfFloor     float64 `json:"of_floor,omitempty"`
	Failures    int     `json:"failures"`
	FirstError  string  `json:"first_error,omitempty"`
}

// report is the outcome of a run.
type report struct {
	Machine  machine  `json:"machine"`
	Settings settings `json:"settings"`
	Rows     []row    `json:"rows"`
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// medianOf returns the median of one figure of all samples.
func medianOf(samples []sample, figure func(sample) float64) float64 {
	var values []float64
	for _, s := range samples {
		values = append(values, figure(s))
	}
	return median(values)
}

func speed(s sample) float64 { return s.CallsPerSec }

func newReport(m machine, s settings, points []*point) *report {
	r := &report{Machine: m, Settings: s}
	for _, p := range points {
		w := row{
			point:       p,
			CallsPerSec: medianOf(p.Samples, speed),
			P50:         medianOf(p.Samples, func(s sample) float64 { return s.P50 }),
			P99:         medianOf(p.Samples, func(s sample) float64 { return s.P99 }),
			CPU:         medianOf(p.Samples, func(s sample) float64 { return s.CPU }),
			RSS:         medianOf(p.Samples, func(s sample) float64 { return s.RSS }),
		}
		least, most := p.Samples[0].CallsPerSec, p.Samples[0].CallsPerSec
		for _, s := range p.Samples {
			least, most = min(least, s.CallsPerSec), max(most, s.CallsPerSec)
			w.Failures += s.Failures
			if w.FirstError == "" {
				w.FirstError = s.FirstError
			}
		}
		if w.CallsPerSec > 0 {
			w.Spread = (most - least) / w.CallsPerSec
		}
		if p.Name != "direct" {
			w.OfDirect = ratio(p, find(points, p, "direct", "http"))
		}
		if p.Name == "shannon" {
			w.OfFloor = ratio(p, find(points, p, "floor", p.Upstream))
		}
		r.Rows = append(r.Rows, w)
	}
	return r
}

// find returns the point of another target under the load of p.
func find(points []*point, p *point, name, upstream string) *point {
	for _, other := range points {
		if other.Name == name && other.Upstream == upstream && other.Era == p.Era && other.Clients == p.Clients {
			return other
		}
	}
	return nil
}

func ratio(p, base *point) float64 {
	if base == nil {
		return 0
	}
	var ratios []float64
	for i, s := range p.Samples {
		if other := base.Samples[i].CallsPerSec; other > 0 {
			ratios = append(ratios, s.CallsPerSec/other)
		}
	}
	return median(ratios)
}

// markdown returns the table.
func (r *report) markdown() string {
	var b strings.Builder
	s, m := r.Settings, r.Machine
	fmt.Fprintf(&b, "%s, %d CPUs, %s, %s; load average before: %s.\n", m.CPU, m.CPUs, m.System, m.Go, m.Load)
	fmt.Fprintf(&b, "Tool `%s`, %d bytes; medians of %d rounds of %s each.\n\n", s.Tool, s.Size, s.Rounds, s.Time)
	b.WriteString("| clients | era | server | what | calls/s | ± | p50 µs | p99 µs | CPU µs/call | RSS MB | of direct | of floor |\n")
	b.WriteString("|--:|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	share := func(x float64) string {
		if x == 0 {
			return "–"
		}
		return fmt.Sprintf("%.2f", x)
	}
	for _, w := range r.Rows {
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %.0f | %.0f %% | %.0f | %.0f | %.1f | %.0f | %s | %s |\n",
			w.Clients, w.Era, w.Upstream, w.Name, w.CallsPerSec, 50*w.Spread, w.P50, w.P99, w.CPU, w.RSS, share(w.OfDirect), share(w.OfFloor))
	}
	return b.String()
}

// save writes result.json and result.md into a folder.
func (r *report) save(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // nothing in it is a secret
		return fmt.Errorf("make folder: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "result.json"), append(text, '\n'), 0o644), //nolint:gosec // as above
		os.WriteFile(filepath.Join(dir, "result.md"), []byte(r.markdown()), 0o644)) //nolint:gosec // as above
}

// The lines of a document between which a run puts its table.
const (
	beginMark = "<!-- begin: make bench -->\n"
	endMark   = "<!-- end: make bench -->\n"
)

func (r *report) writeInto(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	before, rest, found := strings.Cut(string(text), beginMark)
	_, after, ended := strings.Cut(rest, endMark)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the table: %q to %q", name, beginMark, endMark)
	}
	whole := before + beginMark + "\n" + r.markdown() + "\n" + endMark + after
	return os.WriteFile(name, []byte(whole), 0o644) //nolint:gosec // a document to be read by all
}

// What a smoke run demands. The bars are 0.5 of direct and 45 µs; the slack is for
// machines that others use as well, where ratios move by up to a fifth between
// runs. CPU per call moves less, but a slower CPU needs more of it for
// everything: there the measure is what the server itself takes when called directly,
// for which 2.5 is the same bar (45 µs to 18 µs).
const (
	leastOfDirect = 0.4
	mostCPU       = 45 * 1.25
	mostOfDirect  = 2.5 * 1.25
)

// verdict is an error if a call failed, or, after a smoke run, if Shannon is far
// from what it must reach.
func (r *report) verdict() error {
	var errs []error
	for _, w := range r.Rows {
		what := fmt.Sprintf("%s, %s server, %s, %d clients", w.Name, w.Upstream, w.Era, w.Clients)
		if w.Failures > 0 || w.CallsPerSec == 0 {
			errs = append(errs, fmt.Errorf("%s: %d calls failed: %s", what, w.Failures, w.FirstError))
		}
		if !r.Settings.Smoke || w.Name != "shannon" {
			continue
		}
		if w.OfDirect < leastOfDirect {
			errs = append(errs, fmt.Errorf("%s: %.2f of direct, at least %.2f are wanted", what, w.OfDirect, leastOfDirect))
		}
		limit := mostCPU
		for _, d := range r.Rows {
			if d.Name == "direct" && d.Era == w.Era && d.Clients == w.Clients {
				limit = max(limit, mostOfDirect*d.CPU)
			}
		}
		if w.CPU > limit {
			errs = append(errs, fmt.Errorf("%s: %.1f µs CPU per call, at most %.1f are wanted", what, w.CPU, limit))
		}
	}
	return errors.Join(errs...)
}
