// Package catalog knows who offers what under which public name.
//
// A [Snapshot] is computed from what each server offers ([Part]) and never
// changes: a new one is built and swapped in whole, so a reader needs no lock and
// never sees half a change. Building is pure; the order of its parts does not
// matter. The package knows names and definitions as bytes; it knows no server,
// no connection and no protocol era.
package catalog

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// DefaultMaxName is how long a public name may be: clients put their own prefix
// in front and cut at 60 to 64 characters.
const DefaultMaxName = 48

// Part is what one server offers.
type Part struct {
	ServerID string
	Server   string // its name
	Prefix   string // what stands before public names, "" or ending in "__"
	Tools    [][]byte
}

// Tool is one offered tool.
type Tool struct {
	ServerID   string
	Server     string
	Name       string // the server's own name for it
	Public     string
	Definition []byte // as the server gave it
	Offered    []byte // the same with the public name
}

// Conflict is a tool that could not have the public name that it should have.
type Conflict struct {
	Server, Tool string
	Wanted       string // what it should have been called
	Public       string // what it is called; "" when it is not offered at all
	Reason       string
}

// Snapshot is who offers what, at one moment.
type Snapshot struct {
	tools     []Tool // by public name
	conflicts []Conflict
}

// Build computes the snapshot of the parts. Public names are the prefix and the
// tool's name in the letters [A-Za-z0-9_-], at most maxName of them; a name that
// has to be changed ends in "_" and eight hex digits of SHA-256 of server and
// tool, so it stays the same whatever else is offered. Where two servers want one
// name, the first by server name keeps it.
func Build(parts []Part, maxName int) *Snapshot {
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.ServerID, b.ServerID))
	})
	b := builder{max: maxName, taken: map[string]bool{}}
	for i := range parts {
		b.add(&parts[i])
	}
	slices.SortFunc(b.s.tools, func(a, c Tool) int { return cmp.Compare(a.Public, c.Public) })
	return &b.s
}

type builder struct {
	s     Snapshot
	max   int
	taken map[string]bool
}

func (b *builder) add(p *Part) {
	own := map[string]bool{}
	for _, def := range p.Tools {
		at, ok := wire.MemberAt(def, "name", wire.FieldName)
		name, isText := wire.Unquote(def[at.Start:at.End])
		if !ok || !isText || name == "" || own[name] {
			b.s.conflicts = append(b.s.conflicts, Conflict{Server: p.Server, Tool: name, Reason: "the definition has no usable name of its own"})
			continue
		}
		own[name] = true
		t := Tool{ServerID: p.ServerID, Server: p.Server, Name: name, Definition: def}
		wanted := p.Prefix + name
		t.Public = Public(p.Server, wanted, name, b.max)
		if b.taken[t.Public] {
			t.Public = hashed(p.Server, wanted, name, b.max)
			if b.taken[t.Public] {
				b.s.conflicts = append(b.s.conflicts, Conflict{p.Server, name, wanted, "", "another server has that name"})
				continue
			}
			b.s.conflicts = append(b.s.conflicts, Conflict{p.Server, name, wanted, t.Public, "another server has that name"})
		}
		b.taken[t.Public] = true
		t.Offered = def
		if t.Public != name {
			t.Offered = wire.Splice(nil, def, wire.Edit{At: at, With: wire.AppendString(nil, t.Public)})
		}
		b.s.tools = append(b.s.tools, t)
	}
}

// Public returns the public name for what should be called wanted.
func Public(server, wanted, tool string, maxName int) string {
	if len(wanted) <= maxName && strings.IndexFunc(wanted, notAllowed) < 0 {
		return wanted
	}
	return hashed(server, wanted, tool, maxName)
}

func hashed(server, wanted, tool string, maxName int) string {
	// The separator cannot be part of a server's name.
	sum := sha256.Sum256([]byte(server + "\x00" + tool))
	tail := "_" + hex.EncodeToString(sum[:4])
	clean := strings.Map(func(r rune) rune {
		if notAllowed(r) {
			return '_'
		}
		return r
	}, wanted)
	return clean[:min(len(clean), max(0, maxName-len(tail)))] + tail
}

func notAllowed(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
}

// Route finds the tool of that public name.
func (s *Snapshot) Route(public string) (Tool, bool) {
	i, ok := s.find(public)
	if !ok {
		return Tool{}, false
	}
	return s.tools[i], true
}

func (s *Snapshot) find(public string) (int, bool) {
	return slices.BinarySearchFunc(s.tools, public, func(t Tool, name string) int { return cmp.Compare(t.Public, name) })
}

// Tools returns all tools by public name. The slice must not be changed.
func (s *Snapshot) Tools() []Tool { return s.tools }

// Conflicts tells what is not offered under the name that it should have.
func (s *Snapshot) Conflicts() []Conflict { return s.conflicts }

// Page returns the tools that come behind the name after, at most limit of them,
// and the name to go on behind, "" at the end. Because it goes by names, a page
// stays right when the catalog changes between two pages.
func (s *Snapshot) Page(after string, limit int) (page []Tool, next string) {
	i := 0
	if after != "" {
		var found bool
		if i, found = s.find(after); found {
			i++
		}
	}
	page = s.tools[i:min(len(s.tools), i+limit)]
	if i+len(page) < len(s.tools) {
		next = page[len(page)-1].Public
	}
	return page, next
}

// AppendList appends a list result: the offered definitions and the cursor.
func AppendList(dst []byte, page []Tool, cursor string) []byte {
	size := 64
	for i := range page {
		size += len(page[i].Offered) + 1
	}
	dst = slices.Grow(dst, size)
	dst = append(dst, `{"tools":[`...)
	for i := range page {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, page[i].Offered...)
	}
	dst = append(dst, ']')
	if cursor != "" {
		dst = wire.AppendString(append(dst, `,"nextCursor":`...), cursor)
	}
	return append(dst, '}')
}
