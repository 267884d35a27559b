package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// maxErrorBody bounds what is read of the body of an error status.
const maxErrorBody = 64 << 10

// RetryAfter is in the chain of an error of code quota where the server said when
// to come back.
type RetryAfter struct{ Delay time.Duration }

// Error implements error.
func (r *RetryAfter) Error() string { return "the server asks to come back in " + r.Delay.String() }

// statusError is an answer with an HTTP status that is no success.
type statusError struct {
	status int
	retry  *RetryAfter // nil when the server did not say
	reply  wire.Reply  // the JSON-RPC error in the body that answers the request; else of no kind
}

// Error implements error.
func (s *statusError) Error() string {
	return fmt.Sprintf("HTTP status %d %s", s.status, http.StatusText(s.status))
}

// Unwrap gives when to come back.
func (s *statusError) Unwrap() error {
	if s.retry == nil {
		return nil
	}
	return s.retry
}

// readStatus reads an answer without success to the request of that id. An error
// object without an id counts as its answer: the server may not have read that far.
func readStatus(resp *http.Response, id []byte) *statusError {
	s := &statusError{status: resp.StatusCode, retry: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil || len(body) == 0 {
		return s // the status has to do
	}
	if e, err := wire.Scan(body); err == nil && e.Kind == wire.KindError && (!e.Has(wire.FieldID) || bytes.Equal(e.Get(wire.FieldID), id)) {
		s.reply = wire.Reply{Envelope: e}
	}
	return s
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func retryAfter(value string, now time.Time) *RetryAfter {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return &RetryAfter{Delay: time.Duration(n) * time.Second}
	}
	if at, err := http.ParseTime(value); err == nil {
		return &RetryAfter{Delay: max(0, at.Sub(now))}
	}
	return nil
}

// settle turns the status into what the caller gets: the server's own error where
// it sent one, else the problem that the status stands for.
func (s *statusError) settle(e *endpoint) (wire.Reply, error) {
	switch {
	case s.status == http.StatusUnauthorized || s.status == http.StatusForbidden:
		return wire.Reply{}, shannon.Errorf(shannon.CodeNeedsAuth, "Give the server's credentials: shannon set NAME headers.Authorization='Bearer …'",
			"%s wants other credentials: %w", e.name, s)
	case s.status == http.StatusTooManyRequests, s.status == http.StatusServiceUnavailable && s.retry != nil:
		hint := "Try again later"
		if s.retry != nil {
			hint = "Try again in " + s.retry.Delay.String()
		}
		return wire.Reply{}, shannon.Errorf(shannon.CodeQuota, hint, "%s takes no more requests for now: %w", e.name, s)
	case s.reply.Kind == wire.KindError:
		return s.reply, nil
	case s.status >= 500:
		return wire.Reply{}, e.lost(s)
	case s.status == http.StatusRequestEntityTooLarge:
		return wire.Reply{}, shannon.Errorf(shannon.CodeTooLarge, "Send less, or raise the server's limit", "%s refuses a message of this size: %w", e.name, s)
	}
	return wire.Reply{}, shannon.Errorf(shannon.CodeProtocolError, "Check the address; a server of the older HTTP+SSE transport answers so as well",
		"%s did not take the request: %w", e.name, s)
}

// unwell names a status of 500 or more to a handshake: there is no call that may
// have run.
func (e *endpoint) unwell(err error) error {
	if s, ok := errors.AsType[*statusError](err); ok && shannon.CodeOf(err) == shannon.CodeConnectionLost {
		return shannon.Errorf(shannon.CodeUnreachable, "Look at the server's own log", "%s is not well: %w", e.name, s)
	}
	return err
}

// foreign tells whether a server that answers a modern request so may be a legacy
// one (2026-07-28, basic/transports/streamable-http, backward compatibility).
func (s *statusError) foreign() bool {
	switch s.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return false
	}
	return s.status >= 400 && s.status < 500
}
