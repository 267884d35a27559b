package shannon

import (
	"errors"
	"fmt"
)

// Code names a problem. Codes are stable: they are on disk, on the wire and in
// people's scripts, and each has a page in docs/problems.
type Code string

// The problems. The comment says what the state or error means.
const (
	// What was asked is wrong.
	CodeInvalidServer  Code = "invalid_server"    // a definition that cannot work
	CodeInvalidRequest Code = "invalid_request"   // arguments, JSON, flags or keys that make no sense
	CodeUnknownServer  Code = "unknown_server"    // no server of that name
	CodeUnknownTool    Code = "unknown_tool"      // the server offers no such tool
	CodeNameTaken      Code = "name_taken"        // another server has that name
	CodeInvalidConfig  Code = "invalid_config"    // the configuration cannot be used
	CodeUnauthorized   Code = "unauthorized"      // no token, or a wrong one
	CodeForbidden      Code = "forbidden"         // Host or Origin is not allowed
	CodeBadTransport   Code = "unknown_transport" // a stored transport that this Shannon cannot reach

	// Why a server is not, or not plainly, connected.
	CodeDisabled         Code = "disabled"
	CodeIdle             Code = "idle" // lazy, not needed yet
	CodeDisconnected     Code = "disconnected_by_user"
	CodeCommandNotFound  Code = "command_not_found"
	CodeSpawnFailed      Code = "spawn_failed"
	CodeExited           Code = "exited"     // the process ended by itself
	CodeCrashLoop        Code = "crash_loop" // it ended again and again
	CodeHandshakeTimeout Code = "handshake_timeout"
	CodeProtocolError    Code = "protocol_error"
	CodeUnreachable      Code = "unreachable"
	CodeUnhealthy        Code = "unhealthy" // it does not answer health checks
	CodeNeedsAuth        Code = "needs_auth"
	CodeQuota            Code = "quota"            // the vendor said to come back later
	CodeMissingVariable  Code = "missing_variable" // ${VAR} without a value

	// Why a call failed.
	CodeTimeout        Code = "timeout"
	CodeTooLarge       Code = "message_too_large"
	CodeConnectionLost Code = "connection_lost" // the call may have run
	CodeServerDown     Code = "server_down"     // nothing was sent
	CodeCallFailed     Code = "call_failed"     // the server answered with an error
	CodeUnsupported    Code = "unsupported"     // the two sides have no common way to do this
	CodeCanceled       Code = "canceled"

	// The daemon and its files.
	CodeNoDaemon         Code = "no_daemon"
	CodeDaemonSilent     Code = "daemon_silent"
	CodeDaemonRunning    Code = "daemon_running"
	CodePortTaken        Code = "port_taken"
	CodeDatabaseNewer    Code = "database_newer"
	CodeDatabaseCorrupt  Code = "database_corrupt"
	CodeDatabaseReadOnly Code = "database_read_only"
	CodeDatabaseLocked   Code = "database_locked"
	CodeInternal         Code = "internal"
)

// Problem is trouble as a value: a stable code, a sentence, and what to do.
type Problem struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Error is a [Problem] that an operation ended with. Err, if set, is what led to
// it; it is for logs and errors.Is, the Problem is for people.
type Error struct {
	Problem
	Err error
	// RPC holds the JSON-RPC error object, when the server answered with one.
	RPC []byte
	// MayHaveRun is set when a request was sent and its answer was lost.
	MayHaveRun bool
}

// Error gives the sentence, without the hint.
func (e *Error) Error() string {
	if e.Message != "" {
		return e.Message
	}
	if e.Err != nil {
		return e.Err.Error()
	}
	return string(e.Code)
}

// Unwrap returns what led to e.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, &Error{Problem: Problem{Code: c}}) compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == "" && t.Err == nil
}

// Errorf makes an [*Error]. A %w in format sets what it unwraps to.
func Errorf(code Code, hint, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Problem: Problem{Code: code, Message: err.Error(), Hint: hint}, Err: errors.Unwrap(err)}
}

// CodeOf returns the code of the first [*Error] in err's chain, [CodeInternal]
// where there is none and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// ProblemOf gives err as a Problem; nil for nil.
func ProblemOf(err error) *Problem {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		p := e.Problem
		p.Message = e.Error()
		return &p
	}
	return &Problem{Code: CodeInternal, Message: err.Error()}
}
