#!/bin/sh
# Makes this machine ready to build: names missing tools, finds or fetches libtorch, builds the tokenizers' library.
# Running it again costs a second and mends what broke.
set -eu
. "$(dirname "$0")/lib.sh"
"$checkout/scripts/check-tools.sh"
torch=$("$checkout/scripts/libtorch.sh" setup)
"$checkout/scripts/tokenizer-lib.sh"
say "libtorch: $torch"
