package edge

import (
	"context"
	"testing"

	"github.com/shannon-mcp/shannon/internal/wire"
)

// Who has got a reply may use its id again, however soon: scripts that send the
// same request over and over do.
func TestIDsAreFreeOnceAnswered(t *testing.T) {
	t.Parallel()
	s := newRig(t, Options{}, &fake{handle: func(_ context.Context, _ *wire.Request, sink wire.Sink) (wire.Reply, error) {
		sink.Deliver(wire.Notification{Method: "notifications/message", Raw: []byte(`{"jsonrpc":"2.0","method":"notifications/message"}`)})
		return reply(`{}`)
	}})
	h := heads(headerSession, s.initialize("2025-11-25"))
	for range 300 {
		e := newEvents(t, s.open(t.Context(), "POST", "/mcp", h, `{"jsonrpc":"2.0","id":1,"method":"x"}`))
		e.next()
		if got := e.next(); got != `{"jsonrpc":"2.0","id":1,"result":{}}` {
			t.Fatalf("the reply is %s", got)
		}
		defer e.close() // the stream's end is in no hurry
	}
}
