package process

import (
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", lineLimit)
	for name, tc := range map[string]struct {
		in         string
		want, tail []string
	}{
		"lines":          {"a\nb\r\n\nc", []string{"a", "b", "", "c"}, []string{"a", "b", "", "c"}},
		"exactly":        {long + "\nb\n", []string{long, "b"}, []string{"b"}},
		"too long":       {long + "yyy\nb\n", []string{long, "b"}, []string{"b"}},
		"much too long":  {strings.Repeat(long, 3) + "\nb", []string{long, "b"}, []string{"b"}},
		"too long, ends": {long + "yyy", []string{long}, []string{long[:tailBytes]}},
		"not UTF-8":      {"a\xffb\n", []string{"a\xffb"}, []string{"a?b"}},
		"tail":           {strings.Repeat("z\n", 25), strings.Split(strings.Repeat("z", 25), ""), strings.Split(strings.Repeat("z", 20), "")},
	} {
		for _, chunk := range []int{1, 7, 4096, 1 << 20} {
			var got []string
			l := &lines{emit: func(b []byte) { got = append(got, string(b)) }}
			for in := tc.in; in != ""; {
				n := min(chunk, len(in))
				_, _ = io.WriteString(writer{l}, in[:n])
				in = in[n:]
			}
			l.end()
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("%s by %d: (-want +got)\n%s", name, chunk, d)
			}
			if d := cmp.Diff(tc.tail, l.last()); d != "" {
				t.Errorf("%s by %d: tail (-want +got)\n%s", name, chunk, d)
			}
			if cap(l.partial) > 2*lineLimit {
				t.Errorf("%s by %d: holds %d bytes", name, chunk, cap(l.partial))
			}
		}
	}
}

type writer struct{ io.Writer }

func TestLastLineThatHasNotEnded(t *testing.T) {
	var l lines
	_, _ = l.Write([]byte("a\nPassword: "))
	if d := cmp.Diff([]string{"a", "Password: "}, l.last()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestBaseEnv(t *testing.T) {
	in := []string{
		"HOME=/h", "PATH=/bin", "LC_ALL=C", "XDG_RUNTIME_DIR=/run", "https_proxy=p", "HTTPS_PROXY=p", "SSL_CERT_FILE=f",
		"AWS_SECRET_ACCESS_KEY=s", "SHANNON_MARK=m", "SHANNON_KEEPER=1", "LD_PRELOAD=x", "HOMEPAGE=x", "LC_", "=C:=x",
	}
	if runtime.GOOS == "windows" {
		t.Skip("names compare otherwise")
	}
	if d := cmp.Diff(in[:7], BaseEnv(in)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"A=1", "M=old", "B=2", "A=3", "M=older"}, "M", "new")
	if d := cmp.Diff([]string{"B=2", "A=3", "M=new"}, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestParseRecord(t *testing.T) {
	owner := strings.Repeat("ab", 16)
	for text, ok := range map[string]bool{
		`{"owner":"` + owner + `","mark":"` + owner + `.1"}`: true,
		`{"owner":"` + owner + `","mark":"other.1"}`:         false,
		`{"owner":"","mark":".1"}`:                           false,
		`{`:                                                  false,
		``:                                                   false,
	} {
		if _, got := parseRecord([]byte(text)); got != ok {
			t.Errorf("parseRecord(%s) = %v", text, got)
		}
	}
}
