package manager

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/api"
)

// Handler serves the endpoints and the management API. Who may call must have
// been decided before: it is what [Manager.Serve] puts behind its gates.
func (m *Manager) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/api/", api.New(m, api.Options{Version: m.o.Version, MaxBody: int64(m.cfg.MaxMessageSize)}))
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		m.edge.Serve(w, r, "/mcp", m.gateway.All())
	})
	mux.HandleFunc("/servers/{name}/mcp", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		u, err := m.unit(name)
		if err != nil {
			api.WriteError(w, err)
			return
		}
		m.edge.Serve(w, r, endpointOf(name), m.gateway.One(u.Snapshot().Server.ID, name))
	})
	mux.HandleFunc("GET /healthz", m.healthz)
	mux.HandleFunc("GET /readyz", m.readyz)
	return mux
}

// healthz tells that the process answers.
func (m *Manager) healthz(w http.ResponseWriter, _ *http.Request) {
	writeStatus(w, http.StatusOK, "ok")
}

// readyz tells whether clients should come here.
func (m *Manager) readyz(w http.ResponseWriter, _ *http.Request) {
	if p, _ := m.phase.Load().(shannon.Phase); p != shannon.PhaseRunning {
		writeStatus(w, http.StatusServiceUnavailable, string(p))
		return
	}
	writeStatus(w, http.StatusOK, "ready")
}

func writeStatus(w http.ResponseWriter, code int, status string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A client that has gone away needs no answer.
	_ = json.NewEncoder(w).Encode(map[string]string{"status": status})
}

// denyProblem answers what a gate refused.
func denyProblem(w http.ResponseWriter, _ *http.Request, err *shannon.Error) {
	api.WriteError(w, err)
}

func shortHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}
