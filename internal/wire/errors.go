package wire

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shannon-mcp/shannon"
)

// JSON-RPC error codes, and those that MCP defines.
const (
	CodeParse              = -32700
	CodeInvalidRequest     = -32600
	CodeMethodNotFound     = -32601
	CodeInvalidParams      = -32602
	CodeInternal           = -32603
	CodeHeaderMismatch     = -32020 // 2026-07-28
	CodeMissingCapability  = -32021 // 2026-07-28
	CodeUnsupportedVersion = -32022 // 2026-07-28
	CodeResourceNotFound   = -32002 // up to 2025-11-25
)

// RPCError is an error of the protocol, as an error object carries it.
type RPCError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

// Error implements error.
func (e *RPCError) Error() string { return e.Message }

// Errorf makes an [*RPCError] without data.
func Errorf(code int, format string, args ...any) *RPCError {
	return &RPCError{Code: code, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return Errorf(CodeInvalidRequest, "invalid request: "+format, args...)
}

func parseError(at int, what string) error {
	return Errorf(CodeParse, "parse error at byte %d: %s", at, what)
}

// ToRPC turns any error into the one that a client gets. It is the only place
// where errors become JSON-RPC codes. A server's own error object passes as it
// is by [AppendError].
func ToRPC(err error) *RPCError {
	e, named := errors.AsType[*shannon.Error](err)
	if rpc, ok := errors.AsType[*RPCError](err); ok && !named {
		// Below a named problem it says what a server did wrong, not the client.
		return rpc
	}
	p := shannon.ProblemOf(err)
	code := CodeInternal
	switch p.Code {
	case shannon.CodeUnknownTool, shannon.CodeUnknownServer:
		code = CodeInvalidParams
	case shannon.CodeInvalidRequest:
		code = CodeInvalidRequest
	case shannon.CodeUnsupported:
		code = CodeMethodNotFound
	}
	data := map[string]any{"code": p.Code}
	if p.Hint != "" {
		data["hint"] = p.Hint
	}
	if named && e.MayHaveRun {
		data["mayHaveRun"] = true
	}
	return &RPCError{Code: code, Message: p.Message, Data: data}
}

// AppendError appends the error response for id; an empty id leaves the member
// out, as the schema wants where it could not be read.
func AppendError(dst, id []byte, err error) []byte {
	dst = append(dst, `{"jsonrpc":"2.0",`...)
	if len(id) > 0 {
		dst = append(append(append(dst, `"id":`...), id...), ',')
	}
	dst = append(dst, `"error":`...)
	if e, ok := errors.AsType[*shannon.Error](err); ok && len(e.RPC) > 0 {
		return append(append(dst, e.RPC...), '}')
	}
	b, encErr := json.Marshal(ToRPC(err))
	if encErr != nil { // only Data could be at fault
		b = []byte(`{"code":-32603,"message":"internal error"}`)
	}
	return append(append(dst, b...), '}')
}

// AppendResult appends a result response.
func AppendResult(dst, id, result []byte) []byte {
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	dst = append(append(dst, `,"result":`...), result...)
	return append(dst, '}')
}
