package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/shannon-mcp/shannon"
)

// document is an error document of RFC 9457; code, hint, rpc and may_have_run are
// its extension members.
type document struct {
	Type   string       `json:"type" format:"uri"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail"`
	Code   shannon.Code `json:"code"`
	Hint   string       `json:"hint,omitempty"`
	// MayHaveRun: the request was sent and its answer was lost.
	MayHaveRun bool `json:"may_have_run,omitempty"`
	// RPC is the server's JSON-RPC error object, as it was sent. It is the last
	// member: appendProblem writes it.
	RPC json.RawMessage `json:"rpc,omitempty"`
}

// WriteError answers with err as a problem document.
func WriteError(w http.ResponseWriter, err error) {
	writeProblem(w, statusOf(shannon.CodeOf(err)), err)
}

func writeProblem(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(appendProblem(nil, status, err)) //nolint:gosec // JSON, and said to be; the error is that of a client that is gone
}

// appendProblem appends the problem document of err.
func appendProblem(dst []byte, status int, err error) []byte {
	p := shannon.ProblemOf(err)
	doc := document{
		Type:   "https://github.com/shannon-mcp/shannon/blob/main/docs/problems/" + string(p.Code) + ".md",
		Title:  strings.ReplaceAll(string(p.Code), "_", " "),
		Status: status, Detail: p.Message, Code: p.Code, Hint: p.Hint,
	}
	var rpc []byte
	if e, ok := errors.AsType[*shannon.Error](err); ok {
		doc.MayHaveRun, rpc = e.MayHaveRun, e.RPC
	}
	text, _ := json.Marshal(doc) // strings, numbers and a bool: cannot fail
	dst = append(dst, text...)
	if json.Valid(rpc) {
		dst = append(append(append(dst[:len(dst)-1], `,"rpc":`...), rpc...), '}')
	}
	return dst
}

// statusOf is the HTTP status of a problem: 4xx where the request is wrong, or
// wrong now; 5xx where a server or the daemon is. A server's refusal of our
// credentials is no 401: that would be about the caller's.
func statusOf(c shannon.Code) int {
	switch c {
	case shannon.CodeInvalidRequest, shannon.CodeInvalidConfig:
		return http.StatusBadRequest
	case shannon.CodeInvalidServer, shannon.CodeMissingVariable, shannon.CodeBadTransport:
		return http.StatusUnprocessableEntity
	case shannon.CodeUnauthorized:
		return http.StatusUnauthorized
	case shannon.CodeForbidden:
		return http.StatusForbidden
	case shannon.CodeUnknownServer, shannon.CodeUnknownTool:
		return http.StatusNotFound
	case shannon.CodeNameTaken, shannon.CodeDisabled, shannon.CodeDisconnected, shannon.CodeIdle, shannon.CodeDaemonRunning, shannon.CodePortTaken:
		return http.StatusConflict
	case shannon.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case shannon.CodeCanceled:
		return 499 // nobody is there to read it; the number is for logs
	case shannon.CodeTimeout, shannon.CodeHandshakeTimeout:
		return http.StatusGatewayTimeout
	case shannon.CodeUnsupported:
		return http.StatusNotImplemented
	case shannon.CodeDatabaseLocked, shannon.CodeDatabaseReadOnly, shannon.CodeNoDaemon, shannon.CodeDaemonSilent:
		return http.StatusServiceUnavailable
	case shannon.CodeCommandNotFound, shannon.CodeSpawnFailed, shannon.CodeExited, shannon.CodeCrashLoop, shannon.CodeProtocolError,
		shannon.CodeUnreachable, shannon.CodeUnhealthy, shannon.CodeNeedsAuth, shannon.CodeQuota, shannon.CodeConnectionLost,
		shannon.CodeServerDown, shannon.CodeCallFailed:
		return http.StatusBadGateway
	default:
		return http.StatusInternalServerError
	}
}
