package edge

import (
	"context"
	"net/http"
	"slices"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// modernVersion is the stateless version that is spoken.
const modernVersion = "2026-07-28"

// versions are all that clients may speak, as server/discover lists them.
var versions = append([]string{modernVersion}, legacyVersions...)

// logLevels of notifications/message.
var logLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}

// postModern takes one message of the modern era.
func (x *exchange) postModern(e wire.Envelope) {
	id := e.Get(wire.FieldID)
	switch e.Kind {
	case wire.KindRequest:
	case wire.KindNotification:
		// The one that the protocol has, cancelled, has no meaning over HTTP.
		if e.Method != "notifications/cancelled" {
			x.pass(x.client(&e), e)
		}
		x.accepted()
		return
	default:
		x.fail(http.StatusBadRequest, id, wire.Errorf(wire.CodeInvalidRequest, "invalid request: clients do not send responses"))
		return
	}
	if len(x.r.Header[headerAffinity]) > 0 && len(x.affinity()) == 0 {
		x.fail(http.StatusBadRequest, id, wire.Errorf(wire.CodeInvalidRequest,
			"Shannon-Affinity must be given once, with at most %d visible characters", maxAffinity))
		return
	}
	if onlyLegacy(e.Method) {
		x.fail(http.StatusNotFound, id, wire.Errorf(wire.CodeMethodNotFound, "method %q is not part of version %s", e.Method, modernVersion))
		return
	}
	r, err := x.check(e)
	if err != nil {
		x.fail(http.StatusBadRequest, id, err)
		return
	}
	x.callModern(r)
}

// check makes a request of a message, if it states what it must and the headers
// say the same. That they agree on the version comes before what the version is:
// who read the header took the request for one of another version.
func (x *exchange) check(e wire.Envelope) (*wire.Request, error) {
	if err := checkMeta(&e); err != nil {
		return nil, err
	}
	version, _ := e.Text(wire.FieldMetaVersion)
	if err := checkHeader(x.r.Header, headerVersion, version); err != nil {
		return nil, err
	}
	if version != modernVersion {
		err := wire.Errorf(wire.CodeUnsupportedVersion, "unsupported protocol version")
		err.Data = map[string]any{"supported": versions, "requested": version}
		return nil, err
	}
	if err := checkHeader(x.r.Header, headerMethod, e.Method); err != nil {
		return nil, err
	}
	r, err := wire.NewRequest(e, x.client(&e))
	if err != nil {
		return nil, err
	}
	return r, checkName(x.r.Header, r)
}

// onlyLegacy tells whether a method belongs to sessions only (2026-07-28,
// changelog).
func onlyLegacy(method string) bool {
	switch method {
	case "initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe":
		return true
	}
	return false
}

// checkMeta checks what every request states about its client (2026-07-28,
// basic, _meta; versioning; logging).
func checkMeta(e *wire.Envelope) error {
	bad := func(key, want string) error {
		return wire.Errorf(wire.CodeInvalidParams, "invalid params: _meta needs %q, which must be %s", key, want)
	}
	if _, ok := e.Text(wire.FieldMetaVersion); !ok {
		return bad(wire.MetaVersion, "a string")
	}
	if caps := e.Get(wire.FieldMetaClientCaps); len(caps) == 0 || caps[0] != '{' {
		return bad(wire.MetaClientCaps, "an object")
	}
	if info := e.Get(wire.FieldMetaClientInfo); info != nil && info[0] != '{' {
		return bad(wire.MetaClientInfo, "an object if given")
	}
	if e.Has(wire.FieldMetaLogLevel) {
		if level, ok := e.Text(wire.FieldMetaLogLevel); !ok || !slices.Contains(logLevels, level) {
			return bad(wire.MetaLogLevel, "a log level if given")
		}
	}
	return nil
}

// client says who a modern request is from.
func (x *exchange) client(e *wire.Envelope) *wire.Client {
	c := &wire.Client{
		Era: shannon.EraModern, Version: modernVersion,
		Info: e.Get(wire.FieldMetaClientInfo), Capabilities: e.Get(wire.FieldMetaClientCaps),
		Principal: x.principal, Affinity: x.principal,
	}
	if a := x.affinity(); a != "" {
		// Bound to the principal, so that nobody can name another's.
		c.Affinity = x.principal + "\x00" + a
	}
	return c
}

// affinity returns what the client wants to share state by, "" when it does not
// say, or not in a usable form.
func (x *exchange) affinity() string {
	a, ok := header(x.r.Header, headerAffinity)
	if !ok || len(a) > maxAffinity {
		return ""
	}
	for i := range len(a) {
		if a[i] <= ' ' || a[i] > '~' {
			return ""
		}
	}
	return a
}

// callModern answers a request that was found right. Its context is the
// connection's: a closed response cancels (2026-07-28, streamable HTTP,
// cancellation).
func (x *exchange) callModern(r *wire.Request) {
	if r.Method == "subscriptions/listen" {
		x.listen(r)
		return
	}
	x.logs = r.Has(wire.FieldMetaLogLevel)
	ctx := x.begin(x.r.Context())
	defer x.abandon()
	x.finish(x.answerModern(ctx, r))
}

func (x *exchange) answerModern(ctx context.Context, r *wire.Request) (status int, response []byte) {
	id := r.Get(wire.FieldID)
	if r.Method == "server/discover" {
		info, err := x.b.Describe(ctx, r.Client)
		if err != nil {
			return x.modernError(id, giveUp(ctx, err))
		}
		return http.StatusOK, wire.AppendResult(nil, id, discoverResult(&info))
	}
	reply, err := x.b.Handle(ctx, r, x)
	if err != nil {
		return x.modernError(id, giveUp(ctx, err))
	}
	status = http.StatusOK
	if reply.Kind == wire.KindError {
		status = errorStatus(wire.Member(reply.Get(wire.FieldError), "code"))
	}
	extra := extraMembers(r.Method, &reply)
	return status, reply.AppendTo(make([]byte, 0, len(reply.Raw)+len(id)+len(extra)+1), id, extra)
}

func (x *exchange) modernError(id []byte, err error) (status int, response []byte) {
	response = wire.AppendError(nil, id, err)
	return errorStatus(wire.Member(wire.Member(response, "error"), "code")), response
}

// errorStatus gives the HTTP status for the code of an error that came from
// behind. Those that the specification names have one; all others are answers.
func errorStatus(code []byte) int {
	switch string(code) {
	case "-32601":
		return http.StatusNotFound
	case "-32020", "-32021", "-32022":
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// discoverResult is the answer to server/discover.
func discoverResult(info *wire.Info) []byte {
	out := []byte(`{"resultType":"complete","supportedVersions":[`)
	for i, v := range versions {
		if i > 0 {
			out = append(out, ',')
		}
		out = wire.AppendString(out, v)
	}
	out = append(append(out, `],"capabilities":`...), orObject(info.Capabilities)...)
	out = appendInstructions(out, info)
	out = append(out, `,"ttlMs":0,"cacheScope":"private"`...)
	if len(info.ServerInfo) > 0 {
		out = wire.AppendString(append(out, `,"_meta":{`...), wire.MetaServerInfo)
		out = append(append(append(out, ':'), info.ServerInfo...), '}')
	}
	return append(out, '}')
}

// required are the members that a result must have (2026-07-28, basic, result
// type; caching).
var required = [...]struct {
	field  wire.Field
	member string
}{
	{wire.FieldResultType, `"resultType":"complete"`},
	{wire.FieldTTL, `"ttlMs":0`},
	{wire.FieldCacheScope, `"cacheScope":"private"`},
}

// lacking holds, for every set of required members as bits, their text: calls
// need not make it.
var lacking = func() (texts [1 << len(required)][]byte) {
	for set := range texts {
		for i, m := range required {
			if set&(1<<i) == 0 {
				continue
			}
			if len(texts[set]) > 0 {
				texts[set] = append(texts[set], ',')
			}
			texts[set] = append(texts[set], m.member...)
		}
	}
	return texts
}()

// extraMembers returns those that the result lacks. A result that is not
// complete is not touched.
func extraMembers(method string, reply *wire.Reply) []byte {
	kind := reply.Get(wire.FieldResultType)
	if reply.Kind != wire.KindResult || (kind != nil && string(kind) != `"complete"`) {
		return nil
	}
	wanted := required[:]
	if !cacheable(method) {
		wanted = required[:1]
	}
	set := 0
	for i, m := range wanted {
		if !reply.Has(m.field) {
			set |= 1 << i
		}
	}
	return lacking[set]
}

func cacheable(method string) bool {
	switch method {
	case "tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read":
		return true
	}
	return false
}
