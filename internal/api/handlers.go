package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

func (a *api) listServers(r *request) (any, error) {
	f := shannon.ServerFilter{Transport: word(r.query, "transport", shannon.Transports), Enabled: r.query.flag("enabled")}
	if r.query.err != nil {
		return nil, r.query.err
	}
	return list(a.m.ListServers(r.Context(), f))
}

// list sees to it that no list is null.
func list[T any](items []T, err error) (any, error) {
	if items == nil {
		items = []T{}
	}
	return items, err
}

func (a *api) addServer(r *request) (any, error) {
	d := draft(shannon.NewServer(""))
	if err := decode(r.body, &d); err != nil {
		return nil, err
	}
	if err := noPlaceholders(r.body); err != nil {
		return nil, err
	}
	return answer(a.m.AddServer(r.Context(), shannon.Server(d)))
}

// answer makes the answer of a handler of a method's results.
func answer[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (a *api) server(r *request) (any, error) { return answer(a.m.Server(r.Context(), r.server)) }

func (a *api) updateServer(r *request) (any, error) {
	if err := noPlaceholders(r.body); err != nil {
		return nil, err
	}
	return answer(a.m.UpdateServer(r.Context(), r.server, r.body))
}

func (a *api) removeServer(r *request) (any, error) {
	return nil, a.m.RemoveServer(r.Context(), r.server)
}

func (a *api) connect(r *request) (any, error) { return answer(a.m.Connect(r.Context(), r.server)) }

func (a *api) disconnect(r *request) (any, error) {
	was, err := a.m.Disconnect(r.Context(), r.server)
	return disconnected{was}, err
}

func (a *api) restart(r *request) (any, error) { return answer(a.m.Restart(r.Context(), r.server)) }

func (a *api) status(r *request) (any, error) { return answer(a.m.Status(r.Context(), r.server)) }

func (a *api) statuses(r *request) (any, error) { return list(a.m.Statuses(r.Context())) }

func (a *api) summary(r *request) (any, error) { return answer(a.m.Summary(r.Context())) }

func (a *api) tools(r *request) (any, error) {
	tools, err := a.m.Tools(r.Context(), r.server)
	if err != nil {
		return nil, err
	}
	// Written by hand, because encoding/json would rewrite the definitions.
	out := raw{'['}
	for i, t := range tools {
		if i > 0 {
			out = append(out, ',')
		}
		out = wire.AppendString(append(out, `{"server":`...), t.Server)
		out = wire.AppendString(append(out, `,"name":`...), t.Name)
		out = wire.AppendString(append(out, `,"public_name":`...), t.PublicName)
		out = append(append(append(out, `,"definition":`...), t.Definition...), '}')
	}
	return append(out, ']'), nil
}

func (a *api) callTool(r *request) (any, error) {
	var body callBody
	if err := decode(r.body, &body); err != nil {
		return nil, err
	}
	if body.Tool == "" {
		return nil, invalid(`Send {"tool": "NAME", "arguments": {…}}`, "no tool is named")
	}
	return result(a.m.CallTool(r.Context(), r.server, body.Tool, json.RawMessage(body.Arguments)))
}

func (a *api) request(r *request) (any, error) {
	body, err := decodeRequest(r.body)
	if err != nil {
		return nil, err
	}
	return result(a.m.Request(r.Context(), r.server, body.Method, json.RawMessage(body.Params)))
}

func (a *api) notify(r *request) (any, error) {
	body, err := decodeRequest(r.body)
	if err != nil {
		return nil, err
	}
	return nil, a.m.Notify(r.Context(), r.server, body.Method, json.RawMessage(body.Params))
}

func decodeRequest(text []byte) (requestBody, error) {
	var body requestBody
	if err := decode(text, &body); err != nil {
		return body, err
	}
	if body.Method == "" {
		return body, invalid(`Send {"method": "NAME", "params": {…}}`, "no method is named")
	}
	return body, nil
}

// result passes a server's bytes on.
func result(text json.RawMessage, err error) (any, error) {
	switch {
	case err != nil:
		return nil, err
	case len(text) == 0:
		return nil, errors.New("the manager returned no result")
	}
	return raw(text), nil
}

func (a *api) history(r *request) (any, error) {
	f := shannon.HistoryFilter{
		Server: r.query.text("server"), State: word(r.query, "state", states),
		Since: r.query.time("since"), Limit: r.query.count("limit"),
	}
	if r.query.err != nil {
		return nil, r.query.err
	}
	return list(a.m.History(r.Context(), f))
}

func (a *api) events(w http.ResponseWriter, r *request) error {
	f := shannon.EventFilter{
		Category: r.query.text("category"), Name: r.query.text("name"),
		MinPriority: word(r.query, "min_priority", priorities), Follow: r.query.is("follow"),
	}
	after := r.query.text("after")
	if last := r.Header.Get("Last-Event-ID"); last != "" { // a browser resumes by itself
		after = last
	}
	if r.query.err == nil {
		f.After, r.query.err = a.after(after)
	}
	if r.query.err != nil {
		return r.query.err
	}
	return stream(w, a.m.Events(r.Context(), f), func(e *shannon.Event) string {
		if e.Seq == 0 {
			return ""
		}
		return a.instance + "." + strconv.FormatUint(e.Seq, 10)
	})
}

// after reads where to resume: a number, or an id of this API's stream. An id
// of another manager, that ran before this one, resumes at the beginning.
func (a *api) after(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	instance, number, isID := strings.Cut(text, ".")
	if !isID {
		instance, number = a.instance, text
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, invalid("", "%q is neither the number nor the id of an event", text)
	}
	if instance != a.instance {
		return 0, nil
	}
	return n, nil
}

func (a *api) logs(w http.ResponseWriter, r *request) error {
	f := shannon.LogFilter{Lines: r.query.count("lines"), Follow: r.query.is("follow")}
	if r.query.err != nil {
		return r.query.err
	}
	return stream(w, a.m.Logs(r.Context(), r.server, f), func(*shannon.LogLine) string { return "" })
}
