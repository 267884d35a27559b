package mcptest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const metaVersion = "io.modelcontextprotocol/protocolVersion"

// The methods that one era has and the other has not.
var (
	legacyOnly = []string{"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"}
	modernOnly = []string{"server/discover", "subscriptions/listen"}
	cacheable  = []string{
		"server/discover", "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read",
	}
)

func unknownMethod(method string) *problem {
	return &problem{code: -32601, message: "method not found: " + method}
}

// isModernRequest tells the era of a request by what it carries.
func isModernRequest(m *Message) bool {
	return m.Method == "server/discover" || get(m.Params, "_meta", metaVersion) != nil
}

// admit checks what a request must carry before its method matters.
func (s *Server) admit(c *call) error {
	modern, legacy := s.script.versions(true), s.script.versions(false)
	if !c.modern {
		switch {
		case len(legacy) == 0:
			return &problem{
				code: -32022, message: "this server speaks " + strings.Join(modern, ", "), status: 400,
				data: `{"supported":` + toJSON(modern) + `}`,
			}
		case slices.Contains(modernOnly, c.Method):
			return unknownMethod(c.Method)
		case c.sess.version == "" && c.Method != "initialize" && c.Method != "ping":
			return &problem{code: -32600, message: "initialize comes first", status: 400}
		}
		return nil
	}
	if len(modern) == 0 {
		if c.Method == "server/discover" || c.sess.version == "" {
			return unknownMethod(c.Method)
		}
		return nil
	}
	version := text(c.meta(metaVersion))
	switch {
	case version == "" || c.meta("io.modelcontextprotocol/clientCapabilities") == nil:
		return &problem{code: -32602, message: "params._meta lacks protocolVersion or clientCapabilities", status: 400}
	case !slices.Contains(modern, version):
		all := append(slices.Clone(modern), legacy...)
		return &problem{
			code: -32022, message: "unsupported protocol version", status: 400,
			data: `{"supported":` + toJSON(all) + `,"requested":` + quote(version) + `}`,
		}
	case slices.Contains(legacyOnly, c.Method):
		p := unknownMethod(c.Method)
		p.status = 404
		return p
	}
	return nil
}

// answer computes the result of a request.
func (s *Server) answer(c *call) (string, error) {
	if err := s.admit(c); err != nil {
		return "", err
	}
	s.mu.Lock()
	h := s.handlers[c.Method]
	s.mu.Unlock()
	if h != nil {
		return h(c.Params)
	}
	switch c.Method {
	case "tools/call":
		return s.callTool(c)
	case "mcptest/exact":
		return string(c.Params), nil
	}
	body, err := s.method(c)
	if err != nil {
		return "", err
	}
	return c.complete(body), nil
}

// complete adds to a result what the era and the method want.
func (c *call) complete(body string) string {
	if !c.modern {
		return body
	}
	extra := `"resultType":"complete"`
	if slices.Contains(cacheable, c.Method) {
		scope := c.srv.script.Scope
		if scope == "" {
			scope = "public"
		}
		extra += `,"ttlMs":` + strconv.Itoa(c.srv.script.TTL) + `,"cacheScope":` + quote(scope)
	}
	return into(withMeta(body, `"io.modelcontextprotocol/serverInfo":`+c.srv.info()), extra)
}

func (s *Server) info() string {
	name := s.script.Name
	if name == "" {
		name = "fake"
	}
	return `{"name":` + quote(name) + `,"version":"1.2.3"}`
}

func (s *Server) capabilities(modern bool) string {
	switch {
	case s.script.Capabilities != nil:
		return string(s.script.Capabilities)
	case modern:
		return `{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true},"completions":{}}`
	}
	return `{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true},"completions":{},"logging":{}}`
}

// method answers everything but tool calls.
func (s *Server) method(c *call) (string, error) {
	switch c.Method {
	case "initialize":
		return s.initialize(c), nil
	case "server/discover":
		return `{"supportedVersions":` + toJSON(append(s.script.versions(true), s.script.versions(false)...)) + `,"capabilities":` + s.capabilities(true) +
			s.instructions() + `}`, nil
	case "subscriptions/listen":
		return s.listen(c)
	case "ping":
		return `{}`, nil
	case "tools/list":
		s.mu.Lock()
		definitions := make([]string, 0, len(s.tools))
		for _, t := range s.tools {
			definitions = append(definitions, t.definition)
		}
		s.mu.Unlock()
		return s.page(c, "tools", definitions)
	case "prompts/list":
		return s.page(c, "prompts", []string{`{"name":"greet","arguments":[{"name":"who"}]}`})
	case "resources/list":
		return s.page(c, "resources", []string{`{"uri":"mcptest://text","name":"text","mimeType":"text/plain"}`})
	case "resources/templates/list":
		return s.page(c, "resourceTemplates", []string{`{"uriTemplate":"mcptest://item/{id}","name":"item"}`})
	case "logging/setLevel":
		s.mu.Lock()
		defer s.mu.Unlock()
		c.sess.level = text(get(c.Params, "level"))
		return `{}`, nil
	case "x/echo":
		return `{"params":` + orNull(c.Params) + `}`, nil
	case "mcptest/arm", "mcptest/disarm":
		return s.command(c)
	}
	return s.content(c)
}

// content answers what prompts, resources and completion have.
func (s *Server) content(c *call) (string, error) {
	uri := text(get(c.Params, "uri"))
	switch c.Method {
	case "prompts/get":
		if text(get(c.Params, "name")) != "greet" {
			return "", &problem{code: -32602, message: "unknown prompt"}
		}
		who := text(get(c.Params, "arguments", "who"))
		return `{"messages":[{"role":"user","content":{"type":"text","text":` + quote("Greet "+who) + `}}]}`, nil
	case "resources/read":
		if !strings.HasPrefix(uri, "mcptest://") {
			code := -32002
			if c.modern {
				code = -32602
			}
			return "", &problem{code: code, message: "unknown resource", data: `{"uri":` + quote(uri) + `}`}
		}
		return `{"contents":[{"uri":` + quote(uri) + `,"mimeType":"text/plain","text":` + quote("text of "+uri) + `}]}`, nil
	case "resources/subscribe", "resources/unsubscribe":
		s.mu.Lock()
		defer s.mu.Unlock()
		c.sess.uris = slices.DeleteFunc(c.sess.uris, func(u string) bool { return u == uri })
		if c.Method == "resources/subscribe" {
			c.sess.uris = append(c.sess.uris, uri)
		}
		return `{}`, nil
	case "completion/complete":
		return `{"completion":{"values":[` + quote(text(get(c.Params, "argument", "value"))+"!") + `],"total":1}}`, nil
	}
	p := unknownMethod(c.Method)
	if c.modern {
		p.status = 404
	}
	return "", p
}

func orNull(raw json.RawMessage) string {
	if raw == nil {
		return "null"
	}
	return string(raw)
}

func (s *Server) instructions() string {
	if s.script.Instructions == "" {
		return ""
	}
	return `,"instructions":` + quote(s.script.Instructions)
}

func (s *Server) initialize(c *call) string {
	versions := s.script.versions(false)
	version := text(get(c.Params, "protocolVersion"))
	if !slices.Contains(versions, version) {
		version = versions[len(versions)-1]
	}
	s.mu.Lock()
	c.sess.version, c.sess.caps = version, get(c.Params, "capabilities")
	s.mu.Unlock()
	return `{"protocolVersion":` + quote(version) + `,"capabilities":` + s.capabilities(false) +
		`,"serverInfo":` + s.info() + s.instructions() + `}`
}

// page cuts a list; cursors are offsets.
func (s *Server) page(c *call, key string, all []string) (string, error) {
	start, end, next := 0, len(all), ""
	if raw := get(c.Params, "cursor"); raw != nil {
		n, err := strconv.Atoi(strings.TrimPrefix(text(raw), "from-"))
		if err != nil || n < 0 || n > len(all) {
			return "", &problem{code: -32602, message: "unknown cursor"}
		}
		start = n
	}
	if size := s.script.PageSize; size > 0 && start+size < end {
		end = start + size
		next = fmt.Sprintf(`,"nextCursor":"from-%d"`, end)
	}
	return `{` + quote(key) + `:[` + strings.Join(all[start:end], ",") + `]` + next + `}`, nil
}

// listen keeps a subscription until the client or the server ends it.
func (s *Server) listen(c *call) (string, error) {
	filter := get(c.Params, "notifications")
	if filter == nil {
		return "", &problem{code: -32602, message: "notifications is missing", status: 400}
	}
	c.say(notification("notifications/subscriptions/acknowledged",
		`{"_meta":{`+subscription(c)+`},"notifications":`+string(filter)+`}`))
	s.mu.Lock()
	s.listening[c] = true
	s.mu.Unlock()
	<-c.stop
	s.mu.Lock()
	delete(s.listening, c)
	s.mu.Unlock()
	select {
	case <-s.done: // the server ends: close in order
		return `{"_meta":{` + subscription(c) + `}}`, nil
	default:
		return "", errSilent
	}
}

// command arms a fault on request.
func (s *Server) command(c *call) (string, error) {
	if c.Method == "mcptest/disarm" {
		s.Disarm()
		return `{}`, nil
	}
	var f Fault
	if err := json.Unmarshal(c.Params, &f); err != nil {
		return "", &problem{code: -32602, message: err.Error()}
	}
	s.Arm(f)
	return `{}`, nil
}
