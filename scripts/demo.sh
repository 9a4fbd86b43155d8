#!/bin/sh
# The demo: continues the pre-training of the base model in examples/tiny-bert on Newton's Opticks, as every Go installation
# carries it, with two ranks, and shows what that changed. All of it lies under runs/demo. make demo builds first.
#   scripts/demo.sh        runs it, goes on with an interrupted one, or shows a finished one again
set -eu
. "$(dirname "$0")/lib.sh"
cd "$checkout"
model=examples/tiny-bert/model
config=examples/opticks/train.yaml
demo=runs/demo
run=$demo/run
ddprun=bin/ddprun

# Go's own tree, not that of a toolchain that Go has fetched for go.mod: those come without the text.
find_text() {
    for root in "$(cd / && GOTOOLCHAIN=local go env GOROOT)" "$(go env GOROOT)"; do
        text=$root/src/testdata/Isaac.Newton-Opticks.txt
        if [ -f "$text" ]; then return; fi
    done
    die "$text is missing: it comes with Go; some distributions leave it out, https://go.dev/dl has it"
}

# Every tenth paragraph is held out; the note of those who digitised the book is dropped.
split_text() {
    mkdir -p "$demo/text"
    awk -v train="$demo/text/train.txt" -v heldout="$demo/text/heldout.txt" '
        BEGIN { RS = ""; ORS = "\n\n" }
        /Distributed Proofreading|Project Gutenberg/ { next }
        { print > (++n % 10 == 0 ? heldout : train) }' "$text"
}

# evaluate MODEL NAME writes what a model says at each masked word of the held-out text. Which words are masked depends on the
# text alone, so two models are asked the same.
evaluate() {
    $ddprun eval "$1" --data "$demo/text/heldout.txt" --threads 1 --set text_unit=file --set max_seq_length=128 \
        --predictions "$demo/$2.new" >"$demo/$2.json" 2>"$demo/$2.log" || { cat "$demo/$2.log" >&2 && exit 1; }
    mv "$demo/$2.new" "$demo/$2.jsonl"
}

train() {
    trap : INT TERM # ddprun has them too: it saves, and this script waits for that
    code=0
    $ddprun --nproc 2 "$config" || code=$?
    trap - INT TERM
    case $code in
    0) ;;
    75) die "stopped, with a checkpoint in $run: make demo goes on from there" ;;
    *) exit "$code" ;; # it has said why, and where its logs are
    esac
}

find_text
[ -f $model/model.safetensors ] || die "$model has no weights; examples/tiny-bert/README.md says how they are made"
# What the results follow from: with any of it changed, earlier ones are no use.
inputs=$(cat "$text" $config $model/* scripts/demo.sh | sha256sum | cut -d ' ' -f 1)
if [ -d $demo ]; then
    [ -f $demo/inputs ] || die "$demo was not made by this demo: move it away"
    if [ "$(cat $demo/inputs)" != "$inputs" ]; then
        say "the demo has changed since $demo was made: beginning again"
        rm -rf $demo
    fi
fi
mkdir -p $demo
echo "$inputs" >$demo/inputs

if [ -f $run/model.safetensors ]; then # written last
    say "the demo has run already; this is its result. To run it again: rm -r $demo && make demo"
else
    say "1. the text: $text"
    split_text
    say "2. what the base model makes of the part that is held out"
    if [ ! -f $demo/before.jsonl ]; then evaluate $model before; fi
    if [ -d $run ]; then say "3. training goes on where it was stopped"; else say "3. training on the rest: $ddprun --nproc 2 $config"; fi
    train
fi
if [ ! -f $demo/after.jsonl ] || [ -n "$(find $run/model.safetensors -newer $demo/after.jsonl)" ]; then
    say "4. what the trained model makes of the part that is held out"
    evaluate $run after
fi
go run ./tools/demo $demo
