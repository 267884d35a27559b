package api

import (
	"net/http"
	"slices"

	"github.com/shannon-mcp/shannon"
)

// callBody, requestBody and disconnected are the bodies that are no words of the
// root package.
type (
	callBody struct {
		Tool      string         `json:"tool"`
		Arguments verbatimObject `json:"arguments,omitempty"`
	}
	requestBody struct {
		Method string         `json:"method"`
		Params verbatimObject `json:"params,omitempty"`
	}
	disconnected struct {
		Disconnected bool `json:"disconnected"` // false: nothing was connected
	}
	// draft is a server as a request gives it, patch a change of one.
	draft shannon.Server
	patch shannon.Server
)

// idAdd is the operation that answers with 201.
const idAdd = "add-server"

var (
	states     = []shannon.State{shannon.StateDisconnected, shannon.StateConnecting, shannon.StateConnected, shannon.StateReconnecting, shannon.StateError}
	priorities = []shannon.Priority{shannon.PriorityLow, shannon.PriorityNormal, shannon.PriorityHigh, shannon.PriorityCritical}

	jsonOnly = []string{mediaJSON}
)

// onServer is the path of a server.
const onServer = Prefix + "/servers/{name}"

func (a *api) routes() []route {
	return slices.Concat(a.serverRoutes(), a.linkRoutes(), a.callRoutes(), a.recordRoutes())
}

func (a *api) serverRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: Prefix + "/servers", id: "list-servers", about: "The servers, by name",
			query: []param{
				{name: "transport", about: "Only those reached so", example: "", words: texts(shannon.Transports)},
				{name: "enabled", about: "Only the enabled ones, or only the others", example: true},
			},
			result: []shannon.Server{}, serve: a.listServers,
		},
		{
			method: http.MethodPost, path: Prefix + "/servers", id: idAdd, about: "Add a server",
			body: draft{}, media: jsonOnly, result: shannon.Server{}, serve: a.addServer,
		},
		{method: http.MethodGet, path: onServer, id: "get-server", about: "A server", result: shannon.Server{}, serve: a.server},
		{
			method: http.MethodPatch, path: onServer, id: "update-server", about: "Change a server by a JSON merge patch (RFC 7396)",
			body: patch{}, media: []string{mediaPatch, mediaJSON}, result: shannon.Server{}, serve: a.updateServer,
		},
		{method: http.MethodDelete, path: onServer, id: "remove-server", about: "Disconnect and remove a server; its history stays", serve: a.removeServer},
	}
}

func (a *api) linkRoutes() []route {
	return []route{
		{method: http.MethodPost, path: onServer + "/connect", id: "connect", about: "Connect now", result: shannon.Status{}, serve: a.connect},
		{
			method: http.MethodPost, path: onServer + "/disconnect", id: "disconnect", about: "End the connection until it is asked for again",
			result: disconnected{}, serve: a.disconnect,
		},
		{method: http.MethodPost, path: onServer + "/restart", id: "restart", about: "Disconnect and connect", result: shannon.Status{}, serve: a.restart},
		{method: http.MethodGet, path: onServer + "/status", id: "get-status", about: "The state of a connection", result: shannon.Status{}, serve: a.status},
		{
			method: http.MethodGet, path: Prefix + "/status", id: "list-status", about: "The state of every connection, by name",
			result: []shannon.Status{}, serve: a.statuses,
		},
		{method: http.MethodGet, path: Prefix + "/summary", id: "get-summary", about: "The manager's own state", result: shannon.Summary{}, serve: a.summary},
	}
}

func (a *api) callRoutes() []route {
	return []route{
		{method: http.MethodGet, path: Prefix + "/tools", id: "list-tools", about: "The known tools of all servers", result: []shannon.Tool{}, serve: a.tools},
		{
			method: http.MethodGet, path: onServer + "/tools", id: "list-server-tools",
			about: "The tools of a server, which is connected if it has to be", result: []shannon.Tool{}, serve: a.tools,
		},
		{
			method: http.MethodPost, path: onServer + "/call", id: "call-tool", about: "Call a tool; the answer is the server's result, byte for byte",
			body: callBody{}, media: jsonOnly, result: raw{}, serve: a.callTool,
		},
		{
			method: http.MethodPost, path: onServer + "/request", id: "request", about: "Send any request; the answer is the server's result, byte for byte",
			body: requestBody{}, media: jsonOnly, result: raw{}, serve: a.request,
		},
		{
			method: http.MethodPost, path: onServer + "/notify", id: "notify", about: "Send a notification",
			body: requestBody{}, media: jsonOnly, serve: a.notify,
		},
	}
}

func (a *api) recordRoutes() []route {
	return []route{
		{
			method: http.MethodGet, path: Prefix + "/history", id: "list-history", about: "The ledger, newest first",
			query: []param{
				{name: "server", about: "A name, present or past, or an id", example: ""},
				{name: "state", about: "Only rows of this state", example: "", words: texts(states)},
				{name: "since", about: "Only rows that began at this time or later (RFC 3339)", example: ""},
				{name: "limit", about: "How many at most; 100 unless given", example: 0},
			},
			result: []shannon.Transition{}, serve: a.history,
		},
		{
			method: http.MethodGet, path: Prefix + "/events", id: "stream-events", about: "What happened, and with follow what happens",
			query: []param{
				{name: "category", about: "Only this category", example: ""},
				{name: "name", about: "Only events of this name", example: ""},
				{name: "min_priority", about: "Only those as urgent or more so", example: "", words: texts(priorities)},
				{name: "after", about: "Resume behind this number, or behind this id of an event of the stream; the header Last-Event-ID does the same", example: ""},
				{name: "follow", about: "Go on with new events", example: true},
			},
			items: shannon.Event{}, stream: a.events,
		},
		{
			method: http.MethodGet, path: onServer + "/logs", id: "stream-logs", about: "The log of a server",
			query: []param{
				{name: "lines", about: "How many of the last lines; 100 unless given", example: 0},
				{name: "follow", about: "Go on with new lines", example: true},
			},
			items: shannon.LogLine{}, stream: a.logs,
		},
	}
}

func texts[T ~string](words []T) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return out
}
