// Package mcptest has the peers that tests talk to: MCP servers and clients
// that follow a script, of both protocol eras, over pipes, over HTTP and as
// child processes, with faults on command.
//
// It judges the product, so it knows nothing of it: it reads and writes JSON
// with encoding/json and a few string joins of its own, and keeps every payload
// as the bytes that came. Only tests (and the benchmark) may import it.
//
// A [Server] does what its [Script] says and what the caller of its tools asks;
// a [Fault] says what goes wrong for which message. A [Client] is as raw as a
// client can be: it shows status, headers, every message and every byte, and
// keeps a [Transcript], so that two runs of one session can be compared.
//
// A Server, a Client and a Transcript may be used concurrently; each waits for
// its own goroutines when it is closed, which those made with a testing.TB do
// when the test ends. Nothing but pipes and timers is waited on, so that
// everything that is in memory works inside a testing/synctest bubble.
package mcptest
