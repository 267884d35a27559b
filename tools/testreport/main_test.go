package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	tests := []struct {
		name                    string
		events                  string
		passed, failed, skipped int
		prints                  []string
	}{
		{
			name: "tests and subtests count",
			events: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA/x","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA/x"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":0.1}`,
			passed: 2, prints: []string{"ok   p 0.1s"},
		},
		{
			name: "a failing test does not count again for its package",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			failed: 1, prints: []string{"FAIL p TestA\nwhy"},
		},
		{
			name: "a package that does not build",
			events: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"a.go:1: undefined\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}`,
			failed: 1, prints: []string{"FAIL p", "a.go:1: undefined"},
		},
		{
			name: "skipped tests are named, packages without tests are not",
			events: `{"Action":"output","Package":"p","Test":"TestA","Output":"needs a terminal\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"q"}`,
			skipped: 1, prints: []string{"SKIP p TestA\nneeds a terminal"},
		},
		{name: "what is no event is shown", events: "go: no such module\n", prints: []string{"go: no such module"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newReport()
			var out strings.Builder
			if err := r.read(strings.NewReader(test.events), &out); err != nil {
				t.Fatal(err)
			}
			if r.passed != test.passed || r.failed != test.failed || r.skipped != test.skipped {
				t.Errorf("passed, failed, skipped = %d, %d, %d, want %d, %d, %d",
					r.passed, r.failed, r.skipped, test.passed, test.failed, test.skipped)
			}
			for _, want := range test.prints {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output has no %q:\n%s", want, out.String())
				}
			}
		})
	}
}
