// Command testreport reads the output of "go test -json" from its standard
// input and prints what a person wants to see of it: a line per package, the
// whole output of what failed, the tests that were skipped, and the totals. It
// ends with 1 when anything failed, a package that does not build included. With
// -o it appends the totals to a file.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	out := flag.String("o", "", "append the totals to this `file`")
	flag.Parse()
	r := newReport()
	err := r.read(os.Stdin, os.Stdout)
	if err == nil && *out != "" {
		err = r.appendTo(*out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if r.failed > 0 || r.passed == 0 {
		os.Exit(1)
	}
}

// event is a line of "go test -json", see "go doc test2json". ImportPath stands
// in the place of Package in events about building.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// report adds up events. Tests and their subtests count one each; a package
// that fails without a failing test (it does not build, it panics, it leaks)
// counts as one failure.
type report struct {
	passed, failed, skipped int

	output      map[string]*strings.Builder // by package and test, or by build
	failedTests map[string]int              // by package
}

func newReport() *report {
	return &report{output: map[string]*strings.Builder{}, failedTests: map[string]int{}}
}

func (r *report) read(in io.Reader, out io.Writer) error {
	reader := bufio.NewReader(in)
	for {
		line, err := reader.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				fmt.Fprintf(out, "%s", line) // what is no event is for people
			} else {
				r.add(&e, out)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read test events: %w", err)
		}
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped (subtests included)\n", r.passed, r.failed, r.skipped)
	return nil
}

func (r *report) add(e *event, out io.Writer) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		r.keep(e.ImportPath, e.Output)
	case "output":
		r.keep(key, e.Output)
	case "pass", "fail", "skip":
		if e.Test != "" {
			r.endTest(e, key, out)
		} else {
			r.endPackage(e, key, out)
		}
		delete(r.output, key)
	}
}

func (r *report) keep(key, text string) {
	b := r.output[key]
	if b == nil {
		b = &strings.Builder{}
		r.output[key] = b
	}
	b.WriteString(text)
}

func (r *report) kept(key string) string {
	if b := r.output[key]; b != nil {
		return b.String()
	}
	return ""
}

func (r *report) endTest(e *event, key string, out io.Writer) {
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		fmt.Fprintf(out, "SKIP %s\n%s", key, r.kept(key))
	case "fail":
		r.failed++
		r.failedTests[e.Package]++
		fmt.Fprintf(out, "FAIL %s\n%s", key, r.kept(key))
	}
}

func (r *report) endPackage(e *event, key string, out io.Writer) {
	if e.Action != "fail" {
		if e.Action == "pass" {
			fmt.Fprintf(out, "ok   %s %.1fs\n", e.Package, e.Elapsed)
		}
		return
	}
	if r.failedTests[e.Package] == 0 {
		r.failed++
	}
	fmt.Fprintf(out, "FAIL %s %.1fs\n%s%s", e.Package, e.Elapsed, r.kept(e.FailedBuild), r.kept(key))
}

func (r *report) appendTo(name string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open report: %w", err)
	}
	_, err = fmt.Fprintf(f, "passed %d\nfailed %d\n", r.passed, r.failed)
	return errors.Join(err, f.Close())
}
