package mcptest

import (
	"encoding/json"
	"slices"
	"time"
)

// Script says what a [Server] is and does. The zero Script is a well-behaved
// server of both eras with every tool. It travels as JSON to child processes.
type Script struct {
	Name         string          `json:"name,omitempty"`         // of serverInfo; "fake" when empty
	Instructions string          `json:"instructions,omitempty"` //
	Versions     []string        `json:"versions,omitempty"`     // that it speaks, which sets its eras; all when empty
	Capabilities json.RawMessage `json:"capabilities,omitempty"` // in place of its own

	Only     []string          `json:"only,omitempty"`     // names of the tools that it offers; all when nil
	Tools    []json.RawMessage `json:"tools,omitempty"`    // further definitions; calling one echoes
	PageSize int               `json:"pageSize,omitempty"` // of lists; 0 is one page
	TTL      int               `json:"ttl,omitempty"`      // ttlMs of cacheable results
	Scope    string            `json:"scope,omitempty"`    // cacheScope; "public" when empty
	Serial   bool              `json:"serial,omitempty"`   // reads nothing more while a call runs

	Faults []Fault `json:"faults,omitempty"` // armed from the start

	HTTP  HTTPScript  `json:"http,omitzero"`
	Child ChildScript `json:"child,omitzero"`
}

// HTTPScript is the part of a Script that concerns Streamable HTTP.
type HTTPScript struct {
	Token     string `json:"token,omitempty"`     // bearer token that it wants
	Replies   string `json:"replies,omitempty"`   // "json", "sse", or "" for SSE only where something precedes the reply
	Resumable bool   `json:"resumable,omitempty"` // legacy streams have event ids and can be resumed
	Retry     int    `json:"retry,omitempty"`     // retry field of legacy streams, in ms
}

// ChildScript is the part of a Script that concerns a child process.
type ChildScript struct {
	Listen     string `json:"listen,omitempty"`     // serve HTTP there instead; the first line of stdout is the URL
	Stderr     string `json:"stderr,omitempty"`     // printed at start
	Noise      string `json:"noise,omitempty"`      // printed to stdout at start
	DelayMS    int    `json:"delayMs,omitempty"`    // before it reads anything
	Exit       int    `json:"exit,omitempty"`       // exit at start with this code, if not 0
	ExitUntil  string `json:"exitUntil,omitempty"`  // but only until a file of this name exists
	IgnoreTerm bool   `json:"ignoreTerm,omitempty"` // survive SIGTERM
	IgnoreEOF  bool   `json:"ignoreEof,omitempty"`  // survive the end of stdin
}

// Do is what goes wrong.
type Do string

// What can go wrong, over any transport.
const (
	Silence   Do = "silence"   // never answer
	Error     Do = "error"     // answer the error object Raw
	Result    Do = "result"    // answer the result Raw, of whatever shape
	Raw       Do = "raw"       // write Raw in place of the message; {id} stands for the id
	Late      Do = "late"      // answer rightly after MS, cancelled or not
	OtherID   Do = "other-id"  // answer with an id nobody used
	Twice     Do = "twice"     // answer twice
	Huge      Do = "huge"      // answer with a result of Bytes bytes
	BadUTF8   Do = "bad-utf8"  // answer with a string that is no UTF-8
	Noise     Do = "noise"     // write the line Raw, then answer; on byte streams only
	Crash     Do = "crash"     // write half of the answer, then die
	Exit      Do = "exit"      // die with Code before answering
	Multiline Do = "multiline" // answer with raw line breaks between tokens; over HTTP only
)

// What can go wrong over HTTP. The methods GET and DELETE can be named too.
const (
	Status Do = "status" // answer with Status, Header and the body Raw
	Forget Do = "forget" // lose all sessions, so that the answer is 404
	Cut    Do = "cut"    // cut the connection in the middle of the body, or before a bodiless answer
	Slow   Do = "slow"   // spread the body over MS
	Label  Do = "label"  // answer with other headers, such as Content-Type
)

// stage is when a fault happens.
type stage int

const (
	onArrival stage = iota // before the message matters
	onAnswer               // to the answer, over any transport
	onBody                 // to the HTTP response that carries the answer
)

func (d Do) stage() stage {
	switch d {
	case Status, Forget:
		return onArrival
	case Cut, Slow, Label:
		return onBody
	}
	return onAnswer
}

// Fault says what goes wrong for which messages.
type Fault struct {
	Do     Do     `json:"do"`
	Method string `json:"method,omitempty"` // only for this method; any when empty
	Name   string `json:"name,omitempty"`   // only where params.name is this
	Skip   int    `json:"skip,omitempty"`   // let so many pass first
	Times  int    `json:"times,omitempty"`  // happen so often; 0 is always

	MS     int               `json:"ms,omitempty"`
	Code   int               `json:"code,omitempty"`
	Status int               `json:"status,omitempty"`
	Bytes  int               `json:"bytes,omitempty"`
	Raw    string            `json:"raw,omitempty"`
	Header map[string]string `json:"header,omitempty"`
}

func (f *Fault) delay() time.Duration { return time.Duration(f.MS) * time.Millisecond }

// versions returns those that the script speaks of one era, newest last.
func (s *Script) versions(modern bool) []string {
	all := s.Versions
	if len(all) == 0 {
		all = Versions
	}
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool { return isModern(v) != modern })
}
