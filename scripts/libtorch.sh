#!/bin/sh
# Finds libtorch, or fetches it. It is, in this order:
#   1. the directory that LIBTORCH names (with include/ and lib/ in it),
#   2. that of the torch installed for python3, where its version is a supported one,
#   3. the PyPI wheel's, unpacked in the cache.
#   libtorch.sh find     prints where it is
#   libtorch.sh setup    fetches the wheel when neither 1 nor 2 is there, mends a broken one, then prints where it is
#   libtorch.sh wheel    the same, but for the wheel whatever else there is (the reference environment imports it)
# Each run compares the files' sizes; VERIFY=1 their digests too.
# CUDA=1, or a GPU's driver, adds the CUDA libraries that the wheel's libtorch_cuda.so needs; CUDA=0 never.
set -eu
. "$(dirname "$0")/lib.sh"

# version_of DIR prints the version of the libtorch there, as its headers tell it.
version_of() {
    for h in torch/headeronly/version.h torch/csrc/api/include/torch/version.h; do
        if [ -f "$1/include/$h" ]; then
            v=$(sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\|PATCH\) \([0-9]*\).*/\2/p' "$1/include/$h" | paste -s -d .)
            if [ -n "$v" ]; then echo "$v" && return; fi
        fi
    done
}

# unfit DIR prints why the libtorch there cannot be used; nothing when it can.
unfit() {
    case $1 in
    *[[:space:]\'\"]*)
        echo "its path holds a blank or a quote, which the C++ compiler's flags cannot"
        return
        ;;
    esac
    v=$(version_of "$1")
    if [ -z "$v" ] || [ ! -f "$1/lib/libtorch_cpu.so" ]; then
        echo "it lacks include/torch or lib/libtorch_cpu.so"
        return
    fi
    # Others may compile, but none was tried: the shim uses parts of libtorch that change from version to version.
    case $v in
    "${torch_version%.*}".*) ;;
    *)
        echo "its version is $v, and only ${torch_version%.*} is supported"
        return
        ;;
    esac
    lost=$(ldd "$1/lib/libtorch_cpu.so" 2>&1 | sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p' | paste -s -d ' ')
    [ -z "$lost" ] || echo "its libtorch_cpu.so does not find $lost"
}

python_torch() {
    python3 -c 'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null || true
}

# found prints where the first of the three is, existing or not.
found() {
    if [ -n "${LIBTORCH:-}" ]; then
        why=$(unfit "$LIBTORCH")
        [ -z "$why" ] || die "LIBTORCH=$LIBTORCH cannot be used: $why. Name a libtorch $torch_version, or unset LIBTORCH to have it fetched"
        (cd "$LIBTORCH" && pwd)
        return
    fi
    dir=$(python_torch)
    if [ -n "$dir" ]; then
        why=$(unfit "$dir")
        if [ -z "$why" ]; then
            echo "$dir"
            return
        fi
        [ "$1" = find ] || say "the torch of $(command -v python3) is not used: $why"
    fi
    echo "$torch_wheel_dir/torch"
}

gpu_wanted() {
    case ${CUDA:-} in
    0) return 1 ;;
    '') [ -e /proc/driver/nvidia/version ] || [ -e /dev/nvidiactl ] || [ -e /dev/dxg ] ;;
    *) true ;;
    esac
}

# download WHAT DIR REQUIREMENT... puts wheels there. The libraries in torch's wheel are the same for every Python, so one
# that torch has no wheel for takes another's.
download() {
    what=$1
    to=$2
    shift 2
    version=$(python3 -c 'import sys; v = sys.version_info[:2]; print("%d.%d" % (v if (3, 10) <= v <= (3, 14) else (3, 12)))')
    mkdir -p "$to/tmp"
    PIP_ROOT_USER_ACTION=ignore TMPDIR=$to/tmp python3 -m pip download --quiet --no-cache-dir --only-binary=:all: \
        --implementation cp --python-version "$version" --dest "$to" "$@" ||
        die "pip could not download $what: see its message above (proxies and indexes are pip's own settings)"
    rmdir "$to/tmp" 2>/dev/null || rm -rf "$to/tmp"
}

fetch_wheel() {
    if [ -d "$torch_wheel_dir" ] && { [ ! -e "$torch_wheel_dir/.files" ] || [ "${VERIFY:-}" = 1 ]; }; then
        say "checking every file in $torch_wheel_dir"
        rm -f "$torch_wheel_dir/.files"
        if python3 "$checkout/scripts/wheels.py" verify "$torch_wheel_dir"; then seal "$torch_wheel_dir"; fi
    fi
    if [ -d "$torch_wheel_dir" ]; then
        bad=$(broken "$torch_wheel_dir")
        [ -n "$bad" ] || return 0
        say "$torch_wheel_dir is damaged ($bad); fetching it again"
    fi
    need_disk 2500 "unpacking libtorch"
    scratch libtorch
    say "downloading libtorch $torch_version (540 MB) with pip"
    # shellcheck disable=SC2086 # a list of requirements
    download "libtorch" "$new/wheels" --no-deps $torch_wheels
    say "unpacking and checking it"
    python3 "$checkout/scripts/wheels.py" unpack "$new/tree" "$new/wheels"/*.whl
    seal "$new/tree"
    put_in_place "$new/tree" "$torch_wheel_dir"
}

# fetch_cuda adds the CUDA libraries beside the wheel's. Files come in one by one, and the mark only after the last.
fetch_cuda() {
    if [ -e "$torch_wheel_dir/.cuda" ]; then return; fi
    need_disk 8000 "unpacking the CUDA libraries"
    scratch libtorch
    say "downloading the CUDA libraries of libtorch $torch_version (about 2 GB) with pip"
    python3 "$checkout/scripts/wheels.py" requires "$torch_wheel_dir" cuda >"$new/requirements"
    download "the CUDA libraries" "$new/wheels" -r "$new/requirements"
    mkdir "$new/tree"
    python3 "$checkout/scripts/wheels.py" unpack "$new/tree" "$new/wheels"/*.whl
    rm -rf "$new/wheels"
    # The seal is lifted while files come in, so that a copy cut short is noticed and verified.
    rm -f "$torch_wheel_dir/.files"
    cp -a -l --remove-destination "$new/tree/." "$torch_wheel_dir/"
    : >"$torch_wheel_dir/.cuda"
    seal "$torch_wheel_dir"
}

setup_wheel() {
    lock libtorch
    fetch_wheel
    if gpu_wanted; then fetch_cuda; fi
}

case ${1:-} in
find) found find ;;
setup)
    dir=$(found setup)
    if [ "$dir" = "$torch_wheel_dir/torch" ]; then setup_wheel; fi
    echo "$dir"
    ;;
wheel)
    setup_wheel
    echo "$torch_wheel_dir/torch"
    ;;
*) die "usage: libtorch.sh find | setup | wheel" ;;
esac
