package transport

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/shannon-mcp/shannon"
	"github.com/shannon-mcp/shannon/internal/wire"
)

// modernVersion is the modern version that we speak.
const modernVersion = "2026-07-28"

// legacyVersions are those that we speak, the one that we ask for first.
var legacyVersions = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}

// noCapabilities is what we declare: requests of a server have nobody to answer them.
var noCapabilities = []byte("{}")

// choose returns the wanted era if it is among those, else the first of them.
func choose(want shannon.Era, eras []shannon.Era) shannon.Era {
	if slices.Contains(eras, want) {
		return want
	}
	if slices.Contains(eras, shannon.EraModern) {
		return shannon.EraModern
	}
	return shannon.EraLegacy
}

// finding is what the answer to server/discover says about a server.
type finding struct {
	eras   []shannon.Era
	result []byte // the DiscoverResult; nil when there was none
	// answered is set where a process has answered the probe, and may refuse
	// initialize for that.
	answered bool
}

var legacyFinding = finding{eras: []shannon.Era{shannon.EraLegacy}}

// recognised tells whether a reply is an error that only modern servers give.
func recognised(reply wire.Reply) bool {
	switch errorCode(reply) {
	case wire.CodeHeaderMismatch, wire.CodeMissingCapability, wire.CodeUnsupportedVersion:
		return true
	}
	return false
}

// judge reads the answer to server/discover (2026-07-28, basic/versioning). A
// modern answer names versions, as a result or as an error; any other answer that
// is not an error of the modern protocol comes from a legacy server.
func judge(reply wire.Reply) (finding, error) {
	var listed []byte
	f := finding{}
	switch {
	case reply.Kind == wire.KindResult:
		f.result = reply.Get(wire.FieldResult)
		listed = wire.Member(f.result, "supportedVersions")
	case recognised(reply):
		listed = wire.Member(wire.Member(reply.Get(wire.FieldError), "data"), "supported")
	default:
		return legacyFinding, nil
	}
	var versions []string
	for v := range wire.Elements(listed) {
		if text, ok := wire.Unquote(v); ok {
			versions = append(versions, text)
		}
	}
	switch {
	case len(versions) == 0 && f.result != nil:
		return legacyFinding, nil // it answers everything
	case len(versions) == 0:
		return finding{}, refused("server/discover", reply)
	}
	if f.result != nil && slices.Contains(versions, modernVersion) {
		f.eras = append(f.eras, shannon.EraModern)
	}
	if slices.ContainsFunc(versions, func(v string) bool { return slices.Contains(legacyVersions, v) }) {
		f.eras = append(f.eras, shannon.EraLegacy)
	}
	if len(f.eras) == 0 {
		return finding{}, shannon.Errorf(shannon.CodeUnsupported, "Update Shannon, or the server",
			"the server speaks only protocol versions that Shannon does not: %s", strings.Join(versions, ", "))
	}
	return f, nil
}

// errorCode returns the code of an error reply, zero for anything else.
func errorCode(reply wire.Reply) int {
	n, err := strconv.Atoi(string(wire.Member(reply.Get(wire.FieldError), "code")))
	if err != nil {
		return 0
	}
	return n
}

// refused is the error for a handshake that the server answered with an error.
func refused(method string, reply wire.Reply) error {
	rpc := reply.Get(wire.FieldError)
	text, _ := wire.Unquote(wire.Member(rpc, "message"))
	e := shannon.Errorf(shannon.CodeProtocolError, "Check the server's log, and that it is an MCP server",
		"the server refused %s: %s (%d)", method, text, errorCode(reply))
	e.RPC = bytes.Clone(rpc)
	return e
}

// discoverRequest is the probe. Its _meta comes from [wire.Request.AppendTo].
func discoverRequest() *wire.Request { return author("server/discover", nil) }

func (d *Dialer) initializeRequest() *wire.Request {
	params := wire.AppendString([]byte(`{"protocolVersion":`), legacyVersions[0])
	params = append(append(params, `,"capabilities":`...), noCapabilities...)
	params = append(append(append(params, `,"clientInfo":`...), d.info...), '}')
	return author("initialize", params)
}

// author makes a request of ours. Its parts are valid, so scanning cannot fail.
func author(method string, params []byte) *wire.Request {
	r, err := wire.Author(nil, method, params)
	if err != nil {
		panic("transport: a request of our own is malformed: " + err.Error())
	}
	return r
}

// modernInfo reads a DiscoverResult.
func modernInfo(f finding) *wire.Info {
	info := &wire.Info{
		Era: shannon.EraModern, Eras: f.eras, Version: modernVersion,
		ServerInfo:   wire.Member(wire.Member(f.result, "_meta"), wire.MetaServerInfo),
		Capabilities: wire.Member(f.result, "capabilities"),
	}
	info.Instructions, _ = wire.Unquote(wire.Member(f.result, "instructions"))
	return info
}

// legacyInfo reads the answer to initialize (2025-11-25, basic/lifecycle) of a
// server that speaks these eras.
func legacyInfo(reply wire.Reply, eras []shannon.Era) (*wire.Info, error) {
	if reply.Kind == wire.KindError {
		return nil, refused("initialize", reply)
	}
	result := reply.Get(wire.FieldResult)
	version, ok := wire.Unquote(wire.Member(result, "protocolVersion"))
	switch {
	case !ok:
		return nil, shannon.Errorf(shannon.CodeProtocolError, "Check that this is an MCP server",
			"the server's answer to initialize names no protocol version")
	case !slices.Contains(legacyVersions, version):
		return nil, shannon.Errorf(shannon.CodeProtocolError, "Update Shannon, or the server",
			"the server wants protocol version %q, which Shannon does not speak", version)
	}
	info := &wire.Info{
		Era: shannon.EraLegacy, Eras: slices.Clone(eras), Version: version,
		ServerInfo:   wire.Member(result, "serverInfo"),
		Capabilities: wire.Member(result, "capabilities"),
	}
	info.Instructions, _ = wire.Unquote(wire.Member(result, "instructions"))
	return info, nil
}

// The lists that a server may announce changes of.
var lists = []struct{ capability, filter, method string }{
	{"tools", "toolsListChanged", "notifications/tools/list_changed"},
	{"prompts", "promptsListChanged", "notifications/prompts/list_changed"},
	{"resources", "resourcesListChanged", "notifications/resources/list_changed"},
}

// announces tells whether a server with these capabilities announces changes of a list.
func announces(capabilities []byte, capability string) bool {
	return string(wire.Member(wire.Member(capabilities, capability), "listChanged")) == "true"
}

// announceAll says that each list has changed that the server announces changes
// of, where such a notification may have been missed.
func announceAll(capabilities []byte, h *Hooks) {
	for _, l := range lists {
		if announces(capabilities, l.capability) {
			if e, err := wire.Scan(wire.AppendNotification(nil, l.method, nil)); err == nil {
				h.notify(e)
			}
		}
	}
}

// isChange tells whether a notification belongs to no call, on whatever stream it comes.
func isChange(method string) bool {
	for _, l := range lists {
		if l.method == method {
			return true
		}
	}
	return method == "notifications/resources/updated"
}
