// Package cli is the command line: what people type, and what they read.
//
// Every command is a thin layer over [shannon.Manager] as remote.Client has it:
// the daemon's over its socket where one answers, else that of a manager that the
// command embeds in memory and closes. The package must not know how a manager
// works, and decides nothing about servers; it reads arguments, types them, asks,
// and shows the answer. Of package manager it uses the embedding, the
// configuration, the token and serve.
//
// Data goes to stdout, talk and errors to stderr. What a server wrote reaches a
// terminal only without control characters. Exit codes are made of errors in one
// place, exitCode. The outside world is one struct, [Env]; a run keeps its state in
// one app, which one goroutine uses.
package cli
