package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// loadOptions says what a load does.
type loadOptions struct {
	URL, Token string
	Era        string // legacy or modern
	Tool       string // its name at URL
	Kind       string // what the tool does: echo or len
	Size       int    // bytes of the text
	Clients    int
	Warm, Time time.Duration
	PIDs       []int // whose CPU and memory are measured
}

// sample is what one load found.
type sample struct {
	Calls       int     `json:"calls"`
	Failures    int     `json:"failures"`
	FirstError  string  `json:"first_error,omitempty"`
	CallsPerSec float64 `json:"calls_per_s"`
	P50, P99    float64 // µs
	CPU         float64 `json:"cpu_us_per_call"` // of the processes that were watched
	LoadCPU     float64 `json:"load_cpu_us_per_call"`
	RSS         float64 `json:"rss_mb"`
}

// runLoad is a closed loop: each client has one call under way at a time. The
// sample is its output, as JSON.
func runLoad(ctx context.Context, args []string) error {
	var o loadOptions
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	fs.StringVar(&o.URL, "url", "", "endpoint")
	fs.StringVar(&o.Era, "era", "legacy", "legacy or modern")
	fs.StringVar(&o.Tool, "tool", "echo", "name of the tool at the endpoint")
	fs.StringVar(&o.Kind, "kind", "echo", "what the tool does: echo or len")
	fs.IntVar(&o.Size, "size", 32, "bytes of the text")
	fs.IntVar(&o.Clients, "clients", 64, "clients, each with a session of its own")
	fs.DurationVar(&o.Warm, "warm", time.Second, "time that does not count")
	fs.DurationVar(&o.Time, "time", 3*time.Second, "time that counts")
	pids := fs.String("pids", "", "processes to watch, with commas")
	if err := fs.Parse(args); err != nil {
		return err
	}
	for pid := range strings.SplitSeq(*pids, ",") {
		if n, err := strconv.Atoi(pid); err == nil {
			o.PIDs = append(o.PIDs, n)
		}
	}
	o.Token = os.Getenv(tokenVariable) // not an argument, which everybody could read
	s, err := load(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// tokenVariable hands the bearer token to a load.
const tokenVariable = "BENCH_TOKEN"

func newTransport() *http.Transport {
	return &http.Transport{MaxIdleConns: 4096, MaxIdleConnsPerHost: 4096, DisableCompression: true}
}

// load runs the clients and measures in the time after the warm-up.
func load(ctx context.Context, o loadOptions) (sample, error) {
	transport := newTransport()
	defer transport.CloseIdleConnections()
	clients := make([]*client, o.Clients)
	for i := range clients {
		c, err := newClient(ctx, transport, &o, i)
		if err != nil {
			return sample{}, err
		}
		clients[i] = c
	}
	from := time.Now().Add(o.Warm)
	to := from.Add(o.Time)
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.loop(ctx, from, to) })
	}
	wait(ctx, time.Until(from))
	begin, self := usageOf(o.PIDs), usageOf([]int{os.Getpid()})
	began := time.Now()
	wait(ctx, time.Until(to))
	end, selfEnd := usageOf(o.PIDs), usageOf([]int{os.Getpid()})
	elapsed := time.Since(began)
	wg.Wait()
	if ctx.Err() != nil {
		return sample{}, ctx.Err()
	}
	s := collect(clients)
	s.CallsPerSec = float64(s.Calls) / o.Time.Seconds()
	if s.Calls > 0 {
		// The window of the CPU may be a little longer than that of the calls.
		calls := s.CallsPerSec * elapsed.Seconds()
		s.CPU = micros(end.cpu-begin.cpu) / calls
		s.LoadCPU = micros(selfEnd.cpu-self.cpu) / calls
		s.RSS = float64(end.rss) / 1e6
	}
	return s, nil
}

// wait waits that long, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func collect(clients []*client) sample {
	var s sample
	var all []time.Duration
	for _, c := range clients {
		all = append(all, c.latencies...)
		s.Failures += c.failures
		if c.err != nil && s.FirstError == "" {
			s.FirstError = c.err.Error()
		}
	}
	slices.Sort(all)
	s.Calls = len(all)
	s.P50, s.P99 = micros(percentile(all, 0.50)), micros(percentile(all, 0.99))
	return s
}

// percentile returns a value of which the share q of all is no larger.
func percentile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// client is one caller; a goroutine owns it.
type client struct {
	o         *loadOptions
	number    int
	transport http.RoundTripper
	request   *http.Request
	prefix    string // of every call, behind its id
	suffix    string
	calls     int
	body      []byte
	reply     []byte
	latencies []time.Duration
	failures  int
	err       error
}

func newClient(ctx context.Context, transport http.RoundTripper, o *loadOptions, number int) (*client, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	c := &client{
		o: o, number: number, transport: transport, request: request,
		prefix: `,"method":"tools/call","params":{"name":"` + o.Tool + `","arguments":{"text":"`,
		suffix: `"}}}`, latencies: make([]time.Duration, 0, 1<<12),
	}
	h := request.Header
	h.Set("Content-Type", "application/json")
	h.Set("Accept", "application/json, text/event-stream")
	if o.Token != "" {
		h.Set("Authorization", "Bearer "+o.Token)
	}
	if o.Era == "modern" {
		h.Set("Mcp-Protocol-Version", modernVersion)
		h.Set("Mcp-Method", "tools/call")
		h.Set("Mcp-Name", o.Tool)
		c.suffix = `"},"_meta":{"io.modelcontextprotocol/protocolVersion":"` + modernVersion +
			`","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
		return c, nil
	}
	return c, c.handshake()
}

// handshake begins the session of a legacy client.
func (c *client) handshake() error {
	c.body = append(c.body[:0], idHead+`0,"method":"initialize","params":{"protocolVersion":"`+legacyVersion+
		`","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}`...)
	reply, h, err := c.post()
	if err == nil && member(reply, "result") == nil {
		err = fmt.Errorf("no result: %.200s", reply)
	}
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	if id := h.Get("Mcp-Session-Id"); id != "" {
		c.request.Header.Set("Mcp-Session-Id", id)
	}
	c.request.Header.Set("Mcp-Protocol-Version", legacyVersion)
	c.body = append(c.body[:0], `{"jsonrpc":"2.0","method":"notifications/initialized"}`...)
	if _, _, err := c.post(); err != nil {
		return fmt.Errorf("notifications/initialized: %w", err)
	}
	return nil
}

// loop calls until the time is over. What ends within it counts.
func (c *client) loop(ctx context.Context, from, to time.Time) {
	for ctx.Err() == nil {
		start := time.Now()
		if start.After(to) {
			return
		}
		err := c.call()
		end := time.Now()
		switch {
		case err != nil:
			c.failures++
			c.err = err
			wait(ctx, time.Millisecond)
		case end.After(from) && end.Before(to):
			c.latencies = append(c.latencies, end.Sub(start))
		}
	}
}

// call makes a call whose text nobody else sends, under an id that others use as
// well, and checks the reply.
func (c *client) call() error {
	c.calls++
	text := make([]byte, 0, 64)
	text = append(strconv.AppendInt(append(text, 'c'), int64(c.number), 10), '-')
	text = append(strconv.AppendInt(text, int64(c.calls), 10), '-')
	size := c.o.Size
	if c.o.Kind == "len" {
		size += c.number // so that each client expects another answer
	}
	c.body = strconv.AppendInt(append(c.body[:0], idHead...), int64(c.calls), 10)
	id := c.body[len(idHead):len(c.body):len(c.body)]
	c.body = append(append(c.body, c.prefix...), text...)
	for n := size - len(text); n > 0; n -= len(filler) {
		c.body = append(c.body, filler[:min(n, len(filler))]...)
	}
	c.body = append(c.body, c.suffix...)
	reply, _, err := c.post()
	if err != nil {
		return err
	}
	if c.o.Kind == "len" {
		text = append(strconv.AppendInt(append(text[:0], '"'), int64(max(size, len(text))), 10), '"')
	}
	return check(reply, id, text)
}

var filler = strings.Repeat("x", 4096)

// check tells what is wrong with the reply to a call.
func check(reply, id, text []byte) error {
	var gotID, result []byte
	whole := members(reply, func(key, value []byte) {
		switch string(key) {
		case "id":
			gotID = value
		case "result":
			result = value
		}
	})
	switch {
	case !whole:
		return fmt.Errorf("not a JSON object: %.200q", reply)
	case !bytes.Equal(gotID, id):
		return fmt.Errorf("reply to %s instead of %s: %.200s", gotID, id, reply)
	case result == nil:
		return fmt.Errorf("no result: %.200s", reply)
	case !bytes.Contains(result, text) || bytes.Contains(result, []byte(`"isError":true`)):
		return fmt.Errorf("not the text %.60s: %.200s", text, result)
	}
	return nil
}

// post sends c.body and returns the message in the response, which is valid until
// the next one.
func (c *client) post() ([]byte, http.Header, error) {
	r := *c.request
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(c.body)), int64(len(c.body))
	res, err := c.transport.RoundTrip(&r)
	if err != nil {
		return nil, nil, fmt.Errorf("post: %w", err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusAccepted:
		_, err := io.Copy(io.Discard, res.Body)
		return nil, res.Header, err
	case res.StatusCode != http.StatusOK:
		text, _ := io.ReadAll(io.LimitReader(res.Body, 300)) // as much as there is
		return nil, nil, fmt.Errorf("HTTP status %d: %s", res.StatusCode, text)
	case strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream"):
		reply, err := readEvents(res.Body)
		return reply, res.Header, err
	}
	c.reply, err = readBody(res.Body, res.ContentLength, c.reply)
	return c.reply, res.Header, err
}

// readEvents reads a stream to its end and returns the response in it; what comes
// before it, such as notifications, is passed over.
func readEvents(r io.Reader) ([]byte, error) {
	in := bufio.NewReader(r)
	var data, reply []byte
	for {
		line, err := in.ReadBytes('\n')
		line = bytes.TrimRight(line, "\r\n")
		if text, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(data, bytes.TrimPrefix(text, []byte(" "))...)
		} else if len(line) == 0 && err == nil {
			if member(data, "id") != nil && member(data, "method") == nil {
				reply = data
			}
			data = nil
		}
		switch {
		case errors.Is(err, io.EOF) && reply == nil:
			return nil, errors.New("the stream ended without a response")
		case errors.Is(err, io.EOF):
			return reply, nil
		case err != nil:
			return nil, fmt.Errorf("read stream: %w", err)
		}
	}
}
