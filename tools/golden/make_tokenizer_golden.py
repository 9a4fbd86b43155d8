"""Writes the goldens of internal/tokenizer: small tokenizers of every kind, and what Hugging Face's Python package
makes of hostile texts with them.

    python3 tools/golden/make_tokenizer_golden.py internal/tokenizer/testdata --t5 T5/tokenizer.json

The tokenizers are trained on Newton's Opticks, which every Go installation has, and on hostile texts. --t5 names any T5's
tokenizer.json, whose normalizer (SentencePiece's character map) is taken. See fuzz_tokenizer.py for texts without end.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import struct
import subprocess

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.normalizers import Prepend, Replace

from tokenizer_texts import WORDS, hostile_texts

TRUNC = [
    {"max_length": 24, "stride": 0, "strategy": "longest_first", "direction": "right"},
    {"max_length": 20, "stride": 3, "strategy": "longest_first", "direction": "left"},
]


def opticks():
    root = subprocess.run(["go", "env", "GOROOT"], check=True, capture_output=True, text=True).stdout.strip()
    with open(os.path.join(root, "src/testdata/Isaac.Newton-Opticks.txt"), encoding="utf-8") as file:
        return file.read().splitlines()


def bert(lower):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tok.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special, limit_alphabet=300, show_progress=False)

    def finish(tok):
        cls, sep = ("[CLS]", tok.token_to_id("[CLS]")), ("[SEP]", tok.token_to_id("[SEP]"))
        tok.post_processor = processors.BertProcessing(sep, cls)

    return tok, trainer, finish


def byte_level(special, **kwargs):
    return trainers.BpeTrainer(
        vocab_size=1200, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, **kwargs
    )


def roberta():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", AddedToken("<mask>", lstrip=True)]

    def finish(tok):
        tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)

    return tok, byte_level(special), finish


def gpt2():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()

    def finish(tok):
        tok.post_processor = processors.ByteLevel(trim_offsets=False)

    return tok, byte_level(["<|endoftext|>"]), finish


def llama3():
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tok = Tokenizer(models.BPE(ignore_merges=True))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tok.decoder = decoders.ByteLevel()

    def finish(tok):
        start = ("<|begin_of_text|>", tok.token_to_id("<|begin_of_text|>"))
        template = processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[start]
        )
        tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])

    return tok, byte_level(["<|begin_of_text|>", "<|eot_id|>"]), finish


def t5(normalizer):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tok.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"] + [f"<extra_id_{i}>" for i in range(100)]
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=special, unk_token="<unk>", show_progress=False)

    def finish(tok):
        tok.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])

    return tok, trainer, finish


def llama():
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer = normalizers.Sequence([Prepend("\u2581"), Replace(" ", "\u2581")])
    tok.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    # Without a pre-tokenizer a merge may span words; training on words keeps them apart, as SentencePiece does.
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=special, limit_alphabet=200, show_progress=False)

    def finish(tok):
        data = json.loads(tok.to_str())
        data["pre_tokenizer"] = None
        data["added_tokens"] = data["added_tokens"][:3]  # the bytes are ordinary tokens
        tok = Tokenizer.from_str(json.dumps(data))
        tok.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
        )
        return tok

    return tok, trainer, finish


def train(parts, corpus):
    tok, trainer, finish = parts
    tok.train_from_iterator(corpus, trainer)
    return finish(tok) or tok


def families(t5_file):
    with open(t5_file, encoding="utf-8") as file:
        charsmap = json.load(file)["normalizer"]["precompiled_charsmap"]
    blank = json.dumps({"version": "1.0", "added_tokens": [], "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap},
                        "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}})
    normalizer = Tokenizer.from_str(blank).normalizer
    plain = opticks() + [" ".join(WORDS)]
    corpus = plain + hostile_texts(1, 500)
    parts = {"bert": bert(True), "bert_cased": bert(False), "roberta": roberta(), "gpt2": gpt2(), "t5": t5(normalizer),
             "llama": llama(), "llama3": llama3()}
    # A unigram vocabulary must hold every character of its corpus.
    return {name: train(part, plain if name == "t5" else corpus) for name, part in parts.items()}


def none_is_minus_one(values):
    return [-1 if value is None else value for value in values]


def record(encoding):
    return {
        "ids": encoding.ids,
        "off": [x for span in encoding.offsets for x in span],
        "w": none_is_minus_one(encoding.word_ids),
    }


def record_pair(encoding):
    return record(encoding) | {"ty": encoding.type_ids, "s": none_is_minus_one(encoding.sequence_ids)}


def record_cut(encoding):
    flat = [i for part in encoding.overflowing for i in part.ids]
    digest = hashlib.sha1(struct.pack(f"<{len(flat)}I", *flat)).hexdigest()[:16]
    return {"ids": encoding.ids, "ty": encoding.type_ids, "n": len(encoding.overflowing), "osha": digest}


def write_bytes(path, data):
    with open(path, "wb") as file:
        file.write(gzip.compress(data, 9, mtime=0))


def write_lines(path, lines):
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    write_bytes(path, text.encode())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--t5", required=True, help="a T5's tokenizer.json")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)

    def path(*name):
        return os.path.join(args.out, ".".join(name))

    texts = hostile_texts(2, 235)
    rng = random.Random(3)
    pairs = [(rng.choice(texts)[:200], rng.choice(texts)[:200]) for _ in range(60)]
    write_lines(path("inputs.hostile.jsonl.gz"), [{"t": text} for text in texts])
    write_lines(path("inputs.pairs.jsonl.gz"), [{"a": a, "b": b} for a, b in pairs])
    toks = families(args.t5)
    for name, tok in toks.items():
        write_bytes(path(name, "json.gz"), tok.to_str().encode())
        lines = []
        for text in texts:
            encoding = tok.encode(text)
            if len(encoding) > 100:  # long ones would be most of the files
                lines.append({"ids": encoding.ids})
                continue
            plain = tok.encode(text, add_special_tokens=False)
            lines.append(record(encoding) | {"ns": plain.ids, "d": tok.decode(encoding.ids)})
        write_lines(path("exp", name, "hostile.jsonl.gz"), lines)
        write_lines(path("exp", name, "pairs.jsonl.gz"), [record_pair(tok.encode(a, b)) for a, b in pairs])
        for k, trunc in enumerate(TRUNC):
            tok.enable_truncation(**trunc)
            cut = [record_cut(e) for a, b in pairs for e in (tok.encode(a, b), tok.encode(b))]
            write_lines(path("exp", name, f"trunc{k}.jsonl.gz"), cut)
        tok.no_truncation()
    meta = {"tokenizers": tokenizers.__version__, "families": list(toks), "trunc": TRUNC}
    with open(path("meta.json"), "w", encoding="utf-8") as file:
        json.dump(meta, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
