package process

import (
	"runtime"
	"slices"
	"strings"
)

// baseNames are the variables that a child sees beside what it was given.
var baseNames = []string{
	"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TZ", "TMPDIR", "TERM",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
	"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK",
}

var basePrefixes = []string{"LC_", "XDG_"}

var (
	windowsNames = []string{
		"SystemRoot", "SystemDrive", "windir", "PATHEXT", "APPDATA", "LOCALAPPDATA", "ProgramData",
		"USERPROFILE", "USERNAME", "HOMEDRIVE", "HOMEPATH", "TEMP", "TMP", "ComSpec",
	}
	windowsPrefixes = []string{"ProgramFiles"}
)

// BaseEnv returns the part of environ that every child may see: who and where the user
// is, language, proxies, certificates, desktop. Everything else, secrets above all, has
// to be given on purpose.
func BaseEnv(environ []string) []string {
	names, prefixes := baseNames, basePrefixes
	if runtime.GOOS == "windows" {
		names = slices.Concat(names, windowsNames)
		prefixes = slices.Concat(prefixes, windowsPrefixes)
	}
	var env []string
	for _, kv := range environ {
		name, _, ok := strings.Cut(kv, "=")
		if !ok {
			continue
		}
		named := slices.ContainsFunc(names, func(n string) bool { return sameName(n, name) })
		if named || slices.ContainsFunc(prefixes, func(p string) bool { return len(name) > len(p) && sameName(p, name[:len(p)]) }) {
			env = append(env, kv)
		}
	}
	return env
}

// environment gives each variable once, the last of each name, and name=value.
func environment(env []string, name, value string) []string {
	var out []string
	for i, kv := range env {
		own, _, _ := strings.Cut(kv, "=")
		again := func(later string) bool {
			n, _, _ := strings.Cut(later, "=")
			return sameName(n, own)
		}
		if !sameName(own, name) && !slices.ContainsFunc(env[i+1:], again) {
			out = append(out, kv)
		}
	}
	return append(out, name+"="+value)
}

// sameName compares names of variables as the system does.
func sameName(a, b string) bool {
	if runtime.GOOS == "windows" {
		return strings.EqualFold(a, b)
	}
	return a == b
}
