#!/bin/sh
# Gathers what a machine needs that only runs ddprun: the programs and the libraries of libtorch, without headers, archives and Python.
#   runtime.sh DIR     makes DIR/usr/local/bin and DIR/<where libtorch is>, which has to stay there: the worker looks for it by its path
# Of libtorch's CUDA libraries it takes those that set-up has fetched (CUDA=1), else the two that libtorch_cpu.so needs.
set -eu
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || die "usage: runtime.sh DIR"
[ ! -e "$1" ] || die "$1 exists; name a directory that does not"
for program in ddprun ddprun-worker; do
    [ -x "$checkout/bin/$program" ] || die "bin/$program is not built: run make build"
done
torch=$("$checkout/scripts/libtorch.sh" find)
site=$(dirname "$torch")
mkdir -p "$1/usr/local/bin" "$1$torch/lib"
cp "$checkout/bin/ddprun" "$checkout/bin/ddprun-worker" "$1/usr/local/bin/"
cuda=
if [ -e "$site/.cuda" ]; then cuda=1; fi

for library in "$torch"/lib/*.so*; do
    case $(basename "$library") in
    libtorch_python.so | libshm.so | libtorch_global_deps.so) continue ;; # Python's
    *cuda* | *nvrtc* | *nvshmem*) [ -n "$cuda" ] || continue ;;
    esac
    cp -a "$library" "$1$torch/lib/"
done
# Beside torch, where its libraries look for them, each in its folder.
if [ -d "$site/nvidia" ]; then
    (cd "$site" && find nvidia -name '*.so*' \( -type f -o -type l \) -print0) |
        (cd "$site" && tar --null --no-recursion -T - -cf -) | tar -C "$1$site" -xf -
fi
lost=$(ldd "$1$torch/lib/libtorch_cpu.so" | sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p' | paste -s -d ' ')
[ -z "$lost" ] || die "libtorch_cpu.so does not find $lost in $1"
say "$1: $(du -sm "$1" | cut -f 1) MiB"
