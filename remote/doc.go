// Package remote is the typed client of a running Shannon: a [Client] is a
// [shannon.Manager] over the management API. [Connect] finds the daemon of a
// home folder, [New] reaches any other, and [Embed] talks over memory to an API
// in this process, so that a program has one way in whether a daemon runs or not.
//
// Errors come back as the [shannon.Error] that the manager returned: code,
// message, hint, JSON-RPC error object and MayHaveRun. Secrets go in and never
// come back. It knows the API's bytes and nothing of how a manager works.
//
// A Client may be used concurrently, and should be closed.
package remote
