package process

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	const rest = " 10 20 20 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 100 200\n"
	for stat, want := range map[string]proc{
		"7 (sh) S" + rest:        {pid: 7, ppid: 10, pgid: 20, start: 12345},
		"7 (a) R (b\n) Z" + rest: {pid: 7, ppid: 10, pgid: 20, start: 12345, gone: true, exiting: true},
		"7 (threads run on) Z 10 20 20 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 12345 100": {pid: 7, ppid: 10, pgid: 20, start: 12345, exiting: true},
		"7 (dying) D 10 20 20 0 -1 4194564 1 2 3 4 5 6 7 8 20 0 3 0 12345 100":          {pid: 7, ppid: 10, pgid: 20, start: 12345, exiting: true},
	} {
		got, err := parseStat(7, []byte(stat))
		if err != nil || !cmp.Equal(want, got, cmp.AllowUnexported(proc{})) {
			t.Errorf("parseStat(%q) = %+v, %v", stat, got, err)
		}
	}
	for _, stat := range []string{"", "7 (sh", "7 (sh) S 1 2"} {
		if p, err := parseStat(7, []byte(stat)); err == nil {
			t.Errorf("parseStat(%q) = %+v", stat, p)
		}
	}
}

func TestLineage(t *testing.T) {
	procs := []proc{{pid: 1}, {pid: 2, ppid: 1}, {pid: 3, ppid: 2}, {pid: 4, ppid: 3}, {pid: 5, ppid: 1}}
	in := map[int]bool{2: true}
	descend(procs, in)
	if d := cmp.Diff(map[int]bool{2: true, 3: true, 4: true}, in); d != "" {
		t.Errorf("descendants (-want +got)\n%s", d)
	}
	if d := cmp.Diff(map[int]bool{1: true, 2: true, 3: true}, ancestors(procs, 3)); d != "" {
		t.Errorf("ancestors (-want +got)\n%s", d)
	}
}
