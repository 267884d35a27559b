package wire

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shannon-mcp/shannon"
)

func TestAppendError(t *testing.T) {
	broken := Errorf(CodeParse, "parse error at byte 3")
	lost := shannon.Errorf(shannon.CodeConnectionLost, "look", "gone")
	lost.MayHaveRun = true
	own := shannon.Errorf(shannon.CodeCallFailed, "", "no")
	own.RPC = []byte(`{"code":5,"message":"n\u006f","x":1.0}`)
	tests := []struct {
		name string
		id   string
		err  error
		want string
	}{
		{"the client's own fault", `"a"`, fmt.Errorf("read request: %w", broken), `{"jsonrpc":"2.0","id":"a","error":{"code":-32700,"message":"parse error at byte 3"}}`},
		{"without an id", ``, broken, `{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error at byte 3"}}`},
		{"with data", `1`, &RPCError{Code: 7, Message: "m", Data: []int{1}}, `{"jsonrpc":"2.0","id":1,"error":{"code":7,"message":"m","data":[1]}}`},
		{"data that cannot be encoded", `1`, &RPCError{Code: 7, Data: make(chan int)}, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"internal error"}}`},
		{"the server's fault", `1`, shannon.Errorf(shannon.CodeProtocolError, "", "bad reply: %w", broken), `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"bad reply: parse error at byte 3","data":{"code":"protocol_error"}}}`},
		{"may have run", `1`, lost, `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"gone","data":{"code":"connection_lost","hint":"look","mayHaveRun":true}}}`},
		{"the server's own error object", `1`, fmt.Errorf("call: %w", own), `{"jsonrpc":"2.0","id":1,"error":{"code":5,"message":"n\u006f","x":1.0}}`},
		{"anything else", `1`, errors.New("x"), `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"x","data":{"code":"internal"}}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := AppendError(nil, []byte(tt.id), tt.err)
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if e, err := Scan(got); err != nil || e.Kind != KindError {
				t.Errorf("kind %d, %v", e.Kind, err)
			}
		})
	}
}

func TestToRPCCodes(t *testing.T) {
	for code, want := range map[shannon.Code]int{
		shannon.CodeUnknownTool:    CodeInvalidParams,
		shannon.CodeUnknownServer:  CodeInvalidParams,
		shannon.CodeInvalidRequest: CodeInvalidRequest,
		shannon.CodeUnsupported:    CodeMethodNotFound,
		shannon.CodeTimeout:        CodeInternal,
	} {
		if got := ToRPC(shannon.Errorf(code, "", "x")).Code; got != want {
			t.Errorf("%s became %d, want %d", code, got, want)
		}
	}
}

func TestNewRequestNames(t *testing.T) {
	tests := []struct {
		method, params, want string
		code                 int
	}{
		{"tools/call", `{"name":"a\u00e9"}`, "aé", 0},
		{"prompts/get", `{"name":"p"}`, "p", 0},
		{"resources/read", `{"uri":"file:\/\/x","name":"y"}`, "file://x", 0},
		{"tools/list", `{"cursor":"c"}`, "c", 0},
		{"tasks/get", `{"taskId":"s.1"}`, "s.1", 0},
		{"tasks/list", `{"cursor":"c","taskId":"t"}`, "c", 0},
		{"ping", `{"name":"a"}`, "", 0},
		{"tools/call", `{}`, "", 0},
		{"tools/call", `{"name":5}`, "", CodeInvalidParams},
		{"tools/call", `{"name":null}`, "", CodeInvalidParams},
		{"tools/call", `{"name":"a\u0000b"}`, "", CodeInvalidParams},
		{"notifications/cancelled", `{"requestId":5}`, "", 0},
	}
	for _, tt := range tests {
		e, err := Scan([]byte(`{"jsonrpc":"2.0","id":1,"method":"` + tt.method + `","params":` + tt.params + `}`))
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewRequest(e, nil)
		rpc, _ := errors.AsType[*RPCError](err)
		if tt.code != 0 && (rpc == nil || rpc.Code != tt.code) || tt.code == 0 && (err != nil || r.Name != tt.want) {
			t.Errorf("%s %s: name %q, %v", tt.method, tt.params, r.Name, err)
		}
	}
}

func TestInputRequired(t *testing.T) {
	for result, want := range map[string]bool{
		`{"resultType":"input_required"}`:      true,
		`{"resultType":"input\u005frequired"}`: true,
		`{"resultType":"complete"}`:            false,
		`{"resultType":true}`:                  false,
		`{}`:                                   false,
	} {
		r, err := ResultReply([]byte(result))
		if err != nil || r.InputRequired() != want {
			t.Errorf("%s: %v, %v", result, r.InputRequired(), err)
		}
	}
}
