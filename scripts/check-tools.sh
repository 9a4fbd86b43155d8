#!/bin/sh
# Names every tool that set-up needs and this machine lacks, each with the way to get it. Prints nothing when all is there.
set -eu
. "$(dirname "$0")/lib.sh"

missing=
lacks() { missing="$missing
  $1"; }

# older HAVE WANT: whether version HAVE comes before version WANT.
older() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

check_system() {
    case $(uname -sm) in
    'Linux x86_64') ;;
    *) lacks "Linux on x86-64: this is $(uname -sm), for which neither libtorch nor its kernels were tried" ;;
    esac
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d ' ' -f 2)
    if [ -z "$glibc" ] || older "$glibc" 2.28; then
        lacks "glibc 2.28 or later (found: ${glibc:-another C library}): Debian 10, Ubuntu 20.04, RHEL 8 or later have it"
    fi
}

check_compiler() {
    cxx=${CXX:-g++}
    if ! command -v "${cxx%% *}" >/dev/null; then
        lacks "a C++ compiler: apt install g++ (Debian, Ubuntu) or dnf install gcc-c++ (Fedora, RHEL)"
    elif ! echo '#include <optional>' | $cxx -std=c++17 -x c++ -fsyntax-only - 2>/dev/null; then
        lacks "a C++ compiler for C++17 ('$cxx' is none, or its library is missing): apt install g++, or g++ 9 or later"
    fi
    for tool in make ar; do
        command -v $tool >/dev/null || lacks "$tool: apt install make binutils, or dnf install make binutils"
    done
    command -v flock >/dev/null || lacks "flock: apt install util-linux"
}

check_go() {
    need=$(sed -n 's/^go //p' "$checkout/go.mod")
    fix="install it from https://go.dev/dl/ (a distribution's is often older)"
    if ! command -v go >/dev/null; then
        lacks "Go $need or later: $fix"
        return
    fi
    have=$(cd / && go env GOVERSION 2>/dev/null | sed 's/^go//; s/[ -].*//')
    # From 1.21 on, Go fetches the version that go.mod asks for, unless GOTOOLCHAIN forbids it.
    if older "${have:-0}" 1.21 || { older "$have" "$need" && [ "$(go env GOTOOLCHAIN)" = local ]; }; then
        lacks "Go $need or later (found: ${have:-an unknown version}): $fix"
    fi
}

check_cargo() {
    need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$checkout/internal/tokenizer/rust/Cargo.toml")
    fix="install it with rustup, https://rustup.rs (a distribution's is often older)"
    if ! command -v cargo >/dev/null; then
        lacks "cargo $need or later: $fix"
        return
    fi
    have=$(cargo --version 2>/dev/null | cut -d ' ' -f 2 | sed 's/-.*//')
    if older "${have:-0}" "$need"; then
        lacks "cargo $need or later (found: ${have:-one that does not run}): $fix"
    fi
}

check_python() {
    if ! command -v python3 >/dev/null; then
        lacks "Python 3 with pip: apt install python3-pip, or dnf install python3-pip"
    elif ! python3 -c 'import importlib.util as u, sys; sys.exit(not u.find_spec("pip"))'; then
        lacks "pip for $(command -v python3): apt install python3-pip, dnf install python3-pip, or python3 -m ensurepip"
    fi
}

check_system
check_compiler
check_go
check_cargo
check_python
[ -z "$missing" ] || die "this machine lacks:$missing"
