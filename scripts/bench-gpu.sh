#!/bin/sh
# Measures ddprun on this machine's GPUs beside PyTorch DDP with transformers, as it is and compiled, and prints a Markdown table for docs/benchmarks.md.
#   scripts/bench-gpu.sh [options of tools/bench/bench_gpu.py]
# Wants bin/ (make build) and DDPRUN_REFERENCE_PYTHON, which scripts/reference-env.sh prints; make bench-gpu gives both. Without a GPU it says so and measures nothing.
set -eu
. "$(dirname "$0")/lib.sh"
if ! nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    die "bench-gpu: nvidia-smi lists no GPU here: run it on a machine with NVIDIA's driver and a GPU, after CUDA=1 make setup"
fi
python=${DDPRUN_REFERENCE_PYTHON:-}
[ -n "$python" ] || die "DDPRUN_REFERENCE_PYTHON is not set: run make bench-gpu (without REFERENCE=0), or eval \"\$(scripts/reference-env.sh)\" first"
text=$(go env GOROOT)/src/testdata/Isaac.Newton-Opticks.txt
[ -f "$text" ] || die "$text is missing: it comes with Go; some distributions leave it out, go.dev/dl has it"
exec "$python" "$checkout/tools/bench/bench_gpu.py" --ddprun "$checkout/bin/ddprun" --text "$text" "$@"
