package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/shannon-mcp/shannon"
)

// prefix is where the API is.
const prefix = "/api/v1"

// Options say where the API is and what to show there.
type Options struct {
	// Dial connects to it, whatever the address.
	Dial func(ctx context.Context) (net.Conn, error)
	// BaseURL is its address without a path, as in https://example.com:7426; it
	// may be left out with Dial.
	BaseURL string
	// Token is the bearer token, for TCP.
	Token shannon.Secret
}

// Client is a [shannon.Manager] somewhere else.
type Client struct {
	base  string
	token shannon.Secret
	http  *http.Client
	stop  func() error // ends what the client embeds, may be nil
}

var _ shannon.Manager = (*Client)(nil)

// New returns a client. It does not connect yet; see [Client.Probe].
func New(o Options) (*Client, error) {
	base := o.BaseURL
	if base == "" && o.Dial != nil {
		base = "http://localhost"
	}
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") || strings.Trim(u.Path, "/") != "" {
		return nil, shannon.Errorf(shannon.CodeInvalidRequest, "Give an address such as http://127.0.0.1:7426", "%q is no address of a Shannon", base)
	}
	dial := (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	if o.Dial != nil {
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return o.Dial(ctx) }
	}
	return &Client{
		base: u.Scheme + "://" + u.Host, token: o.Token,
		http: &http.Client{
			Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := dial(ctx, network, address)
					if err != nil {
						return nil, &dialError{err}
					}
					return conn, nil
				},
				DisableCompression: true,
				IdleConnTimeout:    30 * time.Second,
			},
			// The token is for this address and no other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close lets go of all connections, and ends what [Embed] began.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	if c.stop != nil {
		return c.stop()
	}
	return nil
}

// dialError marks that nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// call is one request of the API.
type call struct {
	method, path string
	media        string // of the body
	body         []byte
	// acts is set where it matters whether the request was carried out.
	acts   bool
	header http.Header
}

// send sends a call; the caller closes the response's body. An answer that
// reports a problem is an error.
func (c *Client) send(ctx context.Context, o call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, o.method, c.base+o.path, bytes.NewReader(o.body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if o.header != nil {
		req.Header = o.header
	}
	if o.media != "" {
		req.Header.Set("Content-Type", o.media)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token.Reveal())
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, lost(ctx, o, err)
	}
	if res.StatusCode >= 300 {
		defer res.Body.Close()
		return nil, readProblem(res)
	}
	return res, nil
}

// lost is the error for a call that got no answer, or no whole one.
func lost(ctx context.Context, o call, err error) error {
	_, unsent := errors.AsType[*dialError](err)
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // what is around it only repeats the address
	}
	var e *shannon.Error
	switch cause := ctx.Err(); {
	case errors.Is(cause, context.DeadlineExceeded):
		e = shannon.Errorf(shannon.CodeTimeout, "", "no answer in time: %w", cause)
	case cause != nil:
		e = shannon.Errorf(shannon.CodeCanceled, "", "given up: %w", cause)
	case unsent:
		e = shannon.Errorf(shannon.CodeNoDaemon, startHint, "no daemon runs: %w", err)
	default:
		e = shannon.Errorf(shannon.CodeConnectionLost, "", "the connection to the daemon broke: %w", err)
	}
	e.MayHaveRun = o.acts && !unsent
	return e
}

// readProblem makes the error that a response reports.
func readProblem(res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err == nil && media == "application/problem+json" {
		if e := parseProblem(text); e != nil {
			return e
		}
	}
	// It was not our API that answered, but what stands before it.
	code := shannon.CodeProtocolError
	switch res.StatusCode {
	case http.StatusUnauthorized:
		code = shannon.CodeUnauthorized
	case http.StatusForbidden:
		code = shannon.CodeForbidden
	}
	first, _, _ := bytes.Cut(bytes.TrimSpace(text[:min(len(text), 200)]), []byte("\n"))
	return shannon.Errorf(code, "Check that the address is that of a Shannon", "the answer was %s: %s", res.Status, first)
}

// parseProblem reads a problem document of the API; nil when it is none.
func parseProblem(text []byte) *shannon.Error {
	var doc struct {
		Code       shannon.Code    `json:"code"`
		Detail     string          `json:"detail"`
		Hint       string          `json:"hint"`
		RPC        json.RawMessage `json:"rpc"`
		MayHaveRun bool            `json:"may_have_run"`
	}
	if err := json.Unmarshal(text, &doc); err == nil && doc.Code != "" {
		return &shannon.Error{
			Problem: shannon.Problem{Code: doc.Code, Message: doc.Detail, Hint: doc.Hint},
			RPC:     doc.RPC, MayHaveRun: doc.MayHaveRun,
		}
	}
	return nil
}

// read sends a call and returns the answer's body.
func (c *Client) read(ctx context.Context, o call) ([]byte, error) {
	res, err := c.send(ctx, o)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, lost(ctx, o, err)
	}
	return text, nil
}

// ask sends a call and decodes its answer.
func ask[T any](ctx context.Context, c *Client, o call) (T, error) {
	var v T
	text, err := c.read(ctx, o)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return v, shannon.Errorf(shannon.CodeProtocolError, "Check that the daemon is of this version", "read answer to %s: %w", o.path, err)
	}
	return v, nil
}

// get is ask for reading.
func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return ask[T](ctx, c, call{method: http.MethodGet, path: prefix + path})
}

// at is the path of something of a server. Dots are escaped so that no name
// walks the path.
func at(server, what string) string {
	return "/servers/" + strings.ReplaceAll(url.PathEscape(server), ".", "%2E") + what
}

// post is the call that does something to a server.
func post(server, what string, body []byte) call {
	o := call{method: http.MethodPost, path: prefix + at(server, what), acts: true}
	if body != nil {
		o.media, o.body = "application/json", body
	}
	return o
}
