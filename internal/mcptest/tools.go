package mcptest

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tool is a tool of the server; run returns a whole result object.
type tool struct {
	name, definition string
	run              func(c *call, args json.RawMessage) (string, error)
}

// allTools returns the tools that every server has. What needs a process of its
// own says so by isError when there is none.
func allTools() []tool {
	return []tool{
		newTool("echo", `returns its arguments, byte for byte`, `{}`, echo),
		newTool("add", `a + b`, `{"a":{"type":"number"},"b":{"type":"number"}}`, add),
		newTool("slow", `takes ms, in so many steps of progress`, `{"ms":{"type":"integer"},"steps":{"type":"integer"}}`, slow),
		newTool("fail", `a result with isError`, `{"text":{"type":"string"}}`, fail),
		newTool("rpcerror", `a JSON-RPC error`, `{"code":{"type":"integer"},"message":{"type":"string"},"data":{}}`, rpcError),
		newTool("big", `a text of so many bytes`, `{"bytes":{"type":"integer"}}`, big),
		newTool("exact", `returns its argument as the whole result, byte for byte`, `{"result":{"type":"object"}}`, exact),
		newTool("ask", `asks the client`, `{"method":{"type":"string"},"params":{"type":"object"},"rounds":{"type":"integer"}}`, ask),
		newTool("notify", `sends a notification before it answers`, `{"method":{"type":"string"},"params":{"type":"object"}}`, notify),
		newTool("change", `adds and removes tools`, `{"add":{"type":"array"},"remove":{"type":"array"}}`, change),
		newTool("touch", `announces that a resource changed`, `{"uri":{"type":"string"}}`, touch),
		newTool("arm", `arms a fault`, `{"do":{"type":"string"}}`, arm),
		newTool("disarm", `removes all faults`, `{}`, disarm),
		newTool("hang", `never answers`, `{}`, hang),
		newTool("cancelled", `the ids of the cancelled calls`, `{}`, cancelled),
		newTool("headers", `the HTTP headers of the call`,
			`{"region":{"type":"string","x-mcp-header":"Region"}}`, headers),
		newTool("env", `environment variables by name`, `{"names":{"type":"array"}}`, env),
		newTool("pid", `the process id`, `{}`, pid),
		newTool("cwd", `the working directory`, `{}`, cwd),
		newTool("stderr", `prints to stderr`, `{"text":{"type":"string"}}`, stderr),
		newTool("noise", `prints to stdout what is no message`, `{"text":{"type":"string"}}`, noise),
		newTool("exit", `exits without answering`, `{"code":{"type":"integer"}}`, exit),
		newTool("crash", `dies in the middle of the answer`, `{}`, crash),
		newTool("fork", `leaves grandchildren behind: n of them, stubborn ones ignore SIGTERM, and those that inherit keep stdout open`,
			`{"n":{"type":"integer"},"stubborn":{"type":"boolean"},"inherit":{"type":"boolean"},"ms":{"type":"integer"}}`, fork),
	}
}

func newTool(name, description, properties string, run func(*call, json.RawMessage) (string, error)) tool {
	return tool{name, `{"name":` + quote(name) + `,"description":` + quote(description) +
		`,"inputSchema":{"type":"object","properties":` + properties + `}}`, run}
}

// customTool echoes.
func customTool(definition string) tool {
	return tool{text(get(json.RawMessage(definition), "name")), definition, echo}
}

func (s *Server) callTool(c *call) (string, error) {
	name := text(get(c.Params, "name"))
	s.mu.Lock()
	i := slices.IndexFunc(s.tools, func(t tool) bool { return t.name == name })
	var t tool
	if i >= 0 {
		t = s.tools[i]
	}
	s.mu.Unlock()
	if i < 0 {
		return "", &problem{code: -32602, message: "unknown tool: " + name}
	}
	args := get(c.Params, "arguments")
	if err := checkHeaders(c, t, args); err != nil {
		return "", err
	}
	return t.run(c, args)
}

// checkHeaders holds Mcp-Param-* headers against the arguments (2026-07-28,
// streamable-http, custom headers). Only top-level strings are annotated here.
func checkHeaders(c *call, t tool, args json.RawMessage) error {
	if !c.modern || c.header == nil {
		return nil
	}
	var properties map[string]json.RawMessage
	if json.Unmarshal(get(json.RawMessage(t.definition), "inputSchema", "properties"), &properties) != nil {
		return nil //nolint:nilerr // a custom tool may have any schema, or none
	}
	for key, property := range properties {
		header := text(get(property, "x-mcp-header"))
		if header == "" {
			continue
		}
		values, sent := c.header[http.CanonicalHeaderKey("Mcp-Param-"+header)]
		value := get(args, key)
		wanted := value != nil && string(value) != "null"
		if sent != wanted || (wanted && decodeHeader(values[0]) != text(value)) {
			return &problem{code: -32020, message: "header mismatch: Mcp-Param-" + header, status: http.StatusBadRequest}
		}
	}
	return nil
}

// text and structured compose the result of a tool.
func (c *call) text(s string, isError bool) string {
	flag := ""
	if isError {
		flag = `"isError":true,`
	}
	// The text comes last, so that half of a big answer ends within it.
	return c.complete(`{` + flag + `"content":[{"type":"text","text":` + quote(s) + `}]}`)
}

func (c *call) structured(raw string) string {
	return c.complete(`{"content":[{"type":"text","text":` + quote(raw) + `}],"structuredContent":` + raw + `}`)
}

func filler(n int) string { return strings.Repeat("x", n) }

func expandID(raw string, id []byte) string { return strings.ReplaceAll(raw, "{id}", string(id)) }

// arguments decodes what a tool wants.
func arguments[T any](raw json.RawMessage) (T, error) {
	var v T
	if raw == nil {
		return v, nil
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, &problem{code: -32602, message: err.Error()}
	}
	return v, nil
}

func echo(c *call, args json.RawMessage) (string, error) {
	if args == nil {
		args = json.RawMessage(`{}`)
	}
	return c.structured(string(args)), nil
}

func add(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct{ A, B float64 }](args)
	if err != nil {
		return "", err
	}
	return c.structured(`{"sum":` + strconv.FormatFloat(a.A+a.B, 'f', -1, 64) + `}`), nil
}

func slow(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct{ MS, Steps int }](args)
	if err != nil {
		return "", err
	}
	token := c.meta("progressToken")
	steps := max(a.Steps, 1)
	for i := range steps {
		if !c.wait(time.Duration(a.MS) * time.Millisecond / time.Duration(steps)) {
			return "", errSilent
		}
		if token != nil && a.Steps > 0 {
			c.say(notification("notifications/progress", `{"progressToken":`+string(token)+
				`,"progress":`+strconv.Itoa(i+1)+`,"total":`+strconv.Itoa(steps)+`}`))
		}
	}
	return c.text("done", false), nil
}

func fail(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct{ Text string }](args)
	return c.text(a.Text, true), err
}

func rpcError(_ *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct {
		Code    int
		Message string
		Data    json.RawMessage
	}](args)
	if err != nil {
		return "", err
	}
	return "", &problem{code: a.Code, message: a.Message, data: string(a.Data)}
}

func big(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct{ Bytes int }](args)
	return c.text(filler(a.Bytes), false), err
}

func exact(_ *call, args json.RawMessage) (string, error) {
	return string(get(args, "result")), nil
}

func notify(c *call, args json.RawMessage) (string, error) {
	c.say(notification(text(get(args, "method")), string(get(args, "params"))))
	return c.text("notified", false), nil
}

func change(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct{ Add, Remove []string }](args)
	if err != nil {
		return "", err
	}
	for _, name := range a.Add {
		c.srv.AddTool(`{"name":` + quote(name) + `,"inputSchema":{"type":"object"}}`)
	}
	for _, name := range a.Remove {
		c.srv.RemoveTool(name)
	}
	return c.text("changed", false), nil
}

func touch(c *call, args json.RawMessage) (string, error) {
	uri := text(get(args, "uri"))
	c.srv.broadcast("notifications/resources/updated", `{"uri":`+quote(uri)+`}`,
		func(sess *session) bool { return slices.Contains(sess.uris, uri) },
		func(filter json.RawMessage) bool {
			var uris []string
			_ = json.Unmarshal(get(filter, "resourceSubscriptions"), &uris)
			return slices.Contains(uris, uri)
		})
	return c.text("touched", false), nil
}

func arm(c *call, args json.RawMessage) (string, error) {
	f, err := arguments[Fault](args)
	if err != nil {
		return "", err
	}
	c.srv.Arm(f)
	return c.text("armed", false), nil
}

func disarm(c *call, _ json.RawMessage) (string, error) {
	c.srv.Disarm()
	return c.text("disarmed", false), nil
}

func hang(c *call, _ json.RawMessage) (string, error) {
	<-c.stop
	return "", errSilent
}

func cancelled(c *call, _ json.RawMessage) (string, error) {
	return c.structured(`{"ids":[` + strings.Join(c.srv.Cancelled(), ",") + `]}`), nil
}

func headers(c *call, _ json.RawMessage) (string, error) {
	return c.structured(toJSON(map[string]any{"headers": c.header})), nil
}

func env(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct{ Names []string }](args)
	found := map[string]string{}
	for _, name := range a.Names {
		if value, ok := os.LookupEnv(name); ok { //nolint:forbidigo // the tool reports the environment
			found[name] = value
		}
	}
	return c.structured(toJSON(found)), err
}

func pid(c *call, _ json.RawMessage) (string, error) {
	return c.structured(`{"pid":` + strconv.Itoa(os.Getpid()) + `}`), nil
}

func cwd(c *call, _ json.RawMessage) (string, error) {
	dir, err := os.Getwd()
	return c.text(dir, false), err
}

func stderr(c *call, args json.RawMessage) (string, error) {
	if c.srv.child == nil {
		return c.text("no process", true), nil
	}
	_, err := c.srv.child.stderr.Write([]byte(text(get(args, "text"))))
	return c.text("printed", false), err
}

func noise(c *call, args json.RawMessage) (string, error) {
	if c.sess.raw == nil {
		return c.text("no byte stream", true), nil
	}
	c.sess.raw([]byte(text(get(args, "text")) + "\n"))
	return c.text("made", false), nil
}

func exit(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct{ Code int }](args)
	if err != nil {
		return "", err
	}
	c.srv.die(c, a.Code)
	return "", errDead
}

func crash(c *call, _ json.RawMessage) (string, error) {
	c.srv.crash(c, result(c.ID, c.text(filler(100), false)))
	return "", errDead
}

// capabilityOf names the capability that a request to a client needs.
func capabilityOf(method string) string {
	switch method {
	case "sampling/createMessage":
		return "sampling"
	case "elicitation/create":
		return "elicitation"
	case "roots/list":
		return "roots"
	}
	return ""
}

// ask asks the client something, rounds times, and returns all that it said:
// by requests of its own in the legacy era, by input_required in the modern.
func ask(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[struct {
		Method string
		Params json.RawMessage
		Rounds int
	}](args)
	if err != nil {
		return "", err
	}
	if a.Params == nil {
		a.Params = json.RawMessage(`{}`)
	}
	caps := c.sess.caps
	if c.modern {
		caps = c.meta("io.modelcontextprotocol/clientCapabilities")
	}
	if name := capabilityOf(a.Method); name != "" && get(caps, name) == nil {
		if !c.modern {
			return c.text("the client has no "+name, true), nil
		}
		return "", &problem{
			code: -32021, message: "the client has no " + name, status: http.StatusBadRequest,
			data: `{"requiredCapabilities":{` + quote(name) + `:{}}}`,
		}
	}
	if c.modern {
		return askModern(c, a.Method, string(a.Params), max(a.Rounds, 1))
	}
	answers := make([]string, 0, a.Rounds)
	for range max(a.Rounds, 1) {
		m, err := c.ask(a.Method, string(a.Params))
		switch {
		case err != nil:
			return "", err
		case m.Error != nil:
			answers = append(answers, `{"error":`+string(m.Error)+`}`)
		default:
			answers = append(answers, string(m.Result))
		}
	}
	return c.structured(`{"answers":[` + strings.Join(answers, ",") + `]}`), nil
}

// askModern keeps what was said so far in requestState.
func askModern(c *call, method, params string, rounds int) (string, error) {
	answers := []json.RawMessage{}
	if state := get(c.Params, "requestState"); state != nil {
		rest, ok := strings.CutPrefix(text(state), "mcptest:")
		if !ok || json.Unmarshal([]byte(rest), &answers) != nil {
			return "", &problem{code: -32602, message: "requestState is not mine"}
		}
	}
	if answer := get(c.Params, "inputResponses", "ask"); answer != nil {
		answers = append(answers, answer)
	}
	if len(answers) >= rounds {
		return c.structured(`{"answers":` + toJSON(answers) + `}`), nil
	}
	return `{"resultType":"input_required","inputRequests":{"ask":{"method":` + quote(method) + `,"params":` + params +
		`}},"requestState":` + quote("mcptest:"+toJSON(answers)) + `}`, nil
}

// ask sends a request to the client on the call's stream and waits for the reply.
func (c *call) ask(method, params string) (Message, error) {
	ch := make(chan Message, 1)
	c.srv.mu.Lock()
	c.srv.asked++
	id := `"ask-` + strconv.Itoa(c.srv.asked) + `"`
	c.sess.asks[id] = ch
	c.srv.mu.Unlock()
	c.say(request(id, method, params))
	select {
	case m := <-ch:
		return m, nil
	case <-c.stop:
		return Message{}, errSilent
	}
}

var errNoChild = errors.New("this server is no process of its own")

func fork(c *call, args json.RawMessage) (string, error) {
	a, err := arguments[forkOptions](args)
	if err != nil {
		return "", err
	}
	if c.srv.child == nil {
		return "", errNoChild
	}
	pids, err := forkAway(a)
	if err != nil {
		return "", err
	}
	return c.structured(`{"pids":` + toJSON(pids) + `}`), nil
}
