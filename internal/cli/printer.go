package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"golang.org/x/term"
)

// printer writes data to stdout and talk to stderr.
type printer struct {
	stdout, stderr io.Writer
	out, err       style // for each of them
	width          int   // of the terminal, 0 when stdout is none
	quiet          bool  // no talk: stderr is for the problem, as JSON
}

func newPrinter(env Env) *printer {
	p := &printer{stdout: env.Stdout, stderr: env.Stderr}
	plain := lookup(env.Environ, "NO_COLOR") != "" || lookup(env.Environ, "TERM") == "dumb"
	width, terminal := terminalWidth(env.Stdout)
	p.out.colour = terminal && !plain
	if terminal {
		p.width = width
	}
	_, terminal = terminalWidth(env.Stderr)
	p.err.colour = terminal && !plain
	return p
}

func terminalWidth(w io.Writer) (width int, terminal bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		width = 80
	}
	return width, true
}

// lookup returns the last value of a variable, as the system does.
func lookup(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value = v
		}
	}
	return value
}

// painted is text that may hold our own colours and no words of others. All other
// text is made safe on its way out.
type painted string

// style colours words, or leaves them as they are.
type style struct{ colour bool }

func (s style) paint(text string, st lipgloss.Style) painted {
	if text = safe(text); s.colour && text != "" {
		text = st.Render(text)
	}
	return painted(text)
}

// The colours are those of the terminal's own palette, so that they can be read
// on its background.
func (s style) good(text string) painted  { return s.paint(text, colour("2")) }
func (s style) warn(text string) painted  { return s.paint(text, colour("3")) }
func (s style) bad(text string) painted   { return s.paint(text, colour("1")) }
func (s style) bold(text string) painted  { return s.paint(text, lipgloss.NewStyle().Bold(true)) }
func (s style) faint(text string) painted { return s.paint(text, lipgloss.NewStyle().Faint(true)) }

func colour(c string) lipgloss.Style { return lipgloss.NewStyle().Foreground(lipgloss.Color(c)) }

// printf writes a line of data for people.
func (p *printer) printf(format string, args ...any) { printSafe(p.stdout, format, args) }

// sayf writes a line of talk.
func (p *printer) sayf(format string, args ...any) {
	if !p.quiet {
		printSafe(p.stderr, format, args)
	}
}

func printSafe(w io.Writer, format string, args []any) {
	for i, arg := range args {
		switch v := arg.(type) {
		case painted:
			args[i] = string(v)
		case int, int64, uint64, bool:
		default:
			args[i] = safe(fmt.Sprint(v))
		}
	}
	_, _ = fmt.Fprintf(w, format+"\n", args...) // a reader that went away needs nothing
}

// verbatim is JSON that is written as it is.
type verbatim []byte

// MarshalJSON implements [json.Marshaler].
func (v verbatim) MarshalJSON() ([]byte, error) { return v, nil }

func encode(v any, indent string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Appendf(nil, "{\"error\": %q}\n", err)
	}
	return b.Bytes()
}

// data writes a value as JSON.
func (p *printer) data(v any) { p.raw(bytes.TrimSpace(encode(v, "  "))) }

// item writes a value of a stream as a line of JSON.
func (p *printer) item(v any) { p.raw(bytes.TrimSpace(encode(v, ""))) }

// raw writes JSON byte for byte. On a terminal the control characters that JSON
// allows in strings are escaped, which says the same.
func (p *printer) raw(text []byte) {
	if p.width > 0 {
		text = escapeControls(text)
	}
	_, _ = p.stdout.Write(append(bytes.Clone(text), '\n')) // a reader that went away needs nothing
}

func (p *printer) problemJSON(v any) {
	_, _ = p.stderr.Write(escapeControls(encode(v, "")))
}

// escapeControls escapes, in JSON, what a terminal could obey.
func escapeControls(text []byte) []byte {
	if bytes.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && hostile(r) }) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if r != '\n' && r != '\t' && hostile(r) && r <= 0xffff {
			fmt.Fprintf(&b, "\\u%04x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.Bytes()
}

// hostile tells whether a terminal does something at r, other than showing it:
// controls, and marks that turn the direction of writing.
func hostile(r rune) bool {
	switch {
	case r < 0x20, r >= 0x7f && r < 0xa0:
		return true
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
		return true
	}
	return false
}

// safe shows control characters in the words of others instead of letting a
// terminal obey them. Line breaks and tabs stay.
func safe(text string) string {
	if strings.IndexFunc(text, hostile) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range strings.ReplaceAll(text, "\r\n", "\n") {
		if hostile(r) && r != '\n' && r != '\t' {
			fmt.Fprintf(&b, "\\u%04x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// oneLine makes text fit for a cell of a table.
func oneLine(text string) string { return safe(strings.Join(strings.Fields(text), " ")) }

// table is rows of cells under a head.
type table struct {
	head []string
	rows [][]painted
}

// add adds a row, whose cells are strings or painted.
func (t *table) add(cells ...any) {
	row := make([]painted, len(cells))
	for i, cell := range cells {
		if p, ok := cell.(painted); ok {
			row[i] = p
			continue
		}
		row[i] = painted(oneLine(fmt.Sprint(cell)))
	}
	t.rows = append(t.rows, row)
}

const gap = "  "

// table writes t, aligned. The last column is cut where the terminal ends.
func (p *printer) table(t *table) {
	head := make([]painted, len(t.head))
	for i, h := range t.head {
		head[i] = p.out.faint(h)
	}
	rows := append([][]painted{head}, t.rows...)
	widths := make([]int, len(head))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], lipgloss.Width(string(cell)))
		}
	}
	for _, row := range rows {
		p.row(row, widths)
	}
}

func (p *printer) row(cells []painted, widths []int) {
	var line strings.Builder
	room := p.width
	for i, cell := range cells {
		if i == len(cells)-1 {
			if p.width > 0 {
				cell = cut(cell, room)
			}
			line.WriteString(string(cell))
			break
		}
		pad := max(0, widths[i]-lipgloss.Width(string(cell)))
		line.WriteString(string(cell) + strings.Repeat(" ", pad) + gap)
		room -= widths[i] + len(gap)
	}
	p.printf("%s", painted(strings.TrimRight(line.String(), " ")))
}

// cut shortens text to a width in cells. A terminal that is too narrow for
// anything has to wrap.
func cut(text painted, width int) painted {
	if width < 8 || lipgloss.Width(string(text)) <= width {
		return text
	}
	return painted(lipgloss.NewStyle().MaxWidth(width-1).Render(string(text)) + "…")
}

// fields writes names and values, strings or painted, under one another, without
// the empty ones.
func (p *printer) fields(pairs ...any) {
	width := 0
	var labels, values []string
	for pair := range slices.Chunk(pairs, 2) {
		value, ok := pair[1].(painted)
		if !ok {
			value = painted(safe(fmt.Sprint(pair[1])))
		}
		if label := fmt.Sprint(pair[0]); value != "" {
			labels, values = append(labels, label), append(values, string(value))
			width = max(width, len(label))
		}
	}
	for i, label := range labels {
		value := strings.ReplaceAll(values[i], "\n", "\n"+strings.Repeat(" ", width+len(gap)))
		p.printf("%s%s%s", p.out.faint(label+strings.Repeat(" ", width-len(label))), gap, painted(value))
	}
}
