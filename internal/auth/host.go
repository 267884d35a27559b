package auth

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/shannon-mcp/shannon"
)

// authority is a host in lower case, without brackets, and a port, 0 when none
// was given.
type authority struct {
	host string
	port uint16
}

// parseAuthority reads host[:port] as a Host header has it; false for anything
// else, such as user info, an empty port or an IPv6 address without brackets.
func parseAuthority(s string) (authority, bool) {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return authority{}, false
		}
		host, port = s[1:end], s[end+1:]
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() || a.Zone() != "" {
			return authority{}, false
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i:]
	}
	if host == "" || strings.ContainsAny(host, "@/\\?#% \t[]") {
		return authority{}, false
	}
	a := authority{host: strings.ToLower(host)}
	if port != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(port, ":"), 10, 16)
		if err != nil || n == 0 || port[0] != ':' {
			return authority{}, false
		}
		a.port = uint16(n)
	}
	return a, true
}

// loopback tells whether only this machine can be meant. Of names, only
// localhost itself is taken for that: the others depend on a resolver.
func (a authority) loopback() bool {
	if a.host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(a.host)
	return err == nil && ip.Unmap().IsLoopback()
}

// hosts are the authorities that pass beside the loopback names; one without a
// port passes with every port.
type hosts map[authority]bool

func newHosts(list []string) hosts {
	h := hosts{}
	for _, s := range list {
		a, ok := parseAuthority(s)
		// "every address" is nobody's name: a page could use it to reach this machine.
		if ip, err := netip.ParseAddr(a.host); ok && (err != nil || !ip.IsUnspecified()) {
			h[a] = true
		}
	}
	return h
}

func (h hosts) pass(a authority, defaultPort uint16) bool {
	if a.loopback() || h[authority{host: a.host}] {
		return true
	}
	if a.port == 0 {
		a.port = defaultPort
	}
	return h[a]
}

// passHost checks a Host header.
func (h hosts) passHost(host string, tls bool) bool {
	a, ok := parseAuthority(host)
	return ok && h.pass(a, portOf(tls))
}

// passOrigin checks an Origin header: scheme://host[:port] and nothing else
// (RFC 6454, 6.2); null is nobody.
func (h hosts) passOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Scheme+"://"+u.Host != origin {
		return false
	}
	a, ok := parseAuthority(u.Host)
	return ok && h.pass(a, portOf(u.Scheme == "https"))
}

func portOf(tls bool) uint16 {
	if tls {
		return 443
	}
	return 80
}

// ListenOptions is what protects a TCP listener.
type ListenOptions struct {
	NoAuth       bool // no token is asked for
	TLS          bool // there is a certificate
	InsecureHTTP bool // the user said that tokens may travel in plain text
}

// CheckListen tells whether addr, a host:port, may be listened on. Without a
// token it must be a loopback address; another one needs TLS, or the user's word
// that plain HTTP will do. The error is [shannon.CodeInvalidConfig].
func CheckListen(addr string, o ListenOptions) error {
	host := addr
	if strings.HasPrefix(addr, ":") { // every address of this machine
		host = "0.0.0.0" + addr
	}
	a, ok := parseAuthority(host)
	if port := addr[strings.LastIndexByte(addr, ':')+1:]; !ok && port == "0" {
		a, ok = parseAuthority(strings.TrimSuffix(host, ":0") + ":1") // port 0: the system chooses
	}
	if !ok || a.port == 0 {
		return shannon.Errorf(shannon.CodeInvalidConfig, "Give host:port, such as 127.0.0.1:7426", "%q is no address to listen on", addr)
	}
	switch {
	case a.loopback():
		return nil
	case o.NoAuth:
		return shannon.Errorf(shannon.CodeInvalidConfig, "Listen on 127.0.0.1, or leave --no-auth out",
			"without a token, listening on %s would let everybody in the network run programs here", addr)
	case !o.TLS && !o.InsecureHTTP:
		return shannon.Errorf(shannon.CodeInvalidConfig,
			"Give --tls-cert and --tls-key; or --insecure-http, if something before it speaks TLS or the network is trusted",
			"on %s the token would travel in plain text", addr)
	}
	return nil
}
