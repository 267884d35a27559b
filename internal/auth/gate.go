package auth

import (
	"context"
	"net/http"
	"strings"

	"github.com/shannon-mcp/shannon"
)

// The principals that a [Gate] admits.
const (
	PrincipalLocal     = "local"     // over the socket, whose file is the lock
	PrincipalToken     = "token"     // with the bearer token
	PrincipalAnonymous = "anonymous" // where no token is asked for
)

// Deny answers a request that was not admitted. The error's code is
// [shannon.CodeForbidden] or [shannon.CodeUnauthorized]; headers that belong to
// the refusal are set already.
type Deny func(w http.ResponseWriter, r *http.Request, err *shannon.Error)

// Gate admits requests to what is behind it. Its fields must not change once it
// is in use.
type Gate struct {
	// Tokens are what a caller must show, unless NoAuth or Local is set.
	Tokens *Tokens
	// NoAuth asks for no token.
	NoAuth bool
	// Local is set for the unix socket, which needs no token.
	Local bool
	// Hosts may be in Host and Origin beside the loopback names: the listen
	// address and the allowed hosts, as host or host:port.
	Hosts []string
	// Deny answers what is refused; nil means plain text.
	Deny Deny
}

// Wrap puts the gate in front of next.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	allowed := newHosts(g.Hosts)
	deny := g.Deny
	if deny == nil {
		deny = denyText
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		if err := checkSource(allowed, r); err != nil {
			deny(w, r, err)
			return
		}
		who, err := g.admit(r)
		if err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110, 11.6.1
			deny(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), principalKey{}, who)))
	})
}

// checkSource refuses what comes from a page of somebody else: by its Origin,
// and where a name was rebound to this machine, by its Host.
func checkSource(allowed hosts, r *http.Request) *shannon.Error {
	if !allowed.passHost(r.Host, r.TLS != nil) {
		return shannon.Errorf(shannon.CodeForbidden, "Use a loopback name, or add the name to allowed_hosts", "host %q is not allowed", r.Host)
	}
	switch origins := r.Header["Origin"]; {
	case len(origins) > 1:
		return shannon.Errorf(shannon.CodeForbidden, "Send one Origin header, or none", "%d Origin headers", len(origins))
	case len(origins) == 1 && !allowed.passOrigin(origins[0]):
		return shannon.Errorf(shannon.CodeForbidden, "Add its host to allowed_hosts, if the page is yours", "origin %q is not allowed", origins[0])
	}
	return nil
}

// bearerToken returns the token of an Authorization header (RFC 6750, 2.1), "" where
// it is ill-formed. It is on the way of every call, so no regular expression.
func bearerToken(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.Trim(token, " ")
	body := strings.TrimRight(token, "=")
	if !strings.EqualFold(scheme, "bearer") || body == "" || strings.ContainsFunc(body, notToken68) {
		return ""
	}
	return token
}

func notToken68(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._~+/-", r)
}

const tokenHint = "Send the header 'Authorization: Bearer TOKEN'; shannon token show prints the token"

func (g *Gate) admit(r *http.Request) (string, *shannon.Error) {
	switch {
	case g.Local:
		return PrincipalLocal, nil
	case g.NoAuth:
		return PrincipalAnonymous, nil
	}
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		return "", shannon.Errorf(shannon.CodeUnauthorized, tokenHint, "a token is needed")
	}
	token := bearerToken(headers[0])
	if len(headers) > 1 || token == "" {
		return "", shannon.Errorf(shannon.CodeUnauthorized, tokenHint, "the Authorization header is malformed")
	}
	if g.Tokens == nil || !g.Tokens.Valid(token) {
		return "", shannon.Errorf(shannon.CodeUnauthorized, tokenHint, "the token is wrong")
	}
	return PrincipalToken, nil
}

func denyText(w http.ResponseWriter, _ *http.Request, err *shannon.Error) {
	status := http.StatusForbidden
	if err.Code == shannon.CodeUnauthorized {
		status = http.StatusUnauthorized
	}
	http.Error(w, strings.TrimSpace(err.Message+"\n"+err.Hint), status)
}

type principalKey struct{}

// Principal returns who was admitted, "" outside of a [Gate].
func Principal(ctx context.Context) string {
	who, _ := ctx.Value(principalKey{}).(string)
	return who
}
