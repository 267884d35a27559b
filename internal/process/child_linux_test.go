package process_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	shannon "github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/process"
)

func TestStopEndsTheTree(t *testing.T) {
	h := newHost(t, t.TempDir())
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			tag := newTag(t)
			before := descriptors(t)
			c := start(t, h, shell(kind.script, tag))
			eventually(t, 5*time.Second, "all started", settled(tag, kind.count))
			e := c.Stop(t.Context())
			if left := tagged(tag); len(left) > 0 {
				t.Errorf("left after Stop: %v", left)
			}
			if z := zombies(os.Getpid()); len(z) > 0 {
				t.Errorf("zombies: %v", z)
			}
			if e.Signal == "" {
				t.Errorf("exit = %v, want a signal", e)
			}
			if n := descriptors(t); n > before {
				t.Errorf("%d descriptors before, %d after", before, n)
			}
			if again := c.Stop(t.Context()); again.Signal != e.Signal {
				t.Errorf("second Stop = %v, first %v", again, e)
			}
		})
	}
}

func TestStopIsGentleFirst(t *testing.T) {
	h := newHost(t, "")
	for name, tc := range map[string]struct {
		script, out string
		exit        process.Exit
	}{
		"ends with stdin":  {"cat; echo bye; exit 7", "hello\nbye\n", process.Exit{Code: 7}},
		"ends with TERM":   {"trap 'echo term; exit 8' TERM; echo up; while :; do sleep 0.01; done", "up\nterm\n", process.Exit{Code: 8}},
		"needs to be shot": {"trap 'echo term' TERM; echo up; while :; do sleep 0.01; done", "up\nterm\n", process.Exit{Code: -1, Signal: "SIGKILL"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := shell(tc.script, "")
			spec.Grace, spec.Term = 300*time.Millisecond, time.Second
			c := start(t, h, spec)
			var out bytes.Buffer
			var reading sync.WaitGroup
			if _, err := io.WriteString(c.Stdin(), "hello\n"); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 3)
			if _, err := io.ReadFull(c.Stdout(), b); err != nil { // it has come so far
				t.Fatal(err)
			}
			out.Write(b)
			reading.Go(func() {
				<-time.After(200 * time.Millisecond) // what it wrote last must wait for a slow reader
				_, _ = io.Copy(&out, c.Stdout())
			})
			e := c.Stop(t.Context())
			reading.Wait()
			if e.Code != tc.exit.Code || e.Signal != tc.exit.Signal {
				t.Errorf("exit = %v, want %v", e, tc.exit)
			}
			if out.String() != tc.out {
				t.Errorf("stdout = %q, want %q", out.String(), tc.out)
			}
		})
	}
}

func TestStopKillsWhenContextEnds(t *testing.T) {
	h, tag := newHost(t, ""), newTag(t)
	spec := shell("trap '' TERM; while :; do sleep 8640.TAG; done", tag)
	spec.Grace, spec.Term = time.Hour, time.Hour
	c := start(t, h, spec)
	eventually(t, 5*time.Second, "started", settled(tag, 2))
	var stops sync.WaitGroup
	for range 3 {
		stops.Go(func() {
			if e := c.Stop(context.WithoutCancel(t.Context())); e.Signal != "SIGKILL" {
				t.Errorf("patient Stop = %v", e)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if e := c.Stop(ctx); e.Signal != "SIGKILL" {
		t.Errorf("exit = %v", e)
	}
	stops.Wait()
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if left := tagged(tag); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestEndByItself(t *testing.T) {
	h := newHost(t, "")
	for name, tc := range map[string]struct {
		script string
		exit   process.Exit
		within time.Duration
	}{
		"exit code":                   {"echo oops >&2; exit 3", process.Exit{Code: 3, Stderr: []string{"oops"}}, time.Second},
		"no newline":                  {"printf oops >&2; exit 3", process.Exit{Code: 3, Stderr: []string{"oops"}}, time.Second},
		"signal":                      {"kill -SEGV $$", process.Exit{Code: -1, Signal: "SIGSEGV"}, time.Second},
		"grandchild holds the pipes":  {"sleep 8640.TAG & printf oops >&2; exit 4", process.Exit{Code: 4, Stderr: []string{"oops"}}, 2 * time.Second},
		"grandchild in another place": {"(setsid sh -c 'trap \"\" TERM; sleep 8640.TAG; sleep 8640.TAG' &) ; exit 5", process.Exit{Code: 5}, 2 * time.Second},
		"closes stdout, then ends":    {"exec >&-; sleep 0.1; exit 6", process.Exit{Code: 6}, 2 * time.Second},
		"shot with a wrapped process": {"sleep 8640.TAG & kill -KILL $$", process.Exit{Code: -1, Signal: "SIGKILL"}, 2 * time.Second},
		"shot, one without the mark":  {"env -i sleep 8640.TAG & sleep 0.2; kill -KILL $$", process.Exit{Code: -1, Signal: "SIGKILL"}, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			tag := newTag(t)
			c := start(t, h, shell(tc.script, tag))
			select {
			case <-c.Done():
			case <-time.After(tc.within):
				t.Fatal("not done")
			}
			e := c.Exit()
			if e.Code != tc.exit.Code || e.Signal != tc.exit.Signal || strings.Join(e.Stderr, "|") != strings.Join(tc.exit.Stderr, "|") {
				t.Errorf("exit = %+v, want %+v", e, tc.exit)
			}
			// Nobody has called Stop, and yet the rest is ended.
			eventually(t, 2*time.Second, "the rest ended", func() bool { return len(tagged(tag)) == 0 })
			if b, err := io.ReadAll(c.Stdout()); err != nil || len(b) > 0 {
				t.Errorf("stdout = %q, %v", b, err)
			}
			c.Stop(t.Context())
		})
	}
}

func TestStdoutClosedButAlive(t *testing.T) {
	h := newHost(t, "")
	spec := shell("exec >&-; read x; exit 0", "")
	spec.Grace = 5 * time.Second
	c := start(t, h, spec)
	if _, err := io.ReadAll(c.Stdout()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
		t.Fatalf("done: %v", c.Exit())
	case <-time.After(50 * time.Millisecond):
	}
	if e := c.Stop(t.Context()); e.Code != 0 {
		t.Errorf("exit = %v", e)
	}
}

// TestStdinThatNobodyReads: a writer that is stuck in a full pipe is freed by a
// deadline, and by Stop.
func TestStdinThatNobodyReads(t *testing.T) {
	h, tag := newHost(t, ""), newTag(t)
	c := start(t, h, shell("exec sleep 8640.TAG", tag))
	if err := c.Stdin().SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stdin().Write(make([]byte, 1<<20)); !os.IsTimeout(err) {
		t.Errorf("write = %v, want timeout", err)
	}
	_ = c.Stdin().SetWriteDeadline(time.Time{})
	stuck := make(chan error)
	go func() {
		_, err := c.Stdin().Write(make([]byte, 1<<20))
		stuck <- err
	}()
	c.Stop(t.Context())
	if err := <-stuck; err == nil {
		t.Error("the write went through")
	}
}

func TestStderrFlood(t *testing.T) {
	h := newHost(t, "")
	spec := shell("head -c 50000000 /dev/zero >&2; echo >&2; i=0; while [ $i -lt 30 ]; do echo line $i >&2; i=$((i+1)); done", "")
	var lengths []int
	spec.Stderr = func(line []byte) { lengths = append(lengths, len(line)) }
	c := start(t, h, spec)
	<-c.Done()
	e := c.Stop(t.Context())
	if len(lengths) != 31 || lengths[0] != 64<<10 {
		t.Errorf("%d lines, first %v", len(lengths), lengths[:1])
	}
	if len(e.Stderr) != 20 || e.Stderr[19] != "line 29" {
		t.Errorf("tail = %q", e.Stderr)
	}
}

func TestStartProblems(t *testing.T) {
	h := newHost(t, t.TempDir())
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	path := "PATH=" + dir + ":/nowhere"
	for name, tc := range map[string]struct {
		spec process.Spec
		code shannon.Code
		says string
	}{
		"not in PATH":         {process.Spec{Command: "no-such", Env: []string{path}}, shannon.CodeCommandNotFound, "/nowhere"},
		"no PATH":             {process.Spec{Command: "sh"}, shannon.CodeCommandNotFound, "no PATH"},
		"empty":               {process.Spec{}, shannon.CodeCommandNotFound, "empty"},
		"no such path":        {process.Spec{Command: "./no-such", Dir: dir}, shannon.CodeCommandNotFound, dir + "/no-such"},
		"a directory":         {process.Spec{Command: dir}, shannon.CodeSpawnFailed, "is a directory"},
		"not executable":      {process.Spec{Command: file("data", "x", 0o600)}, shannon.CodeSpawnFailed, "executable"},
		"in PATH, not so":     {process.Spec{Command: "data", Env: []string{path}}, shannon.CodeSpawnFailed, "executable"},
		"not a program":       {process.Spec{Command: file("garbage", "garbage", 0o700)}, shannon.CodeSpawnFailed, "#! line"},
		"no interpreter":      {process.Spec{Command: file("script", "#!/no/such -x\n", 0o700)}, shannon.CodeSpawnFailed, "/no/such"},
		"no directory":        {process.Spec{Command: "/bin/sh", Dir: dir + "/none"}, shannon.CodeSpawnFailed, "working directory"},
		"directory is a file": {process.Spec{Command: "/bin/sh", Dir: dir + "/data"}, shannon.CodeSpawnFailed, "not a directory"},
		"too long":            {process.Spec{Command: "/bin/sh", Args: []string{strings.Repeat("x", 1<<22)}}, shannon.CodeSpawnFailed, "longer"},
		"NUL":                 {process.Spec{Command: "/bin/sh", Args: []string{"\x00"}}, shannon.CodeSpawnFailed, "NUL"},
	} {
		t.Run(name, func(t *testing.T) {
			before := descriptors(t)
			_, err := h.Start(t.Context(), tc.spec)
			p := shannon.ProblemOf(err)
			if p == nil || p.Code != tc.code || !strings.Contains(p.Message+" "+p.Hint, tc.says) {
				t.Errorf("problem = %+v, want %s with %q", p, tc.code, tc.says)
			}
			if n := descriptors(t); n != before {
				t.Errorf("%d descriptors before, %d after", before, n)
			}
		})
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	tool := filepath.Join(dir, "bin", "tool")
	if err := os.Mkdir(filepath.Dir(tool), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tool, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Dir(tool)
	for name, tc := range map[string]struct{ command, path, dir, want string }{
		"in PATH":           {"tool", "/nowhere:" + bin, "", tool},
		"absolute":          {tool, "", "/nowhere", tool},
		"relative to dir":   {"./tool", "", bin, tool},
		"below dir":         {"bin/tool", "", dir, tool},
		"never in dir":      {"tool", "/nowhere", bin, ""},
		"relative entry":    {"tool", "bin:.:", dir, ""},
		"a directory there": {"bin", dir, "", ""},
	} {
		got, err := process.LookPath(tc.command, tc.path, tc.dir)
		if got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, err, tc.want)
		}
	}
}
