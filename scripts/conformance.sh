#!/usr/bin/env bash
# The official conformance suite against a server of the official Go SDK, with
# Shannon between them: each version of the protocol, each way to reach the server.
#
# What is known to fail is listed, with the reason, in
# testdata/conformance/VERSION-UPSTREAM.yml; an entry that does not fail any more
# is a failure too. A scenario that checked nothing is not counted.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD
shannon=$root/bin/shannon
fixture=$root/.cache/bin/everything-server

scripts/interop/install.sh npm || exit 1
go build -o "$fixture" github.com/modelcontextprotocol/go-sdk/conformance/everything-server || exit 1
export PATH=$root/.cache/interop/node_modules/.bin:$PATH

work=$(mktemp -d)
pids=()
# stop ends what this script started and waits for it.
stop() {
	[ "${#pids[@]}" -eq 0 ] || kill "${pids[@]}" 2>/dev/null
	wait
	pids=()
}
trap 'stop; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# wait_for WHAT COMMAND… waits until the command succeeds.
wait_for() {
	local what=$1
	shift
	for _ in $(seq 100); do
		if "$@" >/dev/null 2>&1; then return 0; fi
		sleep 0.1
	done
	echo "$what did not start" >&2
	return 1
}

free_port() { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close() })'; }
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
ready() { sed -n 's|.*\(http://127\.0\.0\.1:[0-9]*\)/mcp.*|\1|p' "$1" | head -n 1; }
has_ready() { [ -n "$(ready "$1")" ]; }

# run VERSION UPSTREAM SCENARIOS runs all scenarios of a version; there are so many.
passed=0 failed=0
run() {
	local version=$1 upstream=$2 scenarios=$3 status=0 url
	local name=$version-$upstream baseline=testdata/conformance/$1-$2.yml
	local dir=$work/$name server=("$fixture") flags=()
	mkdir -p "$dir"
	export SHANNON_HOME=$dir/home

	"$shannon" serve --no-auth --listen 127.0.0.1:0 >"$dir/daemon.log" 2>&1 &
	pids+=($!)
	wait_for shannon has_ready "$dir/daemon.log" || { not_ok "$name: $(tail -n 3 "$dir/daemon.log")"; stop; return; }
	# The suite wants a name, to see that others are refused.
	url=$(ready "$dir/daemon.log" | sed s/127.0.0.1/localhost/)

	if [ "$upstream" = http ]; then
		local port stateless=false
		# One endpoint of that SDK cannot serve both eras.
		if [ "$version" = 2026-07-28 ]; then stateless=true; fi
		port=$(free_port)
		"$fixture" -http "127.0.0.1:$port" -stateless=$stateless >"$dir/fixture.log" 2>&1 &
		pids+=($!)
		wait_for fixture listens "$port" || { not_ok "$name: the fixture did not start"; stop; return; }
		server=("http://127.0.0.1:$port/")
		"$shannon" add fixture "${server[@]}" || { not_ok "$name: add"; stop; return; }
	else
		"$shannon" add fixture -- "${server[@]}" || { not_ok "$name: add"; stop; return; }
	fi

	if [ -e "$baseline" ]; then flags=(--expected-failures "$baseline"); fi
	conformance server --url "$url/servers/fixture/mcp" --spec-version "$version" --suite all \
		--output-dir "$dir/results" "${flags[@]}" >"$dir/out.log" 2>&1 || status=$?
	stop
	count "$name" "$baseline" "$dir" "$status" "$scenarios"
}

not_ok() {
	failed=$((failed + 1))
	echo "not ok $1"
}

# count reads the summary of a run: "✓ SCENARIO: N passed, N failed".
count() {
	local name=$1 baseline=$2 dir=$3 status=$4 scenarios=$5 seen=0 bad=0 mark scenario rest
	while read -r mark scenario rest; do
		scenario=${scenario%:}
		seen=$((seen + 1))
		if [ "$mark" = ✓ ]; then
			if [ "$rest" = "0 passed, 0 failed" ]; then continue; fi
			echo "ok $name $scenario"
			passed=$((passed + 1))
		elif [ -e "$baseline" ] && grep -qE "^ *- $scenario(:| |\$)" "$baseline"; then
			echo "expected to fail: $name $scenario"
		else
			bad=$((bad + 1))
			not_ok "$name $scenario: $rest"
		fi
	done < <(sed -n '/=== SUMMARY ===/,$p' "$dir/out.log" | grep -E '^[✓✗] ')

	if [ "$seen" -ne "$scenarios" ]; then not_ok "$name: $seen scenarios ran, there are $scenarios"; bad=1; fi
	if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
		not_ok "$name: the suite found fault with $baseline, see below"
		bad=1
	fi
	if [ "$bad" -gt 0 ]; then
		sed -n '/=== SUMMARY ===/,$p' "$dir/out.log"
		# shellcheck disable=SC2016 # the ${} are JavaScript's
		node -e '
			const fs = require("fs"), dir = process.argv[1];
			for (const s of fs.readdirSync(dir)) for (const c of JSON.parse(fs.readFileSync(`${dir}/${s}/checks.json`)))
				if (c.status === "FAILURE") console.log(`${s}: ${c.id}: ${c.errorMessage}\n  ${JSON.stringify(c.details ?? {}).slice(0, 2000)}`)
		' "$dir/results"
	fi
}

for upstream in http stdio; do
	run 2025-06-18 $upstream 27
	run 2025-11-25 $upstream 33
	run 2026-07-28 $upstream 40
done

echo "$passed scenarios passed, $failed failed"
if [ -n "${STEP_REPORT:-}" ]; then printf 'passed %d\nfailed %d\n' "$passed" "$failed" >>"$STEP_REPORT"; fi
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
