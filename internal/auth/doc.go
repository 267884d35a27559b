// Package auth says who calls. A [Gate] stands in front of every listener: it
// refuses requests that a browser was tricked into (Host and Origin), then asks
// for the bearer token where the listener wants one, and notes the principal for
// those behind it. [CheckListen] says which addresses may be listened on at all.
//
// It knows nothing of what it guards: neither routes, but for the two health
// probes, nor servers. A refusal is handed to the [Deny] of the listener, which
// says it in the listener's own language.
//
// All of it may be used concurrently. Admission does no I/O but a stat of the
// token file once a second.
package auth
