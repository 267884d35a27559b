package auth

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/shannon-mcp/shannon"
)

// ask sends r through g and returns the status, the principal that the handler
// saw, and the response.
func ask(t *testing.T, g *Gate, r *http.Request) (int, string, *http.Response) {
	t.Helper()
	who := "nobody"
	w := httptest.NewRecorder()
	g.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { who = Principal(r.Context()) })).ServeHTTP(w, r)
	for name := range w.Header() {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("response has the header %s", name)
		}
	}
	return w.Code, who, w.Result()
}

func request(path, host string, headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, nil)
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func TestSource(t *testing.T) {
	const local = "127.0.0.1:7426"
	tests := []struct {
		name    string
		host    string
		origins []string
		tls     bool
		want    int
	}{
		{"no origin", local, nil, false, 200},
		{"localhost", "localhost", nil, false, 200},
		{"localhost in capitals, any port", "LOCALHOST:1", nil, false, 200},
		{"all of 127/8", "127.9.8.7:7426", nil, false, 200},
		{"IPv6 loopback", "[::1]:7426", nil, false, 200},
		{"mapped loopback", "[::ffff:127.0.0.1]:7426", nil, false, 200},
		{"listen address", "192.168.1.5:7426", nil, false, 200},
		{"listen address, other port", "192.168.1.5:80", nil, false, 403},
		{"allowed host, any port", "gw.example.com:8443", nil, false, 200},
		{"allowed host in capitals", "GW.Example.COM", nil, false, 200},
		{"allowed host and default port", "tls.example.com", nil, true, 200},
		{"allowed host and default port of the other scheme", "tls.example.com", nil, false, 403},

		{"rebound name", "evil.example", nil, false, 403},
		{"rebound name with our port", "evil.example:7426", nil, false, 403},
		{"no host", "", nil, false, 403},
		{"loopback as a label", "127.0.0.1.evil.example", nil, false, 403},
		{"localhost as a label", "localhost.evil.example", nil, false, 403},
		{"a name below localhost", "evil.localhost", nil, false, 403},
		{"suffix of an allowed host", "evilgw.example.com", nil, false, 403},
		{"below an allowed host", "a.gw.example.com", nil, false, 403},
		{"user info", "localhost@evil.example", nil, false, 403},
		{"path", "localhost/evil", nil, false, 403},
		{"two ports", "localhost:7426:80", nil, false, 403},
		{"empty port", "localhost:", nil, false, 403},
		{"port zero", "localhost:0", nil, false, 403},
		{"trailing dot", "localhost.", nil, false, 403},
		{"every address", "0.0.0.0:7426", nil, false, 403},
		{"every IPv6 address", "[::]:7426", nil, false, 403},
		{"short IPv4", "127.1:7426", nil, false, 403},
		{"decimal IPv4", "2130706433:7426", nil, false, 403},
		{"octal IPv4", "0177.0.0.1", nil, false, 403},
		{"IPv6 without brackets", "::1", nil, false, 403},
		{"IPv6 zone", "[::1%25lo]:7426", nil, false, 403},

		{"loopback origin", local, []string{"http://localhost:3000"}, false, 200},
		{"loopback origin over TLS", local, []string{"https://127.0.0.1"}, false, 200},
		{"allowed origin", local, []string{"https://gw.example.com"}, false, 200},
		{"allowed origin by default port", local, []string{"https://tls.example.com"}, false, 200},
		{"allowed origin, other scheme's port", local, []string{"http://tls.example.com"}, false, 403},
		{"foreign origin", local, []string{"https://evil.example"}, false, 403},
		{"null origin", local, []string{"null"}, false, 403},
		{"empty origin", local, []string{""}, false, 403},
		{"two origins", local, []string{"http://localhost", "http://localhost"}, false, 403},
		{"two origins in one", local, []string{"http://localhost, https://evil.example"}, false, 403},
		{"origin list by space", local, []string{"http://localhost https://evil.example"}, false, 403},
		{"origin with path", local, []string{"http://localhost/"}, false, 403},
		{"origin with user", local, []string{"http://localhost@evil.example"}, false, 403},
		{"origin of another scheme", local, []string{"file://localhost"}, false, 403},
		{"origin of an extension", local, []string{"chrome-extension://localhost"}, false, 403},
		{"foreign host and matching origin", "evil.example", []string{"http://evil.example"}, false, 403},
	}
	hosts := []string{"192.168.1.5:7426", "gw.example.com", "tls.example.com:443", "0.0.0.0:7426", "[::]:7426", "not a host"}
	gates := map[string]*Gate{
		"socket":  {Local: true, Hosts: hosts},
		"no auth": {NoAuth: true, Hosts: hosts},
	}
	for name, g := range gates {
		for _, tt := range tests {
			t.Run(name+"/"+tt.name, func(t *testing.T) {
				r := request("/mcp", tt.host)
				for _, o := range tt.origins {
					r.Header.Add("Origin", o)
				}
				if tt.tls {
					r.TLS = &tls.ConnectionState{}
				}
				got, who, _ := ask(t, g, r)
				if got != tt.want {
					t.Errorf("status %d, want %d", got, tt.want)
				}
				if (got == 403) != (who == "nobody") {
					t.Errorf("status %d, but principal %q reached the handler", got, who)
				}
			})
		}
	}
}

func TestProbesAreOpen(t *testing.T) {
	g := &Gate{}
	for _, path := range []string{"/healthz", "/readyz"} {
		if got, _, _ := ask(t, g, request(path, "evil.example", "Origin", "null")); got != 200 {
			t.Errorf("%s: status %d", path, got)
		}
	}
	for _, path := range []string{"/healthz/", "/healthzz", "/metrics", "//healthz", "/api/v1/status", "/"} {
		if got, _, _ := ask(t, g, request(path, "evil.example")); got != 403 {
			t.Errorf("%s from a foreign host: status %d", path, got)
		}
		if got, _, _ := ask(t, g, request(path, "localhost")); got != 401 {
			t.Errorf("%s without a token: status %d", path, got)
		}
	}
}

func TestToken(t *testing.T) {
	tokens, err := OpenTokens(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	token := tokens.Token().Reveal()
	tests := []struct {
		name    string
		path    string
		headers []string
		want    int
	}{
		{"right", "/mcp", []string{"Authorization", "Bearer " + token}, 200},
		{"scheme in other case", "/mcp", []string{"Authorization", "bEARER " + token}, 200},
		{"no header", "/mcp", nil, 401},
		{"wrong", "/mcp", []string{"Authorization", "Bearer " + token + "x"}, 401},
		{"part", "/mcp", []string{"Authorization", "Bearer " + token[:len(token)-1]}, 401},
		{"empty", "/mcp", []string{"Authorization", "Bearer "}, 401},
		{"no scheme", "/mcp", []string{"Authorization", token}, 401},
		{"another scheme", "/mcp", []string{"Authorization", "Basic " + token}, 401},
		{"two tokens", "/mcp", []string{"Authorization", "Bearer " + token + " " + token}, 401},
		{"two tokens, by comma", "/mcp", []string{"Authorization", "Bearer " + token + ", Bearer x"}, 401},
		{"two headers", "/mcp", []string{"Authorization", "Bearer " + token, "Authorization", "Bearer " + token}, 401},
		{"in the query", "/mcp?access_token=" + token + "&token=" + token, nil, 401},
		{"in another header", "/mcp", []string{"X-Api-Key", token}, 401},
		{"in a cookie", "/mcp", []string{"Cookie", "token=" + token}, 401},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, who, res := ask(t, &Gate{Tokens: tokens}, request(tt.path, "localhost", tt.headers...))
			if got != tt.want {
				t.Errorf("status %d, want %d", got, tt.want)
			}
			if challenge := res.Header.Get("WWW-Authenticate"); (challenge == "Bearer") != (tt.want == 401) {
				t.Errorf("WWW-Authenticate %q with status %d", challenge, got)
			}
			if want := map[int]string{200: PrincipalToken, 401: "nobody"}[tt.want]; who != want {
				t.Errorf("principal %q, want %q", who, want)
			}
		})
	}
	t.Run("the host is looked at first", func(t *testing.T) {
		got, _, _ := ask(t, &Gate{Tokens: tokens}, request("/mcp", "evil.example"))
		if got != 403 {
			t.Errorf("status %d", got)
		}
	})
	t.Run("a gate without tokens admits nobody", func(t *testing.T) {
		if got, _, _ := ask(t, &Gate{}, request("/mcp", "localhost", "Authorization", "Bearer "+token)); got != 401 {
			t.Errorf("status %d", got)
		}
	})
}

func TestPrincipal(t *testing.T) {
	for want, g := range map[string]*Gate{PrincipalLocal: {Local: true}, PrincipalAnonymous: {NoAuth: true}} {
		if _, got, _ := ask(t, g, request("/mcp", "localhost")); got != want {
			t.Errorf("principal %q, want %q", got, want)
		}
	}
}

func TestDeny(t *testing.T) {
	var got []shannon.Code
	g := &Gate{Deny: func(w http.ResponseWriter, _ *http.Request, err *shannon.Error) {
		got = append(got, err.Code)
		if err.Message == "" || err.Hint == "" {
			t.Errorf("%s: message %q, hint %q", err.Code, err.Message, err.Hint)
		}
		w.WriteHeader(http.StatusTeapot)
	}}
	ask(t, g, request("/mcp", "evil.example"))
	ask(t, g, request("/mcp", "localhost"))
	if len(got) != 2 || got[0] != shannon.CodeForbidden || got[1] != shannon.CodeUnauthorized {
		t.Errorf("denied with %v", got)
	}
}

func TestCheckListen(t *testing.T) {
	tests := []struct {
		addr string
		o    ListenOptions
		ok   bool
	}{
		{"127.0.0.1:7426", ListenOptions{}, true},
		{"127.0.0.1:0", ListenOptions{}, true},
		{"localhost:7426", ListenOptions{NoAuth: true}, true},
		{"[::1]:7426", ListenOptions{NoAuth: true}, true},
		{"0.0.0.0:7426", ListenOptions{}, false},
		{":7426", ListenOptions{}, false},
		{"[::]:7426", ListenOptions{}, false},
		{"[::]:0", ListenOptions{TLS: true}, true},
		{":7426", ListenOptions{TLS: true}, true},
		{"192.168.1.5:7426", ListenOptions{InsecureHTTP: true}, true},
		{"192.168.1.5:7426", ListenOptions{NoAuth: true, TLS: true, InsecureHTTP: true}, false},
		{"example.com:7426", ListenOptions{}, false},
		{"localhost.example.com:7426", ListenOptions{}, false},
		{"127.0.0.1", ListenOptions{}, false},
		{"7426", ListenOptions{}, false},
		{"", ListenOptions{}, false},
		{"127.0.0.1:99999", ListenOptions{}, false},
		{"::1:7426", ListenOptions{}, false},
	}
	for _, tt := range tests {
		err := CheckListen(tt.addr, tt.o)
		if (err == nil) != tt.ok {
			t.Errorf("%q %+v: %v", tt.addr, tt.o, err)
		}
		if p := shannon.ProblemOf(err); p != nil && (p.Code != shannon.CodeInvalidConfig || p.Hint == "") {
			t.Errorf("%q: problem %+v", tt.addr, p)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"localhost", "127.0.0.1:1", "[::1]:80", "a@localhost", "localhost:1:2", "http://localhost"} {
		f.Add(s)
	}
	h := newHosts(nil)
	f.Fuzz(func(t *testing.T, s string) {
		if !h.passHost(s, false) {
			return
		}
		// Whatever passes is, for any reader, one of these.
		low := strings.ToLower(s)
		if !strings.HasPrefix(low, "localhost") && !strings.HasPrefix(low, "127.") && !strings.HasPrefix(low, "[") {
			t.Errorf("%q passes", s)
		}
		if strings.ContainsAny(s, "@/\\ ,") {
			t.Errorf("%q passes", s)
		}
	})
}
