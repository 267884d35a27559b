// Package wire is the heart of Shannon: JSON-RPC messages as the bytes they are.
//
// A message is scanned once ([Scan]): the scanner checks the whole text (grammar,
// UTF-8, depth) and notes where the few members lie that Shannon routes on. It
// never copies or decodes a payload. A message is changed by [Splice], which
// replaces the noted spans and leaves every other byte as it was. What a scanner
// of another make could read differently (a routed key twice, in another case, or
// hidden behind an escape) is refused, so that the decision and the forwarded
// bytes cannot disagree.
//
// [Request], [Reply], [Sink] and [Peer] are the seam between the edges, where
// protocol eras are spoken, and the middle, which knows none. [Stream] is the
// multiplexer of a peer that is one stream of bytes; [LineReader] and [SSEReader]
// are the framings.
//
// Scanning and splicing are pure. An Envelope and the bytes behind it are
// immutable once they are handed on; types that run goroutines say so.
package wire
