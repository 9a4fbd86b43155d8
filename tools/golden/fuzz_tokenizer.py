"""Compares `ddprun tokenize` with Hugging Face's Python package on hostile texts without end.

    python3 tools/golden/fuzz_tokenizer.py --minutes 5 --command "bin/ddprun-worker tokenize" DIR...

Each DIR has a tokenizer.json. Differences are printed, and the exit code is 1 if there were any.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import time

from tokenizers import Tokenizer

from tokenizer_texts import hostile

TEXTS_PER_ROUND = 1500


def every_character():
    """Every code point, between letters and between spaces."""
    points = [chr(p) for p in range(0x110000) if not 0xD800 <= p <= 0xDFFF]
    for i in range(0, len(points), 32):
        run = points[i : i + 32]
        yield "a".join(run)
        yield " ".join(run)


def run(command, directory, flags, lines):
    data = "".join(line + "\n" for line in lines).encode()
    result = subprocess.run([*command, directory, *flags], input=data, capture_output=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{directory} {flags}: exit code {result.returncode}: {result.stderr.decode(errors='replace')}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def expected(encoding, words, offsets, pair):
    out = {"ids": encoding.ids}
    if pair:
        out["type_ids"] = encoding.type_ids
    if words:
        out["words"] = [-1 if word is None else word for word in encoding.word_ids]
    if offsets:
        out["offsets"] = [list(span) for span in encoding.offsets]
    return out


class Family:
    def __init__(self, command, directory):
        self.command, self.directory = command, directory
        self.tok = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
        self.tok.no_padding()
        self.compared = self.differences = 0

    def compare(self, flags, lines, inputs, special=True, max_length=None):
        """inputs are what lines say: texts, or pairs of texts."""
        if max_length:
            self.tok.enable_truncation(max_length)
            flags = [*flags, "--max-length", str(max_length)]
        else:
            self.tok.no_truncation()
        if not special:
            flags = [*flags, "--no-special"]
        pair = "--pairs" in flags
        encodings = self.tok.encode_batch(inputs, add_special_tokens=special)
        wants = [expected(e, "--words" in flags, "--offsets" in flags, pair) for e in encodings]
        gots = run(self.command, self.directory, flags, lines)
        self.compared += len(wants)
        if len(gots) != len(wants):
            self.differ(flags, f"{len(gots)} lines for {len(wants)} inputs")
        for text, got, want in zip(inputs, gots, wants):
            if got != want:
                self.differ(flags, f"{text!r}\n  got  {got}\n  want {want}")

    def differ(self, flags, what):
        self.differences += 1
        if self.differences <= 5:
            print(self.directory, *flags, what, flush=True)

    def round(self, rng):
        texts = [hostile(rng) for _ in range(TEXTS_PER_ROUND)]
        strings = [json.dumps(text, ensure_ascii=rng.random() < 0.5) for text in texts]
        self.compare(["--jsonl", "--words", "--offsets"], strings, texts)
        self.compare(["--jsonl"], strings, texts, special=False)
        self.compare(["--jsonl", "--words"], strings, texts, max_length=rng.randint(4, 60))
        pairs = list(zip(texts[::2], texts[1::2]))
        arrays = [json.dumps(pair) for pair in pairs]
        self.compare(["--jsonl", "--pairs", "--words", "--offsets"], arrays, pairs)
        self.compare(["--jsonl", "--pairs", "--offsets"], arrays, pairs, max_length=rng.randint(8, 90))
        plain = [text.replace("\n", " ").rstrip("\r") for text in texts]
        self.compare(["--offsets"], plain, plain)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dirs", nargs="+")
    parser.add_argument("--command", default="bin/ddprun-worker tokenize")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--every-character", action="store_true", help="begin with a round over every code point")
    args = parser.parse_args()
    print("seed", args.seed, flush=True)
    families = [Family(args.command.split(), directory) for directory in args.dirs]
    if args.every_character:
        characters = every_character()
        while texts := list(itertools.islice(characters, TEXTS_PER_ROUND)):
            for family in families:
                family.compare(["--jsonl", "--words", "--offsets"], [json.dumps(text) for text in texts], texts)
    rng = random.Random(args.seed)
    end = time.monotonic() + 60 * args.minutes
    while time.monotonic() < end:
        for family in families:
            family.round(rng)
    for family in families:
        print(f"{family.directory}: {family.compared} compared, {family.differences} differ")
    sys.exit(any(family.differences for family in families))


if __name__ == "__main__":
    main()
