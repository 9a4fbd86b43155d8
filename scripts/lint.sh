#!/bin/sh
# Formatting, vet, static analysis, and the house rules on text. Runs all of them, then fails if one did.
# Wants the environment of scripts/env.sh; make lint gives it.
set -eu
. "$(dirname "$0")/lib.sh"
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
cd "$checkout"

failed=
# try NAME COMMAND... runs a check and remembers that it failed.
try() {
    name=$1
    shift
    if ! "$@"; then failed="$failed $name"; fi
}

# Files that git tracks or would, so that what others left lying about is not ours to judge.
files() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do [ ! -f "$f" ] || echo "$f"; done; }

# none WHAT: fails and shows what it read under a heading, if that is anything.
none() {
    found=$(cat)
    [ -z "$found" ] || { say "$1:" && echo "$found" >&2 && return 1; }
}

check_format() { files '*.go' | xargs -r gofmt -l | none "not formatted (run gofmt -w)"; }
check_ascii() {
    files '*.go' '*.c' '*.cpp' '*.h' '*.hpp' '*.rs' '*.sh' '*.py' Makefile | grep -v /testdata/ |
        LC_ALL=C xargs -r grep -nP '(//|/\*|^\s*\*|^\s*#).*[^\x00-\x7F]' | none "comments that are not plain ASCII"
}
check_shell() {
    if ! command -v shellcheck >/dev/null; then
        say "shellcheck is not installed (apt install shellcheck): skipping it"
        return
    fi
    files '*.sh' .ci/run | xargs -r shellcheck -x -P scripts
}

try gofmt check_format
try ascii check_ascii
try vet go vet ./...
try staticcheck go run "$staticcheck" ./...
try shellcheck check_shell
[ -z "$failed" ] || die "lint:$failed failed"
