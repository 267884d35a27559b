package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/shannon-mcp/shannon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is the other end of a stream: what the test says, it does.
type server struct {
	t     testing.TB
	s     *Stream
	lines *LineReader // what the stream has written
	in    *io.PipeReader
	out   *io.PipeWriter

	mu    sync.Mutex
	noise []string
}

func newServer(t testing.TB, o StreamOptions) *server {
	fromStream, toServer := io.Pipe()
	toStream, fromServer := io.Pipe()
	p := &server{t: t, lines: NewLineReader(fromStream, 64<<20), in: fromStream, out: fromServer}
	if o.MaxMessage == 0 {
		o.MaxMessage = 1 << 20
	}
	o.Noise = func(line []byte, why error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.noise = append(p.noise, fmt.Sprintf("%s: %v", line, why))
	}
	p.s = NewStream(toStream, toServer, o)
	return p
}

// close ends both sides and waits until nothing is left.
func (p *server) close() {
	p.s.End(io.ErrClosedPipe)
	_ = p.out.Close()
	_ = p.in.Close()
	p.s.Wait()
}

func (p *server) send(lines ...string) {
	p.t.Helper()
	for _, line := range lines {
		if _, err := io.WriteString(p.out, line+"\n"); err != nil {
			p.t.Error(err)
		}
	}
}

func (p *server) next() *Envelope {
	p.t.Helper()
	line, err := p.lines.Next()
	if err != nil {
		p.t.Error(err)
		return &Envelope{}
	}
	e, err := Scan(line)
	if err != nil {
		p.t.Errorf("%q: %v", line, err)
	}
	return &e
}

func (p *server) heard() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.noise
}

type outcome struct {
	reply Reply
	err   error
}

// call calls in the background and returns when the server has the request.
func (p *server) call(ctx context.Context, raw string, sink Sink) (id string, done chan outcome) {
	p.t.Helper()
	done = p.start(ctx, raw, sink)
	return string(p.next().Get(FieldID)), done
}

func (p *server) start(ctx context.Context, raw string, sink Sink) chan outcome {
	p.t.Helper()
	r := request(p.t, raw)
	done := make(chan outcome, 1)
	go func() {
		reply, err := p.s.Call(ctx, r, Outgoing{}, sink)
		done <- outcome{reply, err}
	}()
	return done
}

func request(t testing.TB, raw string) *Request {
	t.Helper()
	e, err := Scan([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRequest(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func result(id, value string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"result":` + value + `}`
}

func (o outcome) wantResult(t testing.TB, want string) {
	t.Helper()
	if got := string(o.reply.Get(FieldResult)); o.err != nil || got != want {
		t.Errorf("result %q and error %v, want %q", got, o.err, want)
	}
}

func (o outcome) wantError(t testing.TB, code shannon.Code, mayHaveRun bool) {
	t.Helper()
	e, ok := errors.AsType[*shannon.Error](o.err)
	if !ok || e.Code != code || e.MayHaveRun != mayHaveRun {
		t.Errorf("error %#v, want code %s, may have run: %v", o.err, code, mayHaveRun)
	}
}

const ping = `{"jsonrpc":"2.0","id":"mine","method":"ping"}`

func TestStreamRepliesInAnyOrderAndForm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{})
		defer p.close()
		a, first := p.call(t.Context(), ping, nil)
		b, second := p.call(t.Context(), ping, nil)
		c, third := p.call(t.Context(), ping, nil)
		d, fourth := p.call(t.Context(), ping, nil)
		p.send(
			result(d, `{"n":9007199254740993,"f":1.10}`),
			" \t"+result(c+".0", `3`)+" \r",
			"\ufeff"+result(`"`+b+`"`, `"\u00e9"`),
			`{"error":{"code":-1,"message":"no","x":[1.0]},"id":`+a+`,"jsonrpc":"2.0"}`,
		)
		(<-fourth).wantResult(t, `{"n":9007199254740993,"f":1.10}`)
		(<-third).wantResult(t, `3`)
		(<-second).wantResult(t, `"\u00e9"`)
		got := <-first
		if e := string(got.reply.Get(FieldError)); got.err != nil || got.reply.Kind != KindError || e != `{"code":-1,"message":"no","x":[1.0]}` {
			t.Errorf("%v: %s", got.err, e)
		}
		if noise := p.heard(); noise != nil {
			t.Error(noise)
		}
	})
}

func TestStreamSkipsNoise(t *testing.T) {
	lines := []string{
		"Starting server...",
		`{"level":30,"id":1,"msg":"a log record","error":"x"}`,
		`[1]`,
		`{"jsonrpc":"2.0","id":99,"result":{}}`,
		`{"jsonrpc":"2.0","id":"1x","result":{}}`,
		`{"jsonrpc":"2.0","id":1.5,"result":{}}`,
		`{"jsonrpc":"2.0","id":-1,"result":{}}`,
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}`,
		`{"jsonrpc":"2.0","error":{"code":-32700,"message":"?"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"roots/list","params":[` + "\"\xff\"]}", // a broken request of its own
		`{"jsonrpc":"2.0","id":1,"id":2,"result":{}}`,
	}
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{})
		defer p.close()
		id, done := p.call(t.Context(), ping, nil)
		p.send(lines...)
		p.send("", "\r", result(id, `{}`), result(id, `"again"`))
		(<-done).wantResult(t, `{}`)
		noise := p.heard()
		if len(noise) != len(lines)+1 {
			t.Fatalf("%q", noise)
		}
		for i, line := range append(lines, result(id, `"again"`)) {
			if !strings.HasPrefix(noise[i], line) {
				t.Errorf("noise %q, want %q", noise[i], line)
			}
		}
	})
}

func TestStreamFailsOnlyTheCallOfABrokenReply(t *testing.T) {
	for name, broken := range map[string]string{
		"not UTF-8":      `{"jsonrpc":"2.0","id":1,"result":{"text":"` + "\xff" + `"}}`,
		"not JSON":       `{"jsonrpc":"2.0","id":1,"result":{"text":01}}`,
		"no version":     `{"id":1,"result":{}}`,
		"two outcomes":   `{"jsonrpc":"2.0","id":1,"result":{},"error":{}}`,
		"deep":           `{"jsonrpc":"2.0","id":1,"result":` + strings.Repeat("[", 600) + strings.Repeat("]", 600) + `}`,
		"id at the end":  `{"jsonrpc":"2.0","result":"` + "\x01" + `","id":1}`,
		"two type marks": `{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","resulttype":"input_required"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newServer(t, StreamOptions{})
				defer p.close()
				_, first := p.call(t.Context(), ping, nil)
				id, second := p.call(t.Context(), ping, nil)
				p.send(broken)
				got := <-first
				got.wantError(t, shannon.CodeProtocolError, true)
				if rpc := ToRPC(got.err); rpc.Code != CodeInternal {
					t.Errorf("the client is told %d, as if it were to blame", rpc.Code)
				}
				p.send(result(id, `{}`))
				(<-second).wantResult(t, `{}`)
			})
		})
	}
}

func TestStreamSkipsAMessageThatIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{})
		defer p.close()
		_, first := p.call(t.Context(), ping, nil)
		id, second := p.call(t.Context(), ping, nil)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		chunk := bytes.Repeat([]byte("x"), 1<<20)
		_, _ = io.WriteString(p.out, `{"jsonrpc":"2.0","result":{"id":2,"text":"`)
		for range 50 {
			_, _ = p.out.Write(chunk)
		}
		p.send(`"},"id":1}`)
		got := <-first
		runtime.ReadMemStats(&after)
		got.wantError(t, shannon.CodeTooLarge, true)
		if !errors.Is(got.err, ErrTooLarge) {
			t.Error(got.err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 12<<20 {
			t.Errorf("%d MB were allocated to skip a message over 1 MB", grown>>20)
		}
		// A request of the server's own with that id is no reply to us.
		p.send(`{"jsonrpc":"2.0","id":` + id + `,"method":"sampling/createMessage","params":{"x":"` + string(chunk) + `"}}`)
		p.send(result(id, `{}`))
		(<-second).wantResult(t, `{}`)
		if noise := p.heard(); len(noise) != 1 {
			t.Error(noise)
		}
	})
}

func TestStreamAnswersTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{Request: func(e Envelope) ([]byte, error) {
			switch e.Method {
			case "ping":
				return []byte("{\n}"), nil
			case "quiet":
				return nil, nil
			}
			return nil, Errorf(CodeMethodNotFound, "no %s", e.Method)
		}})
		defer p.close()
		p.send(`{"jsonrpc":"2.0","id":"odd \u00e9","method":"ping"}`, `{"jsonrpc":"2.0","id":0,"method":"quiet"}`,
			`{"jsonrpc":"2.0","id":1.50,"method":"roots/list"}`)
		for _, want := range []string{
			`{"jsonrpc":"2.0","id":"odd \u00e9","result":{ }}`,
			`{"jsonrpc":"2.0","id":1.50,"error":{"code":-32601,"message":"no roots/list"}}`,
		} {
			if got := string(p.next().Raw); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{})
		defer p.close()
		p.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		if noise := p.heard(); len(noise) != 1 {
			t.Error(noise)
		}
	})
}

func TestStreamSurvivesAFloodOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := []byte(`"` + strings.Repeat("x", 1000) + `"`)
		p := newServer(t, StreamOptions{Request: func(Envelope) ([]byte, error) { return answer, nil }})
		defer p.close()
		for range 5000 { // 5 MB of answers that nobody reads
			p.send(`{"jsonrpc":"2.0","id":1,"method":"ping"}`)
		}
		synctest.Wait()
		p.s.mu.Lock()
		waiting := len(p.s.unsent)
		p.s.mu.Unlock()
		if waiting > maxUnsent+2000 {
			t.Errorf("%d bytes wait", waiting)
		}
		// Once it reads, all goes on.
		done := p.start(t.Context(), ping, nil)
		for {
			if e := p.next(); e.Kind == KindRequest {
				p.send(result(string(e.Get(FieldID)), `{}`))
				break
			}
		}
		(<-done).wantResult(t, `{}`)
	})
}

type recorder struct {
	mu   sync.Mutex
	took []string
}

func (r *recorder) Deliver(n Notification) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took = append(r.took, string(n.Raw))
}

func (r *recorder) got() []string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.took
}

func progress(token, n string) string {
	return `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":` + n + `, "progressToken":` + token + `}}`
}

func TestStreamGivesProgressToItsCall(t *testing.T) {
	for _, token := range []string{`"a"`, `"1"`, `2`, `9007199254740993`, `-1.50e3`, `"\u00e9\"\n"`} {
		synctest.Test(t, func(t *testing.T) {
			var others recorder
			p := newServer(t, StreamOptions{Notification: func(e Envelope) { others.Deliver(Notification{Raw: e.Raw}) }})
			defer p.close()
			var mine, plain recorder
			id, done := p.call(t.Context(), `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":`+token+`}}}`, &mine)
			otherID, other := p.call(t.Context(), `{"jsonrpc":"2.0","id":7,"method":"x"}`, &plain)
			p.send(progress(id, `0.10`), progress(`"`+id+`"`, `2`), progress(otherID, `1`), progress(`"none"`, `1`), progress(`99`, `1`),
				`{"jsonrpc":"2.0","method":"notifications/progress"}`,
				`{"jsonrpc":"2.0","method":"notifications/message","params":{"progressToken":`+id+`}}`,
				result(id, `{}`), progress(id, `3`), result(otherID, `{}`))
			(<-done).wantResult(t, `{}`)
			(<-other).wantResult(t, `{}`)
			if diff := cmp.Diff([]string{progress(token, `0.10`), progress(token, `2`)}, mine.got()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := plain.got(); got != nil {
				t.Errorf("a call that wants no progress got %v", got)
			}
			if got := others.got(); len(got) != 1 || !strings.Contains(got[0], "notifications/message") {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestStreamCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{})
		defer p.close()
		ctx, cancel := context.WithCancelCause(t.Context())
		id, done := p.call(ctx, ping, nil)
		why := errors.New(`the client said "no"`)
		cancel(why)
		if got := <-done; !errors.Is(got.err, why) {
			t.Errorf("%v", got.err)
		}
		want := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `,"reason":"the client said \"no\""}}`
		if got := string(p.next().Raw); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		p.send(result(id, `{}`)) // late
		if noise := p.heard(); len(noise) != 1 {
			t.Errorf("%v", noise)
		}
		// initialize must not be cancelled, and what has ended is not sent at all.
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		_, done = p.call(ctx, `{"jsonrpc":"2.0","id":1,"method":"initialize"}`, nil)
		if got := <-done; !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("%v", got.err)
		}
		if got := <-p.start(ctx, ping, nil); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("%v", got.err)
		}
		if err := p.s.Send(ctx, []byte(`{}`)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		if err := p.s.Send(t.Context(), []byte("{\"jsonrpc\":\"2.0\",\r\n\"method\":\"last\"}")); err != nil {
			t.Error(err)
		}
		if got := string(p.next().Raw); got != `{"jsonrpc":"2.0",  "method":"last"}` {
			t.Errorf("%s was sent", got)
		}
	})
}

// Either a call gets its reply or the server is told that nobody waits.
func TestStreamCancelRacesReply(t *testing.T) {
	p := newServer(t, StreamOptions{})
	defer p.close()
	const calls = 500
	var cancelled sync.Map
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			line, err := p.lines.Next()
			if err != nil {
				return
			}
			e, _ := Scan(line)
			if id := string(e.Get(FieldRequestID)); id != "" {
				if _, twice := cancelled.LoadOrStore(id, true); twice {
					t.Errorf("call %s was cancelled twice", id)
				}
				continue
			}
			p.send(result(string(e.Get(FieldID)), string(e.Get(FieldID))))
		}
	})
	replied := map[string]bool{}
	for i := range calls {
		ctx, cancel := context.WithCancel(t.Context())
		done := p.start(ctx, ping, nil)
		for range i % 50 {
			runtime.Gosched()
		}
		cancel()
		if got := <-done; got.err == nil {
			replied[string(got.reply.Get(FieldResult))] = true
		} else if !errors.Is(got.err, context.Canceled) {
			t.Error(got.err)
		}
	}
	_, _ = p.s.Call(t.Context(), request(t, ping), Outgoing{}, nil) // all before it was read
	sent := p.s.lastID
	p.close()
	serving.Wait()
	for id := range sent - 1 {
		key := fmt.Sprint(id + 1)
		if _, was := cancelled.Load(key); was == replied[key] {
			t.Errorf("call %s: replied %v, cancelled %v", key, replied[key], was)
		}
	}
}

func TestStreamToAPeerThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{})
		big := `{"jsonrpc":"2.0","id":1,"method":"x","params":{"x":"` + strings.Repeat("x", maxUnsent) + `"}}`
		inWrite := p.start(t.Context(), big, nil)
		synctest.Wait()
		queued := p.start(t.Context(), big, nil)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun := time.Now()
		if got := <-p.start(ctx, ping, nil); !errors.Is(got.err, context.DeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("%v after %v", got.err, time.Since(begun))
		}
		blocked := p.start(t.Context(), ping, nil)
		sending := make(chan error)
		go func() { sending <- p.s.Send(t.Context(), []byte(`{}`)) }()
		synctest.Wait()
		p.s.End(io.ErrUnexpectedEOF) // although the writer is blocked
		(<-inWrite).wantError(t, shannon.CodeConnectionLost, true)
		for _, c := range []chan outcome{queued, blocked} {
			(<-c).wantError(t, shannon.CodeServerDown, false)
		}
		if err := <-sending; shannon.CodeOf(err) != shannon.CodeServerDown {
			t.Error(err)
		}
		(<-p.start(t.Context(), ping, nil)).wantError(t, shannon.CodeServerDown, false)
		p.close()
		if err := p.s.Err(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}

func TestStreamGoesOnWhenThePeerReadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{})
		defer p.close()
		raw := `{"jsonrpc":"2.0","id":1,"method":"x","params":{"x":"` + strings.Repeat("x", maxUnsent/3) + `"}}`
		var calls []chan outcome
		for range 20 {
			calls = append(calls, p.start(t.Context(), raw, nil))
		}
		synctest.Wait()
		for range calls {
			id := string(p.next().Get(FieldID))
			p.send(result(id, id))
		}
		seen := map[string]bool{}
		for _, c := range calls {
			got := <-c
			if got.err != nil {
				t.Error(got.err)
			}
			seen[string(got.reply.Get(FieldResult))] = true
		}
		if len(seen) != len(calls) {
			t.Errorf("%d replies to %d calls", len(seen), len(calls))
		}
		synctest.Wait()
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		if len(p.s.pending) != 0 || cap(p.s.unsent) > maxSpare {
			t.Errorf("%d calls and %d bytes are kept", len(p.s.pending), cap(p.s.unsent))
		}
	})
}

func TestStreamEnds(t *testing.T) {
	why := errors.New("why")
	tests := map[string]struct {
		end     func(p *server)
		ended   func(error) error
		want    error
		asked   int
		mayHave bool
	}{
		"the server closes its output": {end: func(p *server) { _ = p.out.Close() }, want: io.EOF, asked: 1},
		"the server closes its input": {end: func(p *server) {
			_ = p.in.Close()
			_ = p.s.Send(p.t.Context(), []byte("{}"))
		}, want: io.ErrClosedPipe, asked: 1},
		"both at once": {end: func(p *server) {
			go func() { _ = p.in.CloseWithError(why) }()
			go func() { _ = p.out.CloseWithError(why) }()
			_ = p.s.Send(p.t.Context(), []byte("{}"))
		}, want: why, asked: 1},
		"the owner knows better":  {end: func(p *server) { _ = p.out.Close() }, ended: func(error) error { time.Sleep(time.Second); return why }, want: why, asked: 1},
		"the owner has no reason": {end: func(p *server) { _ = p.out.Close() }, ended: func(error) error { return nil }, want: io.EOF, asked: 1},
		"the owner ends it":       {end: func(p *server) { p.s.End(why); p.s.End(io.EOF); _ = p.out.Close() }, want: why},
		"without a reason":        {end: func(p *server) { p.s.End(nil); p.s.End(nil); _ = p.out.Close() }, want: io.EOF},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				asked := 0
				p := newServer(t, StreamOptions{Ended: func(err error) error {
					mu.Lock()
					defer mu.Unlock()
					asked++
					if tt.ended != nil {
						return tt.ended(err)
					}
					return err
				}})
				_, done := p.call(t.Context(), ping, nil)
				if err := p.s.Err(); err != nil {
					t.Error(err)
				}
				tt.end(p)
				<-p.s.Done()
				got := <-done
				got.wantError(t, shannon.CodeConnectionLost, true)
				p.close() // the reader's end is the owner's work
				if !errors.Is(got.err, tt.want) || !errors.Is(p.s.Err(), tt.want) || asked != tt.asked {
					t.Errorf("call: %v; stream: %v; want %v; asked %d times", got.err, p.s.Err(), tt.want, asked)
				}
			})
		})
	}
}

// While Ended waits for the process to exit, replies that are there are handed out.
func TestStreamReadsWhileTheWriterEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newServer(t, StreamOptions{Ended: func(err error) error { time.Sleep(time.Second); return err }})
		defer p.close()
		id, done := p.call(t.Context(), ping, nil)
		_ = p.in.Close()
		_ = p.s.Send(t.Context(), []byte("{}"))
		synctest.Wait()
		p.send(result(id, `{}`))
		(<-done).wantResult(t, `{}`)
	})
}

// Many callers, replies shuffled, every one with a nonce: none must cross.
func TestStreamManyCallers(t *testing.T) {
	sr, cw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cr, sw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var serving, calling sync.WaitGroup
	serving.Go(func() { echo(sr, sw, 7) })
	s := NewStream(cr, cw, StreamOptions{MaxMessage: 1 << 20, Request: func(Envelope) ([]byte, error) { return []byte("{}"), nil }})
	for g := range 64 {
		calling.Go(func() {
			for i := range 40 {
				nonce := fmt.Sprintf(`{"n":"%d-%d","pad":"%s"}`, g, i, strings.Repeat("p", g*i%5000))
				r, err := Author(nil, "x", []byte(nonce))
				if err != nil {
					t.Error(err)
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				if (g+i)%16 == 0 {
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				reply, err := s.Call(ctx, r, Outgoing{}, nil)
				if err == nil && string(reply.Get(FieldResult)) != nonce {
					t.Errorf("%s got %s", nonce, reply.Raw)
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	calling.Wait()
	s.End(io.EOF)
	serving.Wait()
	s.Wait()
	for _, f := range []*os.File{sr, cr} {
		_ = f.Close()
	}
}

// echo answers each request with its params, as many at once and in turned order
// as are there, at most batch; in between it asks and notifies. It ends with r.
func echo(r io.Reader, w io.WriteCloser, batch int) {
	defer func() { _ = w.Close() }()
	lines := NewLineReader(r, 64<<20)
	var held [][]byte
	for {
		line, err := lines.Next()
		if err != nil {
			return
		}
		if e, err := Scan(line); err == nil && e.Kind == KindRequest {
			reply := AppendResult(make([]byte, 0, len(line)+64), e.Get(FieldID), e.Get(FieldParams))
			held = append(held, append(reply, '\n'))
		}
		// Behind what is no request there may be nothing more, and callers who wait.
		if len(held) == 0 || len(held) < batch && lines.i < lines.n {
			continue
		}
		var out []byte
		for _, reply := range slices.Backward(held) {
			out = append(out, reply...)
		}
		held = held[:0]
		if batch > 1 {
			out = append(out, "noise\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n"...)
		}
		if _, err := w.Write(out); err != nil {
			return
		}
	}
}
