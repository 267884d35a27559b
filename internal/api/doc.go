// Package api is the management API: a [shannon.Manager] over HTTP, under
// /api/v1, described by /api/openapi.json.
//
// The routes are a table ([api.routes]) from which both the serving and the
// description come. Bodies are read strictly: an unknown key or query parameter
// is refused by name. What belongs to servers (arguments, results, definitions,
// error objects) is carried as the bytes it was. Errors are problem documents
// (RFC 9457) with the code, message and hint of the [shannon.Error]; the one
// function that knows HTTP statuses is statusOf. Streams are server-sent events.
//
// The package must not know how a manager works, who the caller is (package
// auth stands before it) or what anything costs. A handler keeps no state
// between requests; what limits a long operation is the request's context. No
// secret leaves: a [shannon.Server] hides its own.
package api
