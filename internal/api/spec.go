package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/shannon-mcp/shannon"
)

// verbatimObject is a JSON object that is carried as it is; null counts as absent.
type verbatimObject []byte

// UnmarshalJSON keeps the bytes.
func (o *verbatimObject) UnmarshalJSON(b []byte) error {
	*o = nil
	switch {
	case string(b) == "null":
		return nil
	case len(b) == 0 || b[0] != '{':
		return invalid("", "arguments and params are JSON objects")
	}
	*o = append(*o, b...)
	return nil
}

// describe makes the OpenAPI document of the routes. Serving is not left to the
// framework: it would decode what must stay as it is, and has its own errors.
func describe(routes []route, version string) ([]byte, error) {
	types := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	types.RegisterTypeAlias(reflect.TypeFor[shannon.Duration](), reflect.TypeFor[float64]())
	types.RegisterTypeAlias(reflect.TypeFor[shannon.Opaque](), reflect.TypeFor[map[string]any]())
	types.RegisterTypeAlias(reflect.TypeFor[verbatimObject](), reflect.TypeFor[map[string]any]())
	types.RegisterTypeAlias(reflect.TypeFor[raw](), reflect.TypeFor[json.RawMessage]())

	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Shannon", Version: version,
			Description: "Management of MCP servers. Over TCP every request needs the bearer token; over the socket none does.",
		},
		Components: &huma.Components{
			Schemas:         types,
			SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}},
		},
		Security: []map[string][]string{{"token": {}}, {}},
	}
	for _, rt := range routes {
		doc.AddOperation(operation(rt, types))
	}
	onlyRequire(types, "Draft", "name", "transport")
	onlyRequire(types, "Patch")
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	return text, nil
}

func onlyRequire(types huma.Registry, name string, keys ...string) {
	if s := types.Map()[name]; s != nil {
		s.Required = keys
	}
}

func operation(rt route, types huma.Registry) *huma.Operation {
	op := &huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.id, Summary: rt.about,
		Responses: map[string]*huma.Response{
			"default": content("What is wrong", types, document{}, "application/problem+json"),
		},
	}
	if strings.Contains(rt.path, "{name}") {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "name", In: "path", Required: true, Description: "The server's name", Schema: &huma.Schema{Type: huma.TypeString},
		})
	}
	for _, p := range rt.query {
		s := types.Schema(reflect.TypeOf(p.example), true, "")
		for _, w := range p.words {
			s.Enum = append(s.Enum, w)
		}
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.about, Schema: s})
	}
	if rt.body != nil {
		body := content("", types, rt.body, rt.media...)
		op.RequestBody = &huma.RequestBody{Required: true, Content: body.Content}
	}
	status, answer := http.StatusOK, (*huma.Response)(nil)
	switch {
	case rt.items != nil:
		answer = content("Server-sent events, each the JSON of one item; an event of type "+eventProblem+" is the last", types, rt.items, mediaStream)
	case rt.result != nil:
		answer = content("Done", types, rt.result, mediaJSON)
	default:
		status, answer = http.StatusNoContent, &huma.Response{Description: "Done"}
	}
	if rt.id == idAdd {
		status = http.StatusCreated
	}
	op.Responses[strconv.Itoa(status)] = answer
	return op
}

func content(about string, types huma.Registry, v any, media ...string) *huma.Response {
	r := &huma.Response{Description: about, Content: map[string]*huma.MediaType{}}
	for _, m := range media {
		r.Content[m] = &huma.MediaType{Schema: types.Schema(reflect.TypeOf(v), true, "")}
	}
	return r
}
