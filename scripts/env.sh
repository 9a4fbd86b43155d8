#!/bin/sh
# Prints the environment in which the Go tool builds the C++ parts, as lines for eval. The flags hold no path of the
# checkout, so every checkout shares one build cache (compiling gotch takes minutes).
#   eval "$(scripts/env.sh)"
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
root=${XDG_CACHE_HOME:-$HOME/.cache}/ddprun
torch=$root/libtorch-2.11.0/torch
compat=$here/internal/torch/include/gotch_compat.h
link=$root/link-$(sha256sum "$compat" | cut -c1-12)
if [ ! -f "$link/done" ]; then
    mkdir -p "$link"
    cp "$compat" "$link/gotch_compat.h"
    for l in torch cuda cudart cublas cudnn caffe2_nvrtc nvrtc-builtins nvrtc nvToolsExt c10_cuda torch_cuda; do
        ar rcs "$link/lib$l.a"
    done
    : > "$link/done"
fi
cat <<EOF
export CGO_CFLAGS='-O2 -w'
export CGO_CXXFLAGS='-include $link/gotch_compat.h -w -O2 -I$torch/include -I$torch/include/torch/csrc/api/include'
export CGO_LDFLAGS='-L$link -L$torch/lib -lc10 -ltorch_cpu -Wl,-rpath,$torch/lib'
EOF
