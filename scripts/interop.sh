#!/usr/bin/env bash
# Real servers and real clients with the real binary: installs them into
# .cache/interop, then runs the tests of internal/interop, which say "ok NAME" or
# "not ok NAME: why" for each check. Arguments go to go test: -run TestServers.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

scripts/interop/install.sh npm pip || exit 1
export INTEROP_TOOLS=$PWD/.cache/interop SHANNON_BIN=$PWD/bin/shannon
# The packages' commands find the Node that is there, not an older one.
export PATH=$INTEROP_TOOLS/node_modules/.bin:$PATH

output=$(mktemp)
trap 'rm -f "$output"' EXIT
status=0
go test -tags interop -count=1 -v -timeout 5m "$@" ./internal/interop | tee "$output" || status=$?

# The lines of go test itself begin with "ok" and a tab.
passed=$(grep -c '^ok [^[:space:]]' "$output")
failed=$(grep -c '^not ok ' "$output")
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
if [ "$failed" -gt 0 ]; then
	echo
	grep '^not ok ' "$output"
fi
echo "$passed checks passed, $failed failed"
if [ -n "${STEP_REPORT:-}" ]; then printf 'passed %d\nfailed %d\n' "$passed" "$failed" >>"$STEP_REPORT"; fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
