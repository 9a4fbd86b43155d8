#!/bin/sh
# Makes the Python reference environment (torch, transformers) in the cache where it is not there yet, and prints, as a
# line for eval, where its Python is. Tests that compare with it skip, with a reason, where that is unset.
#   eval "$(scripts/reference-env.sh)"
# REFERENCE=0 does nothing. Nothing is written into the system's Python; torch is the one whose libtorch is in the cache.
set -eu
. "$(dirname "$0")/lib.sh"
if [ "${REFERENCE:-}" = 0 ]; then exit 0; fi
hint="make test REFERENCE=0 leaves out the tests that need it"
requirements=$checkout/tools/golden/requirements.txt

tag=$(python3 -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
3.1[0-4]) ;;
*) die "the reference environment needs Python 3.10 to 3.14, and python3 is $version; $hint" ;;
esac
"$checkout/scripts/libtorch.sh" wheel >/dev/null
cuda=no
if [ -e "$torch_wheel_dir/.cuda" ]; then cuda=yes; fi
hash=$({
    echo "$tag $torch_wheel_dir $cuda"
    cat "$requirements" "$checkout/scripts/cuda-stubs.sh" "$checkout/scripts/reference-env.sh"
} | sha256sum | cut -c1-12)
dir=$cache/reference-$hash

# install DIR OPTION... has pip put packages into a directory. The system's Python is left as it is.
install() {
    to=$1
    shift
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --no-cache-dir --disable-pip-version-check --no-compile \
        --only-binary=:all: --no-warn-script-location --no-warn-conflicts --upgrade --target "$to" "$@" ||
        die "pip could not install the reference environment: see its message above; $hint"
}

# link_torch SITE makes a torch importable: the cache's, unless another Python fetched that. Where the CUDA libraries that
# it names were not fetched, stubs stand in for them and no GPU is seen.
link_torch() {
    if [ "$(python3 "$checkout/scripts/wheels.py" tag "$torch_wheel_dir")" = "$tag" ]; then
        echo "$torch_wheel_dir" >"$1/ddprun.pth"
        if [ $cuda = yes ]; then return; fi
    else
        # shellcheck disable=SC2086 # a list of requirements
        install "$1" --no-deps $torch_wheels
    fi
    echo "import ddprun_cuda_stubs" >>"$1/ddprun.pth"
    "$checkout/scripts/cuda-stubs.sh" "$torch_wheel_dir/torch" "$1/ddprun_cuda_stubs"
    cat >"$1/ddprun_cuda_stubs/__init__.py" <<'END'
"""Loads the stubs beside it. torch's libraries then find their CUDA libraries already there, by name."""
import ctypes
import glob
import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
for _path in glob.glob(os.path.join(os.path.dirname(__file__), "lib*.so.*")):
    ctypes.CDLL(_path)
END
}

build() {
    lock reference
    [ -n "$(broken "$dir")" ] || return 0
    need_disk 1500 "the reference environment"
    say "installing the Python reference environment with pip (150 MB to download)"
    scratch reference
    # Debian's Python can make an environment without pip alone, and this one needs none.
    python3 -m venv --without-pip "$new/env"
    site=$new/env/lib/python$version/site-packages
    python3 "$checkout/scripts/wheels.py" requires "$torch_wheel_dir" rest >"$new/plain"
    sed -n '/# alone$/!p' "$requirements" >>"$new/plain"
    sed -n '/^torch==/d; s/ *# alone$//p' "$requirements" >"$new/alone"
    mkdir "$new/tmp"
    export TMPDIR="$new/tmp"
    install "$site" --no-deps -r "$new/alone"
    install "$site" -r "$new/plain"
    link_torch "$site"
    "$new/env/bin/python" -c 'import torch, transformers, accelerate, safetensors, tokenizers' ||
        die "the reference environment does not run: see Python's message above; $hint"
    seal "$new/env"
    put_in_place "$new/env" "$dir"
}

bad=$(broken "$dir")
if [ -n "$bad" ]; then
    if [ -d "$dir" ]; then say "$dir is damaged ($bad); making it again"; fi
    build >&2
fi
echo "export DDPRUN_REFERENCE_PYTHON='$dir/bin/python'"
