#!/bin/sh
# Measures ddprun prepare beside Hugging Face's datasets.map, and prints a Markdown table for docs/benchmarks.md.
#   scripts/bench-data.sh [options of tools/bench/prepare_bench.py]        1 GiB of text; --mib 64 for a look
# Wants bin/ (make build) and DDPRUN_REFERENCE_PYTHON, which scripts/reference-env.sh prints; make bench-data gives both. The Python package
# datasets, which nothing else needs, goes into the cache.
set -eu
. "$(dirname "$0")/lib.sh"
python=${DDPRUN_REFERENCE_PYTHON:-}
[ -n "$python" ] || die "DDPRUN_REFERENCE_PYTHON is not set: run make bench-data (without REFERENCE=0), or eval \"\$(scripts/reference-env.sh)\" first"
version=5.2.0
dir=$cache/datasets-$version-$(basename "$(dirname "$(dirname "$python")")")
if [ ! -e "$dir/complete" ]; then
    say "installing the Python package datasets with pip (100 MB to download)"
    rm -rf "$dir"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-compile \
        --only-binary=:all: --no-warn-conflicts --target "$dir" "datasets==$version" || die "pip could not install datasets: see its message above"
    touch "$dir/complete"
fi
PYTHONPATH=$dir${PYTHONPATH:+:$PYTHONPATH} exec "$python" "$checkout/tools/bench/prepare_bench.py" --ddprun "$checkout/bin/ddprun" --goroot "$(go env GOROOT)" "$@"
