package transport

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// maxHops bounds the redirects that one request follows.
const maxHops = 3

// The media types of answers.
const (
	typeJSON = "application/json"
	typeSSE  = "text/event-stream"
)

// endpoint is an address that speaks HTTP: it knows how to send one request there
// and what failures mean, and nothing of eras and sessions.
type endpoint struct {
	rt      http.RoundTripper
	blank   *http.Request // what every request begins as
	name    string        // the address without userinfo and query, for people
	header  http.Header   // what every POST carries; never changed
	limit   int           // bytes of a message
	readers sync.Pool     // of *wire.SSEReader
}

func (d *Dialer) newEndpoint(t *Target) (*endpoint, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, shannon.Errorf(shannon.CodeInvalidServer, "Give an address such as https://example.com/mcp", "the server's address is not an http URL")
	}
	u.Fragment, u.RawFragment = "", ""
	e := &endpoint{rt: d.rt, name: safeURL(u), limit: t.MaxMessage, header: http.Header{}}
	e.readers.New = func() any { return wire.NewSSEReader(nil, e.limit) }
	for k, v := range t.Header {
		e.header[http.CanonicalHeaderKey(k)] = v
	}
	host := e.header.Get("Host")
	e.header.Del("Host")
	if e.header["User-Agent"] == nil {
		e.header["User-Agent"] = []string{d.agent}
	}
	if password, _ := u.User.Password(); u.User != nil && e.header["Authorization"] == nil {
		e.header["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))}
	}
	u.User = nil
	e.header["Accept"] = []string{typeJSON + ", " + typeSSE}
	e.header["Accept-Encoding"] = []string{"identity"}
	e.header["Content-Type"] = []string{typeJSON}
	e.blank = &http.Request{URL: u, Host: host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	return e, nil
}

// with returns the headers of a POST with some more: names and values in turn.
func (e *endpoint) with(more ...string) http.Header {
	h := maps.Clone(e.header)
	for pair := range slices.Chunk(more, 2) {
		h[pair[0]] = pair[1:]
	}
	return h
}

// safeURL gives of an address what may be shown.
func safeURL(u *url.URL) string {
	safe := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return safe.String()
}

// payload is a request's body. It tells whether anything of it was read: if not,
// the server cannot have run the request.
type payload struct {
	r    bytes.Reader
	read *atomic.Bool
}

func (p *payload) Read(b []byte) (int, error) {
	p.read.Store(true)
	return p.r.Read(b)
}

func (p *payload) Close() error { return nil }

// send sends one request and returns the answer, whatever its status. Redirects
// are followed where they keep method, body and origin, so that credentials stay
// where they belong. An error that is not ctx's own is a [*shannon.Error].
func (e *endpoint) send(ctx context.Context, method string, h http.Header, body []byte) (*http.Response, error) {
	to := e.blank.URL
	var read atomic.Bool
	for hop := 0; ; hop++ {
		r := e.blank.WithContext(ctx)
		r.Method, r.URL, r.Header = method, to, h
		if body != nil {
			fresh := func() (io.ReadCloser, error) {
				p := &payload{read: &read}
				p.r.Reset(body)
				return p, nil
			}
			r.Body, _ = fresh()
			r.GetBody, r.ContentLength = fresh, int64(len(body))
		}
		resp, err := e.rt.RoundTrip(r)
		if err != nil {
			return nil, e.broken(ctx, err, body == nil || !read.Load())
		}
		next := redirect(resp, to)
		if next == nil {
			return resp, nil
		}
		_ = resp.Body.Close() // a redirect's body says nothing
		if next.Scheme != to.Scheme || next.Host != to.Host || hop == maxHops ||
			(resp.StatusCode != http.StatusTemporaryRedirect && resp.StatusCode != http.StatusPermanentRedirect) {
			return nil, shannon.Errorf(shannon.CodeUnreachable, "Use the address that it redirects to, if you trust it",
				"%s redirects to %s, which is not followed (status %d)", e.name, safeURL(next), resp.StatusCode)
		}
		to = next
	}
}

func redirect(resp *http.Response, from *url.URL) *url.URL {
	if resp.StatusCode < 300 || resp.StatusCode > 399 {
		return nil
	}
	next, err := from.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil
	}
	return next
}

// broken names a failure to get any answer.
func (e *endpoint) broken(ctx context.Context, err error, unsent bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// It would show the address with all that is in it.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if !unsent {
		return e.lost(err)
	}
	hint := "Check the address, and that the server runs"
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		hint = "Check the host's name"
	}
	return shannon.Errorf(shannon.CodeUnreachable, hint, "cannot reach %s: %w", e.name, err)
}

// lost is the error of a call whose answer broke off.
func (e *endpoint) lost(err error) error {
	lost := shannon.Errorf(shannon.CodeConnectionLost, "Look at the server's own log",
		"the connection to %s was lost during the call, which may have run: %w", e.name, err)
	lost.MayHaveRun = true
	return lost
}

// mediaType gives the type of a body without parameters, in lower case.
func mediaType(h http.Header) string {
	v := h["Content-Type"]
	if len(v) == 0 {
		return ""
	}
	t, _, _ := strings.Cut(v[0], ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// headerValue makes a value fit for a header: the base64 form of 2026-07-28,
// basic/transports/streamable-http, value encoding, where it needs one.
func headerValue(s string) string {
	const prefix, suffix = "=?base64?", "?="
	plain := strings.TrimSpace(s) == s && (!strings.HasPrefix(s, prefix) || !strings.HasSuffix(s, suffix))
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] == '\t' || (s[i] >= ' ' && s[i] <= '~')
	}
	if plain {
		return s
	}
	return prefix + base64.StdEncoding.EncodeToString([]byte(s)) + suffix
}
