#!/usr/bin/env bash
# go test with these arguments. Within a step (see steps.sh) the results are also counted.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${CI:-}" ] && [ -z "${STEP_REPORT:-}" ]; then
	exec go test "$@"
fi

mkdir -p .cache/bin
(cd tools && CGO_ENABLED=0 go build -o ../.cache/bin/ ./testreport)
go test -json "$@" | .cache/bin/testreport ${STEP_REPORT:+-o "$STEP_REPORT"}
