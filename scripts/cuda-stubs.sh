#!/bin/sh
# Stands in for the CUDA libraries that the wheel's libtorch names, for a Python that never leaves the CPU: 2.7 GB to
# download and unpack otherwise. Each stub has the soname, the functions and the symbol versions that libtorch's own
# libraries import, and any call of one ends the process. libcuda and nvrtc are only opened by CUDA itself: none here.
#   cuda-stubs.sh TORCH OUT    TORCH: the wheel's torch directory; OUT: where the stubs go
set -eu
libs=$1/lib
mkdir -p "$2"
cd "$2"

readelf -dW "$libs"/*.so | sed -n 's/.*(NEEDED).*\[\(lib[cn][uvc].*\)\]/\1/p' | sort -u |
    grep '^lib\(cu\|nv\|nccl\)' | grep -v '^lib\(cuda\|cudart\|cupti\|nvrtc\)\.' >needed
readelf --dyn-syms -W "$libs"/*.so | awk '$7 == "UND" {print $8}' | sort -u >undefined
# "library version" for every symbol version that is asked of a library.
readelf -VW "$libs"/*.so | awk '
    {for (i = 1; i < NF; i++) if ($i == "File:") library = $(i + 1); else if ($i == "Name:" && / Flags:/) print library, $(i + 1)}
' | sort -u >versions
# Symbols without a version do not say whose they are, so every stub has them all.
grep -v @ undefined | grep '^\(cu[A-Z]\|cuFile\|curand\|cusparseLt\|nccl\|nvshmem\)' >unversioned || true

while read -r library; do
    cp unversioned symbols
    : >map
    sed -n "s/^$library //p" versions | while read -r version; do
        sed -n "s/@$version\$//p" undefined >versioned
        cat versioned >>symbols
        { echo "$version { global:" && sed 's/$/;/' versioned && echo "};"; } >>map
    done
    sed 's/.*/void &(void) { __builtin_trap(); }/' symbols >stub.c
    # shellcheck disable=SC2046 # one option or none
    ${CC:-gcc} -w -fno-builtin -shared -fPIC -Wl,-soname,"$library" $([ ! -s map ] || echo -Wl,--version-script=map) \
        -o "$library" stub.c
done <needed
rm -f needed undefined versions unversioned symbols versioned map stub.c
