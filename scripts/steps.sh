#!/usr/bin/env bash
# steps.sh STEP…     runs `make STEP` for each, one after the other, whatever fails
# steps.sh --begin   forgets earlier results
# steps.sh --end     prints the results so far; its last line is "N passed, N failed"
#
# A step counts as one check. It may count for more, or for none, by writing
# lines to the file $STEP_REPORT:
#	passed N
#	failed N
#	notrun WHY     it could not be tried here, through no fault of the code
# A step that takes longer than STEP_TIMEOUT (20m) is stopped and has failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

results=${STEPS_RESULTS:-$PWD/.cache/steps.tsv}
mkdir -p "$(dirname "$results")"

# field NAME FILE sums the numbers of a report.
field() { awk -v name="$1" '$1 == name { n += $2 } END { print n + 0 }' "$2"; }

run_step() {
	local step=$1 status=0 start passed failed why report
	report=$(mktemp)
	start=$(date +%s)
	printf '\n===== %s\n' "$step"
	# timeout has a process group of its own, which an interrupt here must reach.
	STEP_REPORT=$report timeout --kill-after=10 "${STEP_TIMEOUT:-20m}" make --no-print-directory "$step" </dev/null &
	trap 'kill -TERM '$!' 2>/dev/null; exit 130' INT TERM
	wait $! || status=$?
	trap - INT TERM
	passed=$(field passed "$report")
	failed=$(field failed "$report")
	why=$(sed -n 's/^notrun //p' "$report" | head -n 1)
	rm -f "$report"

	if [ "$status" -ne 0 ]; then
		if [ "$failed" -eq 0 ]; then failed=1; fi
	elif [ -z "$why" ] && [ "$((passed + failed))" -eq 0 ]; then
		passed=1
	fi
	printf '%s\t%s\t%s\t%s\t%s\n' "$step" "$(($(date +%s) - start))" "$passed" "$failed" "$why" >>"$results"
	[ "$failed" -eq 0 ]
}

print_results() {
	awk -F '\t' '
		BEGIN { printf "\n%-14s %7s %7s %7s\n", "step", "seconds", "passed", "failed" }
		{
			printf "%-14s %7d %7d %7d%s\n", $1, $2, $3, $4, ($5 != "" ? "   NOT RUN: " $5 : ($4 > 0 ? "   FAILED" : ""))
			seconds += $2; passed += $3; failed += $4
		}
		END {
			printf "%-14s %7d\n\n%d passed, %d failed\n", "all", seconds, passed, failed
			exit failed > 0 || passed == 0
		}' "$results"
}

case "${1:-}" in
--begin) : >"$results" ;;
--end) print_results ;;
*)
	# Alone, `make ci` reports for itself; under .ci/run the report comes at its end.
	if [ -z "${STEPS_RESULTS:-}" ]; then : >"$results"; fi
	ok=0
	for step in "$@"; do run_step "$step" || ok=1; done
	if [ -z "${STEPS_RESULTS:-}" ]; then print_results || ok=1; fi
	exit "$ok"
	;;
esac
