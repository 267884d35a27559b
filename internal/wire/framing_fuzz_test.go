package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// chopped gives its text in pieces whose sizes the fuzzer chooses; empty reads
// are among them, and the last piece may come with the end.
type chopped struct {
	text  []byte
	sizes []byte
	i     int
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.text) == 0 {
		return 0, io.EOF
	}
	size := len(c.text)
	if len(c.sizes) > 0 {
		size = int(c.sizes[c.i%len(c.sizes)])
		c.i++
		if c.i > 2*len(c.sizes)+8 { // the sizes may all be zero
			size = max(size, 1)
		}
	}
	n := copy(p[:min(size, len(p))], c.text)
	c.text = c.text[n:]
	if len(c.text) == 0 && len(c.sizes)%2 == 1 {
		return n, io.EOF
	}
	return n, nil
}

func allLines(t testing.TB, r io.Reader, limit, buffer int) []string {
	t.Helper()
	l := NewLineReader(r, limit)
	l.buf = make([]byte, buffer)
	var got []string
	for {
		line, err := l.Next()
		big, isBig := errors.AsType[*TooLargeError](err)
		switch {
		case isBig:
			got = append(got, fmt.Sprintf("too large: %s %d", big.ID, big.Kind))
		case err != nil:
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return got
		default:
			got = append(got, string(line))
		}
	}
}

// naiveLines says what a stream holds, over the whole of it.
func naiveLines(text []byte, limit int) []string {
	var want []string
	for line := range strings.SplitSeq(string(text), "\n") {
		whole := line
		line = strings.TrimSuffix(line, "\r")
		switch {
		case len(whole) > limit:
			id, kind := findID([]byte(line))
			want = append(want, fmt.Sprintf("too large: %s %d", id, kind))
		case line != "":
			want = append(want, line)
		}
	}
	return want
}

// FuzzLines makes sure that no message is lost, merged or split, however the
// stream is cut, and that those that are too large do not hurt the others.
func FuzzLines(f *testing.F) {
	for _, sizes := range []string{"", "\x01", "\x00\x03\x01", "\x07\x40"} {
		f.Add([]byte("{\"id\":1}\n\n\r\n{\"id\":2}\r\nlast"), []byte(sizes), uint8(8), uint8(4))
		f.Add([]byte(strings.Repeat("a", 40)+"{\"id\":1}\n{\"jsonrpc\":\"2.0\",\"x\":[\"\\\"}\"],\"id\" : \"a\"}\nb\n"), []byte(sizes), uint8(20), uint8(7))
		f.Add([]byte("{\"id\":7,\"method\":\""+strings.Repeat("x", 60)), []byte(sizes), uint8(20), uint8(7))
		f.Add([]byte("12345678\r\n123456789\n\r"), []byte(sizes), uint8(8), uint8(200))
	}
	f.Fuzz(func(t *testing.T, text, sizes []byte, limit, buffer uint8) {
		want := naiveLines(text, int(limit))
		got := allLines(t, &chopped{text: text, sizes: sizes}, int(limit), int(buffer)+1)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q in pieces of %v (-want +got):\n%s", text, sizes, diff)
		}
	})
}

func allEvents(t testing.TB, r io.Reader, limit, buffer int) []string {
	t.Helper()
	s := NewSSEReader(r, limit)
	s.buf = make([]byte, buffer)
	var got []string
	for {
		e, err := s.Next()
		big, isBig := errors.AsType[*TooLargeError](err)
		switch {
		case isBig:
			got = append(got, fmt.Sprintf("too large: %s %d", big.ID, big.Kind))
		case err != nil:
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return got
		default:
			got = append(got, showEvent(e))
		}
	}
}

func showEvent(e SSEEvent) string {
	return fmt.Sprintf("%q %q %v %q %v %v", e.Type, e.ID, e.HasID, e.Data, e.Data == nil, e.Retry)
}

// naiveEvents reads an event stream as the HTML standard says, over the whole of
// it. known is false when an event is near the limit, where lines count.
func naiveEvents(text string, limit int) (want []string, known bool) {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var e SSEEvent
	var data []string
	for _, line := range lines[:len(lines)-1] {
		if len(line) > limit {
			return nil, false
		}
		if line == "" {
			if data != nil {
				e.Data = []byte(strings.Join(data, "\n"))
			}
			if data != nil || e.HasID || e.Retry > 0 {
				want = append(want, showEvent(e))
			}
			e, data = SSEEvent{}, nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			data = append(data, value)
			if len(strings.Join(data, "\n")) > limit {
				return nil, false
			}
		case "event":
			e.Type = value
		case "id":
			if !strings.Contains(value, "\x00") {
				e.ID, e.HasID = value, true
			}
		case "retry":
			if n, err := strconv.ParseUint(value, 10, 31); err == nil {
				e.Retry = time.Duration(n) * time.Millisecond
			}
		}
	}
	return want, true
}

// FuzzSSE makes sure that no event is lost, merged or split, however the stream
// is cut.
func FuzzSSE(f *testing.F) {
	for _, sizes := range []string{"", "\x01", "\x00\x03\x01", "\x07\x40"} {
		f.Add([]byte("\ufeffdata: a\ndata:b\n\nevent: x\r\nid: 7\r\ndata\r\n\r\n: c\r\rretry: 5\r\rid\n\ndata: cut"), []byte(sizes), uint8(200), uint8(7))
		f.Add([]byte("data: {\"jsonrpc\":\"2.0\",\"id\":5,\ndata: \"result\":\""+strings.Repeat("x", 60)+"\"}\n\ndata: next\n\n"), []byte(sizes), uint8(24), uint8(7))
		f.Add([]byte("data: {\"jsonrpc\":\"2.0\",\"result\":\""+strings.Repeat("x", 60)+"\",\"id\":5}\r\n\r\ndata: next\r\n\r\n"), []byte(sizes), uint8(24), uint8(200))
		f.Add([]byte("data: 12345678\nevent: y\nid: 5\n\n: "+strings.Repeat("x", 60)+"\ndata: z\n\ndata: ok\n\n"), []byte(sizes), uint8(8), uint8(0))
	}
	f.Fuzz(func(t *testing.T, text, sizes []byte, limit, buffer uint8) {
		whole := allEvents(t, bytes.NewReader(text), int(limit), 1<<16)
		cut := allEvents(t, &chopped{text: text, sizes: sizes}, int(limit), int(buffer)+1)
		want, known := naiveEvents(string(text), int(limit))
		if !known {
			// Whether a line that is a little too long is an error depends on where
			// the stream is cut; that the same events come does not.
			want, whole, cut = nil, nil, nil
		}
		if diff := cmp.Diff(want, whole); diff != "" {
			t.Fatalf("%q in one piece (-want +got):\n%s", text, diff)
		}
		if diff := cmp.Diff(want, cut); diff != "" {
			t.Fatalf("%q in pieces of %v (-want +got):\n%s", text, sizes, diff)
		}
	})
}

func TestSSETooLarge(t *testing.T) {
	long := strings.Repeat("x", 1000)
	tests := []struct{ name, in string }{
		{"one line", `data: {"jsonrpc":"2.0","id":5,"result":"` + long + `"}`},
		{"id last", `data: {"jsonrpc":"2.0","result":"` + long + `","id":5}`},
		{"id before the long line", `data: {"jsonrpc":"2.0","id":5,` + "\ndata:" + `"result":"` + long + `"}`},
		{"id behind the long line", `data: {"jsonrpc":"2.0","result":"` + long + `",` + "\nid: 1\ndata:" + `"id":5}`},
		{"many short lines", `data: {"jsonrpc":"2.0","id":5,"result":[` + strings.Repeat("\ndata: 1,", 100) + "\ndata: 1]}"},
	}
	for _, tt := range tests {
		for _, buffer := range []int{1, 7, 4096} {
			t.Run(fmt.Sprint(tt.name, " ", buffer), func(t *testing.T) {
				in := "data: before\n\n" + tt.in + "\n\ndata: after\n\n"
				got := allEvents(t, strings.NewReader(in), 99, buffer)
				want := []string{
					showEvent(SSEEvent{Data: []byte("before")}),
					"too large: 5 " + strconv.Itoa(int(KindResult)),
					showEvent(SSEEvent{Data: []byte("after")}),
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestSSELimitIsOfTheData(t *testing.T) {
	in := ": " + strings.Repeat("c", 8) + "\ndata: 12345678\nevent: message\nid: 1\n\n"
	want := []string{showEvent(SSEEvent{Type: "message", ID: "1", HasID: true, Data: []byte("12345678")})}
	if diff := cmp.Diff(want, allEvents(t, strings.NewReader(in), 8, 64)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAppendSSERoundTrip(t *testing.T) {
	out := AppendSSE(nil, "message", "a/1", []byte(`{"a": 1}`))
	out = AppendSSE(out, "", "", []byte(`{}`))
	got := allEvents(t, bytes.NewReader(out), 100, 64)
	want := []string{
		showEvent(SSEEvent{Type: "message", ID: "a/1", HasID: true, Data: []byte(`{"a": 1}`)}),
		showEvent(SSEEvent{Data: []byte(`{}`)}),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestLinesReportTheReadError(t *testing.T) {
	l := NewLineReader(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(io.ErrUnexpectedEOF)), 10)
	for _, want := range []string{"a", "b"} {
		if line, err := l.Next(); string(line) != want || err != nil {
			t.Fatalf("%q, %v; want %q", line, err, want)
		}
	}
	if _, err := l.Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
}

func TestLinesAreNotShared(t *testing.T) {
	l := NewLineReader(strings.NewReader("aaaa\nbbbb\ncccc\n"), 10)
	l.buf = make([]byte, 8)
	first, _ := l.Next()
	for range 2 {
		if _, err := l.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if string(first) != "aaaa" {
		t.Fatalf("%q", first)
	}
}
