package mcptest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// Dial makes a client of Streamable HTTP. Nothing is sent before the first call.
func Dial(t testing.TB, url string, o Options) *Client {
	t.Helper()
	c := newClient(t, o)
	if c.o.HTTP == nil {
		// Without a pool, nothing stays open behind a test.
		c.o.HTTP = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	h := &httpCarrier{c: c, url: url, ctx: ctx, cancel: cancel}
	c.carrier = h
	c.session = h.sessionID
	t.Cleanup(c.Close)
	return c
}

// httpCarrier carries messages over Streamable HTTP.
type httpCarrier struct {
	c      *Client
	url    string
	ctx    context.Context //nolint:containedctx // the life of the test, which all requests share
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	session string
}

func (h *httpCarrier) sessionID() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.session
}

// Session returns the id of the legacy session, "" before initialize.
func (c *Client) Session() string { return c.session() }

// Get opens the legacy stream for what belongs to no request; lastEvent resumes
// one, if it is not empty.
func (c *Client) Get(lastEvent string) *Stream {
	return c.bodiless(http.MethodGet, map[string]string{"Last-Event-Id": lastEvent})
}

// Delete ends the legacy session.
func (c *Client) Delete() Reply { return c.bodiless(http.MethodDelete, nil).Wait() }

func (c *Client) bodiless(method string, header map[string]string) *Stream {
	c.t.Helper()
	h, ok := c.carrier.(*httpCarrier)
	if !ok {
		c.t.Fatalf("%s is for HTTP", method)
	}
	st := newStreamFor(c, &Message{})
	r, err := http.NewRequestWithContext(h.ctx, method, h.url, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	for key, value := range header {
		if value != "" {
			r.Header.Set(key, value)
		}
	}
	h.exchange(r, st)
	return st
}

func (h *httpCarrier) send(message []byte, m *Message, st *Stream) error {
	r, err := http.NewRequestWithContext(h.ctx, http.MethodPost, h.url, bytes.NewReader(message))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if isModern(h.c.o.Version) {
		r.Header.Set("Mcp-Method", m.Method)
		name := m.Get("params", "name")
		if name == nil && m.Method == "resources/read" {
			name = m.Get("params", "uri")
		}
		if name != nil {
			r.Header.Set("Mcp-Name", encodeHeader(text(name)))
		}
		r.Header.Set("Mcp-Protocol-Version", h.c.o.Version)
	} else if m.Method != "initialize" {
		r.Header.Set("Mcp-Protocol-Version", h.c.o.Version)
	}
	h.exchange(r, st)
	return nil
}

// exchange does the request in a goroutine of its own.
func (h *httpCarrier) exchange(r *http.Request, st *Stream) {
	if id := h.sessionID(); id != "" {
		r.Header.Set("Mcp-Session-Id", id)
	}
	if h.c.o.Token != "" {
		r.Header.Set("Authorization", "Bearer "+h.c.o.Token)
	}
	for key, value := range h.c.o.Header {
		r.Header.Set(key, value)
		if value == "" {
			r.Header.Del(key)
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	st.mu.Lock()
	st.abort = cancel
	st.mu.Unlock()
	h.wg.Go(func() {
		defer cancel()
		st.close(h.roundTrip(r.WithContext(ctx), st))
	})
}

func (h *httpCarrier) roundTrip(r *http.Request, st *Stream) error {
	response, err := h.c.o.HTTP.Do(r)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	defer response.Body.Close()
	st.mu.Lock()
	st.reply.Status, st.reply.Header = response.StatusCode, response.Header
	st.mu.Unlock()
	if id := response.Header.Get("Mcp-Session-Id"); id != "" {
		h.mu.Lock()
		h.session = id
		h.mu.Unlock()
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return h.events(response.Body, st)
	}
	body, err := io.ReadAll(response.Body)
	st.mu.Lock()
	st.reply.Body = body
	st.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if m, parseErr := ParseMessage(body); parseErr == nil {
		h.c.take(m, st)
		return nil
	}
	if st.id == nil {
		return nil
	}
	return fmt.Errorf("status %d without a message: %q", response.StatusCode, clip(body))
}

func clip(b []byte) []byte { return b[:min(len(b), 200)] }

// events reads server-sent events, of which only data matters here.
func (h *httpCarrier) events(body io.Reader, st *Stream) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	var data []byte
	has, id := false, ""
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) && st.id != nil {
				return errors.New("the stream ended without a reply")
			}
			return fmt.Errorf("read events: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if value, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if has {
				data = append(data, '\n')
			}
			data, has = append(data, bytes.TrimPrefix(value, []byte(" "))...), true
			continue
		}
		if value, ok := bytes.CutPrefix(line, []byte("id:")); ok {
			id = string(bytes.TrimSpace(value))
		}
		if len(line) > 0 {
			continue
		}
		st.mu.Lock()
		st.lastEvent = id // only a whole event counts
		st.mu.Unlock()
		if len(data) == 0 {
			has = false
			continue
		}
		m, err := ParseMessage(data)
		if err != nil {
			h.c.Transcript.add(Entry{Noise: data})
		} else {
			h.c.take(m, st)
		}
		data, has = nil, false
	}
}

// LastEvent returns the id of the last event that came, for [Client.Get].
func (s *Stream) LastEvent() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastEvent
}

func (h *httpCarrier) abort(st *Stream) {
	st.mu.Lock()
	abort := st.abort
	st.mu.Unlock()
	if abort != nil {
		abort()
	}
}

func (h *httpCarrier) close() {
	h.cancel()
	h.wg.Wait()
}
