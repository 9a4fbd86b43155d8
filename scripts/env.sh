#!/bin/sh
# Prints the environment in which the Go tool builds the C++ parts, as lines for eval. The flags hold no path of the
# checkout, so every checkout shares one build cache (compiling gotch takes minutes).
#   eval "$(scripts/env.sh)"
set -eu
. "$(dirname "$0")/lib.sh"
torch=$("$checkout/scripts/libtorch.sh" find)
[ -f "$torch/lib/libtorch_cpu.so" ] || die "no libtorch yet: run make setup"

# gotch names CUDA libraries to the linker; empty archives stand in for them, so that a program needs none to start.
# The header that makes gotch compile lies beside them, under a name that changes with it.
compat=$checkout/internal/torch/include/gotch_compat.h
link=$cache/link-$(sha256sum "$compat" | cut -c1-12)
if [ ! -f "$link/done" ]; then
    new=$(mktemp -d "$cache/tmp.link.XXXXXX")
    cp "$compat" "$new/gotch_compat.h"
    for l in torch cuda cudart cublas cudnn caffe2_nvrtc nvrtc-builtins nvrtc nvToolsExt c10_cuda torch_cuda; do
        ar rcs "$new/lib$l.a"
    done
    : >"$new/done"
    chmod 755 "$new"
    # Of two that come here at once, the second finds a whole directory in its way and leaves it.
    if [ ! -f "$link/done" ]; then rm -rf "$link" && { mv -T "$new" "$link" 2>/dev/null || [ -f "$link/done" ]; }; fi
    rm -rf "$new"
fi
cat <<END
export CGO_CFLAGS='-O2 -w'
export CGO_CXXFLAGS='-include $link/gotch_compat.h -w -O2 -I$torch/include -I$torch/include/torch/csrc/api/include'
export CGO_LDFLAGS='-L$link -L$torch/lib -lc10 -ltorch_cpu -Wl,-rpath,$torch/lib'
END
