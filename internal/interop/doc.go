// Package interop drives the real binary with real servers and real clients: the
// reference servers over stdio and Streamable HTTP, one written in Python, the MCP
// Inspector, and the official SDKs for TypeScript and Go in both eras.
//
// It has nothing but tests, behind the build tag interop, because they need what
// scripts/interop.sh installs first; run them with "make interop". Each check is a
// line "ok NAME" or "not ok NAME: why". It must not know how Shannon works: it
// types commands and speaks MCP. Checks of one daemon run one after the other.
package interop
