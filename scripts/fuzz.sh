#!/usr/bin/env bash
# fuzz.sh TIME runs every fuzz target of the module for that long.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: fuzz.sh TIME}

count=0
failed=()
# -list prints the targets of a package, then a line "ok PACKAGE TIME".
list=$(go test -list '^Fuzz' ./...)
targets=()
while read -r first second _; do
	case $first in
	Fuzz*) targets+=("$first") ;;
	ok)
		for target in "${targets[@]}"; do
			count=$((count + 1))
			echo "$second $target"
			go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$second" || failed+=("$second $target")
		done
		targets=()
		;;
	esac
done <<<"$list"

echo "$count fuzz targets, ${#failed[@]} failed"
if [ -n "${STEP_REPORT:-}" ] && [ "$count" -gt 0 ]; then
	printf 'passed %d\nfailed %d\n' "$((count - ${#failed[@]}))" "${#failed[@]}" >>"$STEP_REPORT"
fi
if [ "$count" -eq 0 ]; then
	echo "no fuzz target was found" >&2
	exit 1
fi
if [ "${#failed[@]}" -gt 0 ]; then
	printf 'failed: %s\n' "${failed[@]}" >&2
	exit 1
fi
