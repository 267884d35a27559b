package mcptest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-cmp/cmp"
)

// Transcript is every message that a client sent and got, in order.
type Transcript struct {
	mu      sync.Mutex
	entries []Entry
}

// Entry is one message of a Transcript.
type Entry struct {
	Sent    bool
	Message Message
	For     json.RawMessage // id of the request on whose stream it came, nil where none
	Noise   []byte          // what came and was no message
}

func (t *Transcript) add(e Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries = append(t.entries, e)
}

// Entries returns a copy of what was recorded so far.
func (t *Transcript) Entries() []Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.entries)
}

// Lines renders the exchange for comparison: for each request in the order of
// sending, what was sent, what came on its stream, and the reply, payloads as
// the bytes that came. Ids are left out, since a relay has its own; raw line
// breaks, which can only lie between tokens, are shown as spaces. What belongs
// to no request follows in the end. Methods in skip are left out, with all that
// came of them.
func (t *Transcript) Lines(skip ...string) []string {
	entries := t.Entries()
	var lines []string
	for _, e := range entries {
		if !e.Sent || !e.Message.IsRequest() || slices.Contains(skip, e.Message.Method) {
			continue
		}
		lines = append(lines, "> "+render(&e.Message))
		for _, came := range entries {
			if !came.Sent && came.Noise == nil && came.For != nil && string(came.For) == string(e.Message.ID) {
				lines = append(lines, "< "+render(&came.Message))
			}
		}
	}
	return append(lines, unrelated(entries, skip)...)
}

// unrelated renders what belongs to no request.
func unrelated(entries []Entry, skip []string) []string {
	var lines []string
	for _, e := range entries {
		switch {
		case slices.Contains(skip, e.Message.Method):
		case e.Noise != nil:
			lines = append(lines, fmt.Sprintf("? %q", e.Noise))
		case e.Sent && !e.Message.IsRequest():
			lines = append(lines, "> "+render(&e.Message))
		case !e.Sent && e.For == nil:
			lines = append(lines, "< "+render(&e.Message))
		}
	}
	return lines
}

func render(m *Message) string {
	var b strings.Builder
	b.WriteString(m.Method)
	for _, part := range []struct {
		name string
		raw  []byte
	}{{"params", m.Params}, {"result", m.Result}, {"error", m.Error}} {
		if part.raw != nil {
			fmt.Fprintf(&b, " %s=%s", part.name, oneLine(part.raw))
		}
	}
	return strings.TrimSpace(b.String())
}

// Diff compares two runs of the same session, "" when every payload is the same
// byte for byte. See [Transcript.Lines].
func Diff(direct, through *Transcript, skip ...string) string {
	return cmp.Diff(direct.Lines(skip...), through.Lines(skip...))
}
