#!/bin/sh
# Builds the static library of Hugging Face's tokenizers from internal/tokenizer/rust into the cache, under a name that
# changes with its sources and the compiler, and links it into the checkout for cgo to find:
#   internal/tokenizer/lib/libddprun_tokenizers.a    a link into the cache
#   internal/tokenizer/archive.h                     names the library. Go rebuilds a package when a header in it changes,
#                                                    but does not look into the archives that it links
# Neither is committed.
set -eu
. "$(dirname "$0")/lib.sh"
package=$checkout/internal/tokenizer
name=libddprun_tokenizers.a

# Paths are relative in what is hashed, so every checkout of the same sources shares one library.
hash=$(cd "$package/rust" && {
    cargo --version
    find . -path ./target -prune -o -type f -print | LC_ALL=C sort | xargs -d '\n' sha256sum
} | sha256sum | cut -c1-12)
built=$cache/tokenizer-$hash

build() {
    lock tokenizer
    [ -n "$(broken "$built")" ] || return 0
    say "building the tokenizers' library with cargo (about a minute)"
    scratch tokenizer
    (cd "$package/rust" && CARGO_TARGET_DIR=$new/target cargo build --quiet --release --locked) ||
        die "cargo could not build $package/rust: see its message above"
    mkdir "$new/out"
    mv "$new/target/release/$name" "$new/out/"
    seal "$new/out"
    put_in_place "$new/out" "$built"
}

if [ -n "$(broken "$built")" ]; then build; fi

if [ "$(readlink "$package/lib/$name" 2>/dev/null)" != "$built/$name" ]; then
    mkdir -p "$package/lib"
    ln -s "$built/$name" "$package/lib/$name.$$"
    mv -T "$package/lib/$name.$$" "$package/lib/$name"
fi
line="// Written by scripts/tokenizer-lib.sh: this package links the library of tokenizer-$hash."
if [ "$(cat "$package/archive.h" 2>/dev/null)" != "$line" ]; then
    echo "$line" >"$package/archive.h.$$"
    mv "$package/archive.h.$$" "$package/archive.h"
fi
