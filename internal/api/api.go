package api

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/shannon-mcp/shannon"
)

// Prefix is where the API is; SpecPath is its description.
const (
	Prefix   = "/api/v1"
	SpecPath = "/api/openapi.json"
)

const (
	mediaJSON   = "application/json"
	mediaPatch  = "application/merge-patch+json" // RFC 7396
	mediaStream = "text/event-stream"
)

// Options are what the API needs to know beside the manager.
type Options struct {
	// Version of Shannon, for the description.
	Version string
	// MaxBody is the limit of a request's body in bytes; zero means 10 MiB.
	MaxBody int64
}

// api serves one manager.
type api struct {
	m       shannon.Manager
	maxBody int64
	// instance tells the events of this manager from those of one that ran
	// before, whose numbers mean nothing here.
	instance string
}

// New returns the management API of m, for every path below /api/. The handler
// may be used concurrently. It panics if its own description cannot be made.
func New(m shannon.Manager, o Options) http.Handler {
	a := &api{m: m, maxBody: o.MaxBody, instance: rand.Text()[:8]}
	if a.maxBody <= 0 {
		a.maxBody = 10 << 20
	}
	mux := http.NewServeMux()
	routes := a.routes()
	for _, rt := range routes {
		mux.Handle(rt.method+" "+rt.path, a.handler(rt))
	}
	spec, err := describe(routes, o.Version)
	if err != nil {
		panic(err)
	}
	mux.HandleFunc("GET "+SpecPath, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, spec)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { notRouted(mux, w, r) })
	return mux
}

// param is a query parameter.
type param struct {
	name, about string
	example     any // of its type, for the description
	words       []string
}

// route is an operation: how it is served and how it is described.
type route struct {
	method, path, id, about string

	query []param
	// body is of the type of the request's body, nil for none; media are its types.
	body  any
	media []string
	// result is of the type of the answer: nil for none, raw for a server's own bytes.
	result any
	// items is of the type of a stream's items.
	items any

	// serve returns the answer; nil for none, raw for bytes that are JSON already.
	serve func(*request) (any, error)
	// stream answers by itself, unless it returns an error.
	stream func(http.ResponseWriter, *request) error
}

// raw is JSON that is not to be touched.
type raw []byte

// request is what a handler gets: checked, and the body read.
type request struct {
	*http.Request
	server string // from the path
	query  *params
	body   []byte
}

func (a *api) handler(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req := &request{Request: r, server: r.PathValue("name")}
		var err error
		if req.query, err = newParams(r.URL.RawQuery, rt.query); err != nil {
			WriteError(w, err)
			return
		}
		if rt.body != nil {
			if req.body, err = readBody(w, r, a.maxBody, rt.media); err != nil {
				WriteError(w, err)
				return
			}
		}
		if rt.stream != nil {
			if err := rt.stream(w, req); err != nil {
				WriteError(w, err)
			}
			return
		}
		answer, err := rt.serve(req)
		if err != nil {
			WriteError(w, err)
			return
		}
		writeAnswer(w, rt, answer)
	})
}

func writeAnswer(w http.ResponseWriter, rt route, answer any) {
	switch v := answer.(type) {
	case nil:
		w.WriteHeader(http.StatusNoContent)
	case raw:
		writeJSON(w, http.StatusOK, v)
	default:
		var text bytes.Buffer
		enc := json.NewEncoder(&text)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			WriteError(w, fmt.Errorf("encode answer: %w", err))
			return
		}
		status := http.StatusOK
		if rt.id == idAdd {
			status = http.StatusCreated
		}
		writeJSON(w, status, text.Bytes())
	}
}

func writeJSON(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", mediaJSON)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client is gone: nobody to tell
}

// notRouted answers what no route takes.
func notRouted(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = method
		if _, pattern := mux.Handler(probe); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		writeProblem(w, http.StatusNotFound, invalid("See "+SpecPath, "there is nothing at %s", r.URL.Path))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	writeProblem(w, http.StatusMethodNotAllowed,
		invalid("Use "+strings.Join(allowed, " or "), "%s cannot be used on %s", r.Method, r.URL.Path))
}
