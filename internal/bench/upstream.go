package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
)

const (
	legacyVersion = "2025-11-25"
	modernVersion = "2026-07-28"
)

// What the server says of itself and its tools.
const (
	describe  = `"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}}`
	cacheable = `{"resultType":"complete","ttlMs":60000,"cacheScope":"public",`
	toolList  = cacheable + `"tools":[` +
		`{"name":"echo","description":"Gives back its text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}},` +
		`{"name":"len","description":"Counts the bytes of its text.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}}]}`
	textHead = `{"resultType":"complete","content":[{"type":"text","text":`
	textTail = `}]}`
)

// appendAnswer appends the response to a message, nothing where it has none. It
// knows both eras. A call of echo gives its text back as it stands, one of len the
// number of bytes between its quotes.
func appendAnswer(dst, message []byte) []byte {
	var id, method, params []byte
	whole := members(message, func(key, value []byte) {
		switch string(key) {
		case "id":
			id = value
		case "method":
			method = value
		case "params":
			params = value
		}
	})
	if !whole {
		return append(dst, `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`...)
	}
	if id == nil || method == nil {
		return dst
	}
	start := len(dst)
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	answer := len(dst)
	dst = append(dst, `,"result":`...)
	switch string(method) {
	case `"tools/call"`:
		if called := appendCall(dst, params); called != nil {
			return append(called, '}')
		}
		return append(dst[:answer], `,"error":{"code":-32602,"message":"unknown tool"}}`...)
	case `"tools/list"`:
		dst = append(dst, toolList...)
	case `"ping"`:
		dst = append(dst, "{}"...)
	case `"initialize"`:
		dst = append(append(dst, `{"protocolVersion":"`+legacyVersion+`",`...), describe...)
	case `"server/discover"`:
		dst = append(append(dst, cacheable+`"supportedVersions":["`+modernVersion+`","`+legacyVersion+`"],`...), describe...)
	default:
		return append(append(dst[:start], dst[start:answer]...), `,"error":{"code":-32601,"message":"method not found"}}`...)
	}
	return append(dst, '}')
}

// appendCall appends the result of a call, nil for an unknown tool.
func appendCall(dst, params []byte) []byte {
	var name, arguments []byte
	members(params, func(key, value []byte) {
		switch string(key) {
		case "name":
			name = value
		case "arguments":
			arguments = value
		}
	})
	text := member(arguments, "text")
	if len(text) < 2 || text[0] != '"' {
		text = []byte(`""`)
	}
	dst = append(dst, textHead...)
	switch string(name) {
	case `"echo"`:
		dst = append(dst, text...)
	case `"len"`:
		dst = append(strconv.AppendInt(append(dst, '"'), int64(len(text)-2), 10), '"')
	default:
		return nil
	}
	return append(dst, textTail...)
}

// runUpstream is a server that is fast enough not to be what is measured.
func runUpstream(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("upstream", flag.ContinueOnError)
	overHTTP := fs.Bool("http", false, "serve Streamable HTTP on a free port, whose URL is the first line of output, until stdin ends")
	events := fs.Bool("sse", false, "with --http: answer with event streams")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *overHTTP {
		return serveHTTP(ctx, upstreamHandler(*events))
	}
	return serveLines(os.Stdin, os.Stdout)
}

// serveLines answers lines. What it has to say leaves it when there is nothing
// more to read, so that a burst costs one write.
func serveLines(r io.Reader, w io.Writer) error {
	in := newLineReader(r)
	var out []byte
	for {
		line, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
		before := len(out)
		if out = appendAnswer(out, line); len(out) > before {
			out = append(out, '\n')
		}
		if in.Buffered() == 0 || len(out) > 1<<16 {
			if _, err := w.Write(out); err != nil {
				return fmt.Errorf("write answers: %w", err)
			}
			out = out[:0]
		}
	}
}

// lineReader reads lines of any length without copying the short ones.
type lineReader struct {
	*bufio.Reader
	long []byte
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{Reader: bufio.NewReaderSize(r, 1<<16)}
}

// next returns a line, which is valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	line, err := l.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return line, err
	}
	l.long = l.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long, line...)
		line, err = l.ReadSlice('\n')
	}
	l.long = append(l.long, line...)
	return l.long, err
}

// upstreamHandler answers over HTTP. It hands out session ids, as a legacy server
// does, and asks for none.
func upstreamHandler(events bool) http.Handler {
	var sessions atomic.Int64
	contentType := []string{"application/json"}
	if events {
		contentType = []string{"text/event-stream"}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		withBody(w, r, func(body []byte) {
			out := make([]byte, 0, len(body)+128)
			if events {
				out = append(out, "event: message\ndata: "...)
			}
			before := len(out)
			out = appendAnswer(out, body)
			if len(out) == before {
				w.WriteHeader(http.StatusAccepted)
				return
			}
			if events {
				out = append(out, "\n\n"...)
			}
			h := w.Header()
			h["Content-Type"] = contentType
			if string(member(body, "method")) == `"initialize"` {
				h["Mcp-Session-Id"] = []string{"session-" + strconv.FormatInt(sessions.Add(1), 10)}
			}
			writeBody(w, out)
		})
	})
}

// serveHTTP serves on a free port until stdin ends, as it does when the runner
// dies, or ctx.
func serveHTTP(ctx context.Context, h http.Handler) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s := &http.Server{Handler: h} //nolint:gosec // no timeouts: the clients are ours, and each one costs
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	if _, err := fmt.Fprintf(os.Stdout, "http://%s/mcp\n", l.Addr()); err != nil {
		return fmt.Errorf("tell the address: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin) // only its end says anything
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ended:
	case <-ctx.Done():
	}
	return s.Close()
}
