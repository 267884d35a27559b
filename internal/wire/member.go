package wire

// MemberAt returns where the value of the member with exactly that key lies in a
// valid JSON object. ok is false when there is none, and when there are several
// or one that a laxer reader could take for it.
func MemberAt(raw []byte, key string, field Field) (at Span, ok bool) {
	var e Envelope
	s := scanner{b: raw, e: &e}
	if s.space(); s.i >= len(raw) || raw[s.i] != '{' {
		return Span{}, false
	}
	if err := s.object(keyTable{{key, field}}); err != nil || s.ambiguous(key, field) != nil {
		return Span{}, false
	}
	return e.spans[field], e.Has(field)
}
