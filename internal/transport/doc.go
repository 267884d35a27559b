// Package transport reaches MCP servers: it is the server edge, where protocol
// eras are spoken, and gives a [wire.Peer] that behind its methods knows none.
//
// A [Dialer] finds out which eras a server speaks (the probe), shakes hands and
// returns a live peer, or an error that names the problem, with nothing left
// running. Each way of reaching a server is a file with a function that Dial
// chooses by the target's kind: stdio.go, http.go. What they have in common is in
// era.go (what the answers of a handshake mean) and listen.go (the subscription
// that a modern peer holds open).
//
// The package must not know why a server is reached, when to try again, what a
// public name is, or who calls. It never retries a call that may have run, and
// opens no peer again: that is for whoever owns the peer.
//
// All methods of a Dialer and of its peers may be called concurrently. Goroutines
// belong to a peer, and [wire.Peer.Close] waits for all of them. [Hooks] are called
// by the goroutines that read, so they must not block.
package transport
