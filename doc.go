// Package shannon is the vocabulary of Shannon, a manager of MCP servers: what
// a server is, what state its connection is in, what went wrong, what happened,
// and the roles that a manager plays towards its callers.
//
// It holds words and contracts only. It imports nothing of this module, starts
// no goroutine and does no I/O; every other package may import it. Package
// manager implements [Manager] in this process, package remote implements it
// over the management API of a running daemon; one contract test runs on both.
//
// Values of this package are plain data. They may be copied freely and read from
// several goroutines as long as nobody writes.
package shannon
