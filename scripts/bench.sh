#!/usr/bin/env bash
# bench.sh [FLAGS] measures bin/shannon, which `make bench` builds first, beside a
# direct call and a relay without checks. Results are in .cache/bench.
# bench.sh --smoke takes half a minute and fails when Shannon is far too slow.
# bench.sh -h shows all flags.
set -euo pipefail
cd "$(dirname "$0")/.."
go build -o .cache/bin/bench ./internal/bench
exec .cache/bin/bench "$@"
