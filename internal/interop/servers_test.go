//go:build interop

package interop_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// call is a call of a tool and what its result must contain.
type call struct{ tool, args, want string }

// reference is a server that others have written, and what is done with it.
type reference struct {
	name    string
	add     []string // what follows "shannon add NAME"
	tools   int
	era     string
	process string // a word of its command line; "" where it is no child of ours
	calls   []call
	set     []string // a change,
	changed call     // which this call shows,
	shows   string   // or, if not "", this text in its tools
	broken  call     // a call that the server itself answers with an error
}

func realServers(t *testing.T, d *daemon) []reference {
	t.Helper()
	files, other := filepath.Join(d.work, "files"), filepath.Join(d.work, "other")
	for _, folder := range []string{files, other} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	note := filepath.Join(files, "note.txt")
	web, err := freeAddress()
	if err == nil {
		_, port, _ := strings.Cut(web, ":")
		err = errors.Join(d.background("PORT="+port, bin("mcp-server-everything"), "streamableHttp"), listens(web))
	}
	if err != nil {
		t.Fatal(err)
	}
	everything := []call{
		{"echo", `{"message":"Grüße, 世界 \u0001 9007199254740993"}`, `Echo: Grüße, 世界`},
		{"get-sum", `{"a":2,"b":40}`, `The sum of 2 and 40 is 42.`},
		{"trigger-long-running-operation", `{"duration":0.5,"steps":2}`, `Duration: 0.5 seconds, Steps: 2.`},
		{"get-tiny-image", `{}`, `"mimeType":"image/png"`},
		{"get-structured-content", `{"location":"Chicago"}`, `"structuredContent":{`},
	}
	return []reference{
		{
			name: "everything", add: []string{"--", bin("mcp-server-everything")}, tools: 13, era: "legacy", process: "server-everything",
			calls:   everything,
			set:     []string{"env.INTEROP_GREETING=guten Tag"},
			changed: call{"get-env", `{}`, `\"INTEROP_GREETING\": \"guten Tag\"`},
			broken:  call{"get-sum", `{"a":"x"}`, `"isError":true`},
		},
		{
			name: "files", add: []string{"--", bin("mcp-server-filesystem"), files}, tools: 14, era: "legacy", process: "server-filesystem",
			calls: []call{
				{"write_file", jsonArgs("path", note, "content", "first\nsecond\n"), `Successfully wrote`},
				{"read_file", jsonArgs("path", note), `first\nsecond\n`},
				{"list_directory", jsonArgs("path", files), `[FILE] note.txt`},
			},
			set:     []string{"args=" + jsonList(other)},
			changed: call{"list_allowed_directories", `{}`, other},
			broken:  call{"read_file", jsonArgs("path", note), `"isError":true`}, // outside of the new folder
		},
		{
			name: "memory", add: []string{"-e", "MEMORY_FILE_PATH=" + filepath.Join(d.work, "memory.jsonl"), "--", bin("mcp-server-memory")},
			tools: 9, era: "legacy", process: "server-memory",
			calls: []call{
				{"create_entities", `{"entities":[{"name":"Ada","entityType":"person","observations":["wrote notes"]}]}`, `"Ada"`},
				{"read_graph", `{}`, `"entities":[{"name":"Ada","entityType":"person","observations":["wrote notes"]}]`},
			},
			set:     []string{"env.MEMORY_FILE_PATH=" + filepath.Join(d.work, "empty.jsonl")},
			changed: call{"read_graph", `{}`, `"structuredContent":{"entities":[],"relations":[]}`},
			broken:  call{"create_entities", `{"entities":1}`, `"isError":true`},
		},
		{
			name: "web", add: []string{"http://" + web + "/mcp"}, tools: 13, era: "legacy",
			calls: everything, set: []string{"timeout=20"}, changed: everything[0],
			broken: call{"get-sum", `{"a":"x"}`, `"isError":true`},
		},
		{
			name: "time", add: []string{"--", tools("venv", "bin", "mcp-server-time"), "--local-timezone", "Europe/Berlin"},
			tools: 2, era: "modern", process: "mcp-server-time",
			calls: []call{
				{"get_current_time", `{"timezone":"UTC"}`, `"timezone":"UTC"`},
				{"convert_time", `{"source_timezone":"Asia/Tokyo","time":"12:00","target_timezone":"UTC"}`, `"time_difference":"-9.0h"`},
			},
			set:     []string{"args=" + jsonList("--local-timezone", "Asia/Tokyo")},
			changed: call{"get_current_time", `{"timezone":"Asia/Tokyo"}`, `"timezone":"Asia/Tokyo"`}, shows: `'Asia/Tokyo' as local timezone`,
			broken: call{"get_current_time", `{"timezone":"Nowhere/Else"}`, `"isError":true`},
		},
	}
}

func jsonArgs(pairs ...string) string {
	object := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		object[pairs[i]] = pairs[i+1]
	}
	text, _ := json.Marshal(object) // strings always can
	return string(text)
}

func jsonList(words ...string) string {
	text, _ := json.Marshal(words) // strings always can
	return string(text)
}

// TestServers does with each server what a person does: add, list, call, change,
// restart, remove.
func TestServers(t *testing.T) {
	d := newDaemon(t)
	servers := realServers(t, d)
	for _, s := range servers {
		s.added(t, d)
	}
	check(t, "all servers are listed together", func() error { return d.offersAll(servers) })
	check(t, "the clock of time is right", d.tellsTime)
	for _, s := range servers {
		s.changedAndRestarted(t, d)
	}
	check(t, "rename", d.renames)
	for _, s := range servers {
		s.removed(t, d)
	}
	check(t, "no server is left in the list", func() error {
		var left []any
		if err := d.query(&left, "ls"); err != nil || len(left) == 0 {
			return err
		}
		return fmt.Errorf("left: %v", left)
	})
	check(t, "the daemon stops", d.stop)
	check(t, "nothing is left running", func() error { return d.gone("") })
}

// expect makes a call and compares; one that is refused by the tool is no failure.
func (d *daemon) expect(c call, server string) error {
	got, err := d.call(server, c.tool, c.args)
	if err != nil && !strings.Contains(c.want, "isError") {
		return err
	}
	if !strings.Contains(got, c.want) {
		return errors.Join(fmt.Errorf("got %q, want it to contain %q", got, c.want), err)
	}
	return nil
}

// connected fails unless the server is connected with all of its tools.
func (s *reference) connected(d *daemon) error {
	got, err := d.status(s.name)
	if err != nil {
		return err
	}
	if got.State != "connected" || got.Tools != s.tools || got.Era != s.era || (s.process != "") != (got.PID > 0) {
		return fmt.Errorf("got %+v, want connected with %d tools, %s", got, s.tools, s.era)
	}
	return nil
}

func (s *reference) added(t *testing.T, d *daemon) {
	t.Helper()
	check(t, s.name+": add", func() error {
		args := []string{"add", s.name}
		if s.process != "" {
			args = append(args, "-e", d.marker())
		}
		text, err := d.run(append(args, s.add...)...)
		if want := fmt.Sprintf("%d tools", s.tools); err == nil && !strings.Contains(text, want) {
			return fmt.Errorf("it says %q and not %q", text, want)
		}
		return err
	})
	check(t, s.name+": status", func() error { return s.connected(d) })
	check(t, s.name+": tools", func() error {
		var got []struct{ Name string }
		if err := d.query(&got, "tools", s.name); err != nil {
			return err
		}
		if len(got) != s.tools {
			return fmt.Errorf("got %d tools, want %d: %v", len(got), s.tools, got)
		}
		return nil
	})
	for _, c := range s.calls {
		check(t, s.name+": call "+c.tool, func() error { return d.expect(c, s.name) })
	}
}

func (s *reference) changedAndRestarted(t *testing.T, d *daemon) {
	t.Helper()
	check(t, s.name+": change", func() error {
		if _, err := d.run(append([]string{"set", s.name}, s.set...)...); err != nil {
			return err
		}
		if s.shows != "" {
			if text, err := d.run("tools", s.name, "--json"); err != nil || !strings.Contains(text, s.shows) {
				return errors.Join(fmt.Errorf("%q is not in its tools: %s", s.shows, text), err)
			}
		}
		return d.expect(s.changed, s.name)
	})
	check(t, s.name+": error of a tool", func() error {
		got, err := d.call(s.name, s.broken.tool, s.broken.args)
		if err == nil {
			return fmt.Errorf("the exit code is 0: %s", got)
		}
		return d.expect(s.broken, s.name)
	})
	check(t, s.name+": restart", func() error {
		before, err := d.status(s.name)
		if err != nil {
			return err
		}
		if _, err = d.run("restart", s.name); err != nil {
			return err
		}
		after, err := d.status(s.name)
		if err == nil && s.process != "" && before.PID == after.PID {
			err = fmt.Errorf("pid %d is the same as before", after.PID)
		}
		return errors.Join(err, s.connected(d), d.expect(s.changed, s.name))
	})
	if s.process == "" || runtime.GOOS != "linux" {
		return
	}
	check(t, s.name+": one process runs, also after changes", func() error {
		all, err := d.processes()
		servers := slices.DeleteFunc(all, func(p string) bool {
			return !strings.Contains(p, s.process)
		})
		if err == nil && len(servers) != 1 {
			err = fmt.Errorf("got %q", servers)
		}
		return err
	})
}

func (s *reference) removed(t *testing.T, d *daemon) {
	t.Helper()
	check(t, s.name+": remove", func() error {
		if _, err := d.run("rm", s.name); err != nil {
			return err
		}
		if got, err := d.run("get", s.name); err == nil {
			return fmt.Errorf("it is still there: %s", got)
		}
		return nil
	})
	if s.process != "" && runtime.GOOS == "linux" {
		check(t, s.name+": its process is gone", func() error { return d.gone(s.process) })
	}
}

// offersAll compares the tools of all servers with those of each.
func (d *daemon) offersAll(servers []reference) error {
	var all []struct {
		Server     string `json:"server"`
		Name       string `json:"name"`
		PublicName string `json:"public_name"`
	}
	if err := d.query(&all, "tools"); err != nil {
		return err
	}
	want := 0
	for _, s := range servers {
		want += s.tools
	}
	for _, tool := range all {
		if tool.PublicName != tool.Server+"__"+tool.Name {
			return fmt.Errorf("%s of %s is called %s", tool.Name, tool.Server, tool.PublicName)
		}
	}
	if len(all) != want {
		return fmt.Errorf("got %d tools, want %d", len(all), want)
	}
	return nil
}

var dateTime = regexp.MustCompile(`"datetime":"([^"]*)"`)

// tellsTime compares the clock of the server "time" with ours.
func (d *daemon) tellsTime() error {
	got, err := d.call("time", "get_current_time", `{"timezone":"Asia/Tokyo"}`)
	if err != nil {
		return err
	}
	found := dateTime.FindStringSubmatch(got)
	if found == nil {
		return fmt.Errorf("no time in %s", got)
	}
	at, err := time.Parse(time.RFC3339, found[1])
	if err == nil && time.Since(at).Abs() > 10*time.Second {
		err = fmt.Errorf("%s is not now", at)
	}
	return err
}

// renames gives a server another name and back.
func (d *daemon) renames() error {
	if _, err := d.run("set", "everything", "name=all"); err != nil {
		return err
	}
	if err := d.expect(call{"echo", `{"message":"x"}`, "Echo: x"}, "all"); err != nil {
		return err
	}
	if _, err := d.status("everything"); err == nil {
		return errors.New("the old name is still known")
	}
	after, err := d.status("all")
	if err == nil && after.State != "connected" {
		err = fmt.Errorf("got %+v, want connected", after)
	}
	_, back := d.run("set", "all", "name=everything")
	return errors.Join(err, back)
}
