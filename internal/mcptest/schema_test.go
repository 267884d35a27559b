package mcptest_test

import (
	"testing"

	"github.com/shannon-mcp/shannon/internal/mcptest"
)

// TestSchema holds all that the server and the client say against the schema.
func TestSchema(t *testing.T) {
	for _, version := range mcptest.Versions {
		t.Run(version, func(t *testing.T) {
			schema := mcptest.LoadSchema(t, version)
			for _, form := range []string{"pipe", "http"} {
				o := mcptest.Options{Version: version, Capabilities: `{"sampling":{}}`}
				c := forms[form](t, mcptest.Script{}, o)
				c.OnRequest("sampling/createMessage", func(jsonRaw) (string, error) {
					return `{"role":"assistant","model":"m","content":{"type":"text","text":"t"}}`, nil
				})
				c.Open()
				for _, call := range [][2]string{
					{"tools/list", ""},
					{"prompts/list", ""},
					{"prompts/get", `{"name":"greet"}`},
					{"resources/list", ""},
					{"resources/templates/list", ""},
					{"resources/read", `{"uri":"mcptest://text"}`},
					{"resources/read", `{"uri":"x:y"}`},
					{"completion/complete", `{"ref":{"type":"ref/prompt","name":"greet"},"argument":{"name":"who","value":"w"}}`},
					{"ping", ""},
				} {
					c.Call(call[0], call[1])
				}
				for name, args := range map[string]string{
					"echo": `{"a":1}`, "fail": `{}`, "slow": `{"ms":2,"steps":2}`, "rpcerror": `{"code":1,"message":"m"}`, "headers": `{}`,
					"ask": `{"method":"sampling/createMessage","params":{"maxTokens":1,"messages":[]}}`,
				} {
					c.Call("tools/call", `{"name":"`+name+`","arguments":`+args+`,"_meta":{"progressToken":"p"}}`)
				}
				if version == mcptest.Modern {
					st := c.Listen(`{"toolsListChanged":true}`)
					st.Next()
					c.Tool("change", `{"add":["fresh"]}`)
					st.Next()
				}
				if err := schema.CheckTranscript(c.Transcript); err != nil {
					t.Errorf("%s: %v", form, err)
				}
			}
			if err := schema.Check("ListToolsResult", []byte(`{"tools":42}`)); err == nil {
				t.Error("a wrong shape was not seen")
			}
		})
	}
}
