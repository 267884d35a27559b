package catalog

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon/internal/wire"
)

func def(name string) []byte {
	b, _ := json.Marshal(map[string]any{"name": name, "description": "d", "big": json.Number("9007199254740993")})
	return b
}

func TestPublicNames(t *testing.T) {
	form := regexp.MustCompile(`^[A-Za-z0-9_-]{1,48}$`)
	s := Build([]Part{
		{ServerID: "2", Server: "b", Prefix: "b__", Tools: [][]byte{def("add"), def("with.dot"), def(strings.Repeat("x", 60)), def("add"), []byte(`{"title":"no name"}`)}},
		{ServerID: "1", Server: "a", Prefix: "", Tools: [][]byte{def("same"), def("héllo")}},
		{ServerID: "3", Server: "c", Prefix: "", Tools: [][]byte{def("same")}},
	}, DefaultMaxName)
	var got []string
	for _, tool := range s.Tools() {
		got = append(got, tool.Server+":"+tool.Name+"="+tool.Public)
		if !form.MatchString(tool.Public) {
			t.Errorf("public name %q is not allowed", tool.Public)
		}
		back, ok := s.Route(tool.Public)
		if !ok || back.Server != tool.Server || back.Name != tool.Name {
			t.Errorf("%s leads to %v", tool.Public, back)
		}
		var m map[string]any
		if err := json.Unmarshal(tool.Offered, &m); err != nil || m["name"] != tool.Public {
			t.Errorf("offered definition %s: %v", tool.Offered, err)
		}
		if !strings.Contains(string(tool.Offered), "9007199254740993") {
			t.Errorf("the definition was altered: %s", tool.Offered)
		}
	}
	want := []string{
		"b:add=b__add",
		"b:with.dot=b__with_dot_" + tail(t, "b", "with.dot"),
		"b:" + strings.Repeat("x", 60) + "=b__" + strings.Repeat("x", 36) + "_" + tail(t, "b", strings.Repeat("x", 60)),
		"a:héllo=h_llo_" + tail(t, "a", "héllo"),
		"a:same=same",
		"c:same=same_" + tail(t, "c", "same"),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if n := len(s.Conflicts()); n != 3 {
		t.Errorf("conflicts: %v", s.Conflicts())
	}
	if _, ok := s.Route("nothing"); ok {
		t.Error("an unknown name leads somewhere")
	}
}

func tail(t *testing.T, server, tool string) string {
	t.Helper()
	h := hashed(server, "", tool, DefaultMaxName)
	return h[1:]
}

func TestPagesCoverEverythingOnce(t *testing.T) {
	var defs [][]byte
	for i := range 25 {
		defs = append(defs, def(fmt.Sprintf("t%02d", i)))
	}
	s := Build([]Part{{ServerID: "1", Server: "a", Prefix: "a__", Tools: defs}}, DefaultMaxName)
	for _, limit := range []int{1, 7, 25, 100} {
		after, n := "", 0
		for {
			page, next := s.Page(after, limit)
			n += len(page)
			items, cursor, ok := wire.ParseList(AppendList(nil, page, next), "tools")
			if !ok || len(items) != len(page) || cursor != next {
				t.Fatalf("limit %d: the encoded page does not read back", limit)
			}
			if next == "" {
				break
			}
			after = next
		}
		if n != 25 {
			t.Errorf("limit %d: %d tools", limit, n)
		}
	}
	// A name that is gone meanwhile leads on to what follows it.
	if page, _ := s.Page("a__t05x", 1); page[0].Public != "a__t06" {
		t.Errorf("got %s", page[0].Public)
	}
}

func FuzzNamesAreInjective(f *testing.F) {
	f.Add("tool", "tool.", "päth", uint8(0))
	f.Add("a__b", "a_b", strings.Repeat("y", 80), uint8(2))
	f.Fuzz(func(t *testing.T, x, y, z string, prefixes uint8) {
		parts := []Part{}
		for i, server := range []string{"one", "two", "three"} {
			p := Part{ServerID: fmt.Sprint(i), Server: server, Prefix: server + "__", Tools: [][]byte{def(x), def(y), def(z)}}
			if prefixes&(1<<i) != 0 {
				p.Prefix = ""
			}
			parts = append(parts, p)
		}
		s := Build(parts, DefaultMaxName)
		seen := map[string]bool{}
		for _, tool := range s.Tools() {
			if seen[tool.Public] || len(tool.Public) > DefaultMaxName {
				t.Fatalf("public name %q", tool.Public)
			}
			seen[tool.Public] = true
		}
		parts[0], parts[2] = parts[2], parts[0]
		if d := cmp.Diff(s.Tools(), Build(parts, DefaultMaxName).Tools()); d != "" {
			t.Fatal("the order of the parts matters", d)
		}
	})
}
