#!/bin/sh
# Puts NVIDIA's packages of NCCL, for CUDA 13 and 12, into the cache where they are not there yet (500 MB to download), and prints,
# as lines for eval, where they are. nccl's tests hold the binding against them: the headers of both, the library of one.
#   eval "$(scripts/nccl-wheels.sh)"
# REFERENCE=0 does nothing. No GPU is needed.
set -eu
. "$(dirname "$0")/lib.sh"
if [ "${REFERENCE:-}" = 0 ]; then exit 0; fi
version=2.28.9
dir=$cache/nccl-$version

fetch() {
    lock nccl
    [ -n "$(broken "$dir")" ] || return 0
    need_disk 2000 "NVIDIA's NCCL packages"
    scratch nccl
    say "downloading NCCL $version for CUDA 13 and 12 (500 MB) with pip"
    for cuda in 13 12; do
        PIP_ROOT_USER_ACTION=ignore TMPDIR=$new python3 -m pip download --quiet --no-cache-dir --no-deps --only-binary=:all: \
            --dest "$new/wheels$cuda" "nvidia-nccl-cu$cuda==$version" ||
            die "pip could not download nvidia-nccl-cu$cuda: see its message above; make test REFERENCE=0 leaves out the tests that need it"
        python3 "$checkout/scripts/wheels.py" unpack "$new/tree/cu$cuda" "$new/wheels$cuda"/*.whl
        rm -rf "$new/wheels$cuda"
    done
    rm "$new/tree/cu12/nvidia/nccl/lib/libnccl.so.2" # its header alone is asked
    seal "$new/tree"
    put_in_place "$new/tree" "$dir"
}

if [ -n "$(broken "$dir")" ]; then fetch >&2; fi
echo "export DDPRUN_NCCL_CU13='$dir/cu13' DDPRUN_NCCL_CU12='$dir/cu12'"
echo "export DDPRUN_CUDART='$torch_wheel_dir/nvidia/cu13/lib'"
