package wire

import (
	"bytes"
	"iter"
	"unicode/utf8"
)

// Edit replaces what lies at a span; an empty span inserts.
type Edit struct {
	At   Span
	With []byte
}

// Splice appends raw to dst with the edits made, which must not overlap and be
// in the order of the text. Every byte outside of the edits stays as it is.
func Splice(dst, raw []byte, edits ...Edit) []byte {
	at := 0
	for _, e := range edits {
		dst = append(append(dst, raw[at:e.At.Start]...), e.With...)
		at = e.At.End
	}
	return append(dst, raw[at:]...)
}

// Flatten overwrites line breaks in a valid message by spaces, in place: in valid
// JSON they can only lie between tokens. It makes the message fit for framings
// that end at a line.
func Flatten(raw []byte) []byte {
	for _, c := range []byte{'\n', '\r'} {
		for i := 0; ; i++ {
			j := bytes.IndexByte(raw[i:], c)
			if j < 0 {
				break
			}
			i += j
			raw[i] = ' '
		}
	}
	return raw
}

// AppendString appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// Members yields the keys, decoded, and the values, as they stand, of a JSON
// object that is known to be valid. It yields nothing for anything else.
func Members(raw []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for quoted, value := range members(raw) {
			if key, _ := Unquote(quoted); !yield(key, value) {
				return
			}
		}
	}
}

// members is [Members] with the keys as they stand, too.
func members(raw []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		s := scanner{b: raw}
		if s.space(); s.i >= len(raw) || raw[s.i] != '{' {
			return
		}
		for s.i++; ; s.i++ { // behind { or ,
			s.space()
			start := s.i
			if s.i >= len(raw) || raw[s.i] != '"' {
				return
			}
			if _, err := s.str(); err != nil {
				return
			}
			key := raw[start:s.i:s.i]
			s.space()
			s.i++ // :
			s.space()
			start = s.i
			if s.value() != nil || !yield(key, raw[start:s.i:s.i]) {
				return
			}
			if s.space(); s.i >= len(raw) || raw[s.i] != ',' {
				return
			}
		}
	}
}

// Member returns the value of the first member with exactly that key, nil when
// there is none.
func Member(raw []byte, key string) []byte {
	for k, v := range Members(raw) {
		if k == key {
			return v
		}
	}
	return nil
}

// Elements yields the elements of a JSON array that is known to be valid. It
// yields nothing for anything else.
func Elements(raw []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s := scanner{b: raw}
		if s.space(); s.i >= len(raw) || raw[s.i] != '[' {
			return
		}
		for s.i++; ; s.i++ { // behind [ or ,
			s.space()
			start := s.i
			if s.i >= len(raw) || s.value() != nil || !yield(raw[start:s.i:s.i]) {
				return
			}
			if s.space(); s.i >= len(raw) || raw[s.i] != ',' {
				return
			}
		}
	}
}

// Batch splits a JSON-RPC batch, which only protocol version 2025-03-26 has,
// into its messages. false when raw is no array at all.
func Batch(raw []byte) (messages [][]byte, ok bool, err error) {
	s := scanner{b: raw}
	if s.space(); s.i >= len(raw) || raw[s.i] != '[' {
		return nil, false, nil
	}
	if !utf8.Valid(raw) {
		return nil, true, parseError(0, "the message is not valid UTF-8")
	}
	if err := s.array(); err != nil {
		return nil, true, err
	}
	if err := s.end(); err != nil {
		return nil, true, err
	}
	for m := range Elements(raw) {
		messages = append(messages, m)
	}
	if len(messages) == 0 {
		return nil, true, invalid("the batch is empty")
	}
	return messages, true, nil
}
