package wire

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

func TestStreamEcho(t *testing.T) {
	cr, sw := io.Pipe()
	sr, cw := io.Pipe()
	go func() {
		b := bufio.NewScanner(sr)
		for b.Scan() {
			e, err := Scan([]byte(b.Text()))
			if err != nil {
				t.Error(err)
			}
			sw.Write([]byte("noise\n"))
			sw.Write(append(AppendResult(nil, e.Get(FieldID), e.Get(FieldParams)), '\n'))
		}
		sw.Close()
	}()
	var noise int
	s := NewStream(cr, cw, StreamOptions{MaxMessage: 1 << 20, Noise: func([]byte, error) { noise++ }})
	for range 3 {
		r, err := Author(nil, "x", []byte(`{"a":9007199254740993}`))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		got, err := s.Call(ctx, r, Outgoing{}, nil)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(got.Raw), `{"a":9007199254740993}`) {
			t.Fatalf("%s", got.Raw)
		}
	}
	s.End(io.EOF)
	s.Wait()
	if noise != 3 {
		t.Fatal(noise)
	}
}
