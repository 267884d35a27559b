// Package edge is where clients speak: Streamable HTTP of both eras on one
// address. What era a request is of is decided for each request alone, by what it
// carries; behind this package nobody knows. A legacy client gets a session that
// holds what its handshake said; a modern one states that with every request. An
// edge checks the envelope and the headers, answers what belongs to the era
// itself (initialize, ping, server/discover, subscriptions/listen, cancellation),
// and gives everything else to a [Backend] as a self-contained [wire.Request].
//
// It must not know servers, names, catalogs or permissions: who calls and from
// where was decided before, who answers is decided behind. Payloads pass as the
// bytes they are.
//
// The files are split along the seam for further edges: session, legacy, modern,
// listen and feed speak the protocol over no particular wire; server, exchange,
// headers, call and stream carry it over HTTP.
//
// All methods of [Server] may be called concurrently. A request is served by the
// goroutine that calls [Server.Serve]; a second one exists only while an answer
// streams, and ends before Serve returns. Locks are never held across I/O nor
// across a call of the Backend; their order is the Server's, a session's, a feed's.
package edge
