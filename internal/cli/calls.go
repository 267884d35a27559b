package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/schema"
	"github.com/shannon-mcp/shannon/internal/wire"
)

func (a *app) toolsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "tools [SERVER]", Short: "List the tools of all servers, or those of one with their arguments",
		Long: `List the known tools of all servers under the names that clients see, or the
tools of one server with their arguments. One server is started if it has to be.`,
		Example: "  shannon tools\n  shannon tools everything", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(m *access) error {
				server := strings.Join(args, "")
				tools, err := m.Tools(c.Context(), server)
				if err != nil {
					return err
				}
				switch {
				case a.json:
					a.out.data(tools)
				case len(tools) == 0:
					a.noTools(m, server)
				default:
					a.showTools(tools, server != "")
				}
				return nil
			})
		},
	}
}

func (a *app) noTools(m *access, server string) {
	switch {
	case server != "":
		a.out.sayf("%s offers no tools.", server)
	case m.daemon:
		a.out.sayf("No tools are known yet. %s shannon status", a.out.err.faint("next:"))
	default:
		a.out.sayf("No tools are known yet. %s shannon serve, or shannon tools SERVER", a.out.err.faint("next:"))
	}
}

func (a *app) showTools(tools []shannon.Tool, one bool) {
	t := &table{head: []string{"TOOL", "SERVER", "DESCRIPTION"}}
	if one {
		t.head = []string{"TOOL", "ARGUMENTS", "DESCRIPTION"}
	}
	for _, tool := range tools {
		description, _ := wire.Unquote(wire.Member(tool.Definition, "description"))
		if one {
			t.add(a.out.out.bold(oneLine(tool.Name)), schema.New(wire.Member(tool.Definition, "inputSchema")).Signature(), description)
		} else {
			t.add(a.out.out.bold(oneLine(tool.PublicName)), tool.Server, description)
		}
	}
	a.out.table(t)
}

func (a *app) callCommand() *cobra.Command {
	var jsonArgs string
	c := &cobra.Command{
		Use: "call SERVER TOOL [KEY=VALUE…]", Short: "Call a tool",
		Long: `Call a tool. Values are typed by the tool's schema: text stays text, numbers keep
their digits, lists and objects are JSON. --json-args gives all arguments as one
JSON object, as it is; - reads it from stdin.

Text is printed as it is, everything else is named; --json prints the result as
the server sent it. When the tool itself reports an error the exit code is 1.`,
		Example: `  shannon call everything echo message=hello
  shannon call everything get-sum a=2 b=3
  shannon call files edit_file path=a.txt 'edits=[{"oldText": "a", "newText": "b"}]'
  echo '{"message": "hello"}' | shannon call everything echo --json-args -`,
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			given := c.Flags().Changed("json-args")
			if given && len(args) > 2 {
				return usage("Give all of them in one way", "there are both --json-args and key=value arguments")
			}
			var object []byte
			if given {
				var err error
				if object, err = a.readObject(c.Context(), jsonArgs, "the arguments"); err != nil {
					return err
				}
			}
			return a.with(c.Context(), func(m *access) error { return a.call(c.Context(), m, args, object) })
		},
	}
	c.Flags().StringVar(&jsonArgs, "json-args", "", "all arguments as one `JSON` object; - reads stdin")
	return c
}

// readObject reads a JSON object, an argument or stdin.
func (a *app) readObject(ctx context.Context, text, what string) ([]byte, error) {
	raw, err := a.readAll(ctx, text)
	if err != nil {
		return nil, err
	}
	raw = bytes.TrimSpace(raw)
	const hint = `Give an object: '{"text": "hello"}'`
	if err := json.Unmarshal(raw, new(json.RawMessage)); err != nil {
		return nil, jsonError(raw, err, hint)
	}
	if raw[0] != '{' {
		return nil, usage(hint, "%s must be a JSON object", what)
	}
	return raw, nil
}

func (a *app) call(ctx context.Context, m *access, args []string, object []byte) error {
	server, name := args[0], args[1]
	if object == nil {
		tools, err := m.Tools(ctx, server)
		if err != nil {
			return err
		}
		// A tool that is not there is the manager's to refuse.
		if i := slices.IndexFunc(tools, func(t shannon.Tool) bool { return t.Name == name }); i >= 0 {
			s := schema.New(wire.Member(tools[i].Definition, "inputSchema"))
			if object, err = s.Arguments(args[2:], name, "shannon call "+server+" "+name); err != nil {
				return err
			}
		}
	}
	result, err := m.CallTool(ctx, server, name, object)
	if err != nil {
		return err
	}
	a.showResult(result)
	if string(bytes.TrimSpace(wire.Member(result, "isError"))) == "true" {
		return exitError(exitFailed)
	}
	return nil
}

// showResult prints the result of a tool.
func (a *app) showResult(result []byte) {
	if a.json {
		a.out.raw(result)
		return
	}
	var blocks []json.RawMessage
	// Content of another shape is shown as it is.
	err := json.Unmarshal(wire.Member(result, "content"), &blocks)
	if structured := wire.Member(result, "structuredContent"); len(blocks) == 0 && structured != nil {
		a.out.pretty(structured)
		return
	}
	if err != nil {
		a.out.pretty(result)
		return
	}
	for _, block := range blocks {
		a.showBlock(block)
	}
}

func (a *app) showBlock(block []byte) {
	field := func(raw []byte, key string) string {
		text, _ := wire.Unquote(wire.Member(raw, key))
		return text
	}
	switch kind := field(block, "type"); kind {
	case "text":
		a.out.text(field(block, "text"))
	case "image", "audio":
		size := len(field(block, "data")) / 4 * 3
		a.out.printf("[%s: %s, about %d bytes; --json has it]", kind, field(block, "mimeType"), size)
	case "resource_link":
		a.out.printf("[resource: %s %s]", field(block, "uri"), field(block, "name"))
	case "resource":
		resource := wire.Member(block, "resource")
		a.out.printf("[resource: %s]", field(resource, "uri"))
		if wire.Member(resource, "text") != nil {
			a.out.text(field(resource, "text"))
		}
	default:
		a.out.pretty(block)
	}
}

// text writes a server's text: byte for byte to a file or pipe, without control
// characters to a terminal.
func (p *printer) text(text string) {
	if p.width > 0 {
		text = safe(text)
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	_, _ = p.stdout.Write([]byte(text)) // a reader that went away needs nothing
}

// pretty writes JSON for people, keeping every digit.
func (p *printer) pretty(raw []byte) {
	var b bytes.Buffer
	if json.Indent(&b, raw, "", "  ") != nil {
		b.Reset()
		b.Write(raw)
	}
	p.raw(b.Bytes())
}

func (a *app) requestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "request SERVER METHOD [JSON|-]", Short: "Send any request to a server",
		Example: "  shannon request everything tools/list\n" +
			"  shannon request everything resources/read '{\"uri\": \"demo://resource/static/document/features.md\"}'",
		Args: cobra.RangeArgs(2, 3), ValidArgsFunction: a.serverNames,
		RunE: func(c *cobra.Command, args []string) error {
			var params []byte
			if len(args) == 3 {
				var err error
				if params, err = a.readObject(c.Context(), args[2], "the parameters"); err != nil {
					return err
				}
			}
			return a.with(c.Context(), func(m *access) error {
				result, err := m.Request(c.Context(), args[0], args[1], params)
				if err != nil {
					return err
				}
				if a.json {
					a.out.raw(result)
				} else {
					a.out.pretty(result)
				}
				return nil
			})
		},
	}
}
