#!/bin/sh
# Checks, without a GPU, what set-up with CUDA=1 makes: that every library which libtorch's CUDA libraries need, but the driver's, is
# found by the loader's own search (ldd, no LD_LIBRARY_PATH), and prints the folder of that libtorch for nccl's test that one libnccl
# serves both. It fetches the wheels (2 GB) beside the libtorch that is there, hard-linked, which it leaves as it is.
set -eu
. "$(dirname "$0")/lib.sh"
if [ -z "${1:-}" ]; then
    "$checkout/scripts/libtorch.sh" wheel >/dev/null
    if [ -e "$torch_wheel_dir/.cuda" ]; then
        dir=$torch_wheel_dir
    else
        own=$cache/cuda-check
        lock cuda-check
        if [ ! -e "$own/ddprun/libtorch-$torch_version/.cuda" ]; then
            rm -rf "$own" # what a killed run left
            mkdir -p "$own/ddprun"
            cp -a -l "$torch_wheel_dir" "$own/ddprun/"
        fi
        XDG_CACHE_HOME=$own CUDA=1 "$checkout/scripts/libtorch.sh" wheel >/dev/null
        dir=$own/ddprun/libtorch-$torch_version
    fi
else
    dir=$1
fi

# The driver's libraries come with the driver. Everything else has to be there.
lost=$(for lib in "$dir"/torch/lib/libtorch_cuda*.so "$dir"/torch/lib/libc10_cuda.so "$dir"/torch/lib/libtorch_nvshmem.so \
    "$dir"/nvidia/*/lib/lib*.so.[0-9]*; do
    case $lib in
    */libtorch_*.so | */libc10_cuda.so | */libcudnn*.so.* | */libnccl.so.* | */libcublas*.so.* | */libcufft.so.* | */libcusparse*.so.* | \
        */libcusolver.so.* | */libcurand.so.* | */libcudart.so.* | */libnvrtc.so.* | */libnvJitLink.so.*) ;;
    *) continue ;; # plugins of nvshmem and cufile that name network libraries
    esac
    env -u LD_LIBRARY_PATH ldd "$lib" | sed -n "s|^[[:space:]]*\(.*\) => not found|${lib##*/}: \1|p"
done | grep -v ': lib\(cuda\.so\.1\|nvidia-.*\)$' | sort -u)
[ -z "$lost" ] || die "not found after CUDA=1 set-up (library: what it needs):
$lost"
nccl=$(env -u LD_LIBRARY_PATH ldd "$dir/torch/lib/libtorch_cuda.so" | sed -n 's/^[[:space:]]*libnccl\.so\.2 => \(.*\) (.*/\1/p')
[ -n "$nccl" ] || die "libtorch_cuda.so names no libnccl.so.2"
say "all of libtorch_cuda.so's libraries are found; libnccl is $(readlink -f "$nccl")"
echo "$dir/torch"
