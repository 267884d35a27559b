// Package process runs child processes that cannot outlive us. All operating
// system code of Shannon is here.
//
// A [Host] is one owner of children: a daemon, or a manager embedded in another
// program. A [Child] is one process and everything it started, its tree: the
// descendants, the members of its process group, and whatever carries its mark, an
// environment variable that descendants inherit. Wrappers and browsers leave their
// group, and double forks leave the line of descent, so no single one of the three
// would do. [Child.Stop] ends the whole tree.
//
// What if nobody is left to call Stop? On Linux there are three lines of defence.
// Children are forked on one locked thread that lives as long as the host, with
// SIGKILL as parent-death signal. [Keep] puts a process above the daemon that
// inherits what a dying daemon leaves behind, and kills it. And a record of each
// child lies on disk, so that [NewHost] finds by mark and start time what a dead
// owner left, and touches nothing else; only an orphan that has dropped its mark
// cannot be told from a stranger then. On macOS there are groups, marks and records;
// a Windows child sits in a job object that ends with its last handle. Containers
// are no descendants of whoever started them; their owner ends them.
//
// A process is always named by pid and start time, and checked again at the moment
// of signalling, since numbers are used anew.
//
// The package must not know what is spoken over the pipes. All exported methods may
// be called from several goroutines. Every goroutine started here has ended when
// [Host.Close] returns nil.
package process
