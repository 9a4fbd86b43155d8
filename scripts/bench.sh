#!/bin/sh
# Measures throughput, what communication costs, and memory, and prints a Markdown table for docs/benchmarks.md.
#   scripts/bench.sh [options of tools/bench/bench.py]        20 minutes on 2 cores; --rounds 1 --steps 10 for a look
# Wants bin/ (make build) and DDPRUN_REFERENCE_PYTHON, which scripts/reference-env.sh prints; make bench gives both.
set -eu
. "$(dirname "$0")/lib.sh"
python=${DDPRUN_REFERENCE_PYTHON:-}
[ -n "$python" ] || die "DDPRUN_REFERENCE_PYTHON is not set: run make bench (without REFERENCE=0), or eval \"\$(scripts/reference-env.sh)\" first"
text=$(go env GOROOT)/src/testdata/Isaac.Newton-Opticks.txt
[ -f "$text" ] || die "$text is missing: it comes with Go; some distributions leave it out, go.dev/dl has it"
exec "$python" "$checkout/tools/bench/bench.py" --ddprun "$checkout/bin/ddprun" --text "$text" "$@"
