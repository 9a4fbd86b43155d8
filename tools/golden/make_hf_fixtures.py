"""Writes the fixtures of internal/hf: files that torch, safetensors and transformers wrote.

    python3 tools/golden/make_hf_fixtures.py internal/hf/testdata

Needs torch, transformers 5, safetensors, tokenizers, sentencepiece and protobuf. The fixtures are small and committed; the script is kept
so that anyone can see what they are and make them again.
"""

import json
import os
import shutil
import sys
import tempfile
import warnings

import safetensors.torch
import sentencepiece
import tokenizers
import torch
import transformers

OUT = sys.argv[1]


def out(*parts):
    path = os.path.join(OUT, *parts)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, ensure_ascii=False)
        f.write("\n")


def torch_files():
    """One state dict in torch's archive format, in its older stream and as safetensors."""
    torch.manual_seed(1)
    base = torch.randn(6, 4)
    state = {
        "f32": torch.randn(3, 5),
        "f16": torch.randn(7).half(),
        "bf16": torch.randn(2, 2).bfloat16(),
        "f64": torch.randn(3).double(),
        "i64": torch.arange(4) - 2,
        "u8": torch.arange(3, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "transposed": base.t(),  # not contiguous
        "view": base[2:4],  # the same storage, from an offset on
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    torch.save(state, out("torch", "zip.bin"))
    torch.save(state, out("torch", "legacy.bin"), _use_new_zipfile_serialization=False)
    plain = {k: v.detach().clone().contiguous() for k, v in state.items()}
    safetensors.torch.save_file(plain, out("torch", "expected.safetensors"), {"format": "pt"})
    torch.save(torch.nn.Linear(2, 3).state_dict(), out("torch", "module.bin"))  # an OrderedDict with _metadata


def tiny(cls):
    config = transformers.BertConfig(
        vocab_size=11, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6,
        max_position_embeddings=8, architectures=[cls.__name__],
    )
    torch.manual_seed(0)
    return cls(config).eval()


def matching():
    """What from_pretrained reports for checkpoints whose keys are not the model's own."""
    mlm, base = transformers.BertForMaskedLM, transformers.BertModel
    pretraining = transformers.BertForPreTraining
    full = {k: v.clone() for k, v in tiny(mlm).state_dict().items()}
    encoder = {k: v.clone() for k, v in tiny(base).state_dict().items()}
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in tiny(pretraining).state_dict().items()}
    both = dict(full)
    both["embeddings.pooler.extra"] = torch.zeros(1)
    both["bert.embeddings.position_ids"] = torch.arange(8)[None]
    untied = {k: v for k, v in full.items() if k != "cls.predictions.decoder.weight"}
    decoder_only = {k: v for k, v in full.items() if k != "bert.embeddings.word_embeddings.weight"}
    cases = []
    for name, cls, have in [
        ("masked LM from its own", mlm, full),
        ("masked LM from an encoder without prefix", mlm, encoder),
        ("encoder from a masked LM", base, full),
        ("masked LM from an old pre-training checkpoint", mlm, old),
        ("masked LM with an extra tensor and position ids", mlm, both),
        ("masked LM without the decoder's weight", mlm, untied),
        ("masked LM without the word embeddings", mlm, decoder_only),
        ("pre-training from a masked LM", pretraining, full),
    ]:
        with tempfile.TemporaryDirectory() as d:
            model = tiny(cls)
            model.config.save_pretrained(d)
            tensors = {k: v.detach().clone().contiguous() for k, v in have.items()}
            safetensors.torch.save_file(tensors, os.path.join(d, "model.safetensors"), {"format": "pt"})
            loaded, info = cls.from_pretrained(d, output_loading_info=True)
            state = loaded.state_dict()
            cases.append({
                "name": name,
                "wanted": [k for k, _ in loaded.named_parameters()],
                "have": sorted(tensors),
                "missing": sorted(info["missing_keys"]),
                "unexpected": sorted(info["unexpected_keys"]),
                "tied_equal": bool("cls.predictions.decoder.weight" not in state or torch.equal(
                    state["cls.predictions.decoder.weight"], state["bert.embeddings.word_embeddings.weight"])),
            })
    write_json(out("match.json"), cases)


def config():
    """A config.json as transformers writes it."""
    with tempfile.TemporaryDirectory() as d:
        tiny(transformers.BertForMaskedLM).config.save_pretrained(d)
        shutil.copy(os.path.join(d, "config.json"), out("config", "config.json"))


ROLE = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
WORDS = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##c\n"


def bpe(specials):
    """A byte-level vocabulary with a few merges."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("\u0120", "th"), ("\u0120th", "e"), ("i", "n")]
    tokens = specials + alphabet + ["".join(m) for m in merges]
    lines = ["#version: 0.2"] + [" ".join(m) for m in merges]
    return {"vocab.json": {t: i for i, t in enumerate(tokens)}, "merges.txt": "\n".join(lines) + "\n"}


def spiece():
    """A unigram model trained on a few sentences, with a small map of characters."""
    with tempfile.TemporaryDirectory() as d:
        text, rules = os.path.join(d, "text"), os.path.join(d, "rules.tsv")
        with open(text, "w", encoding="utf-8") as f:
            for i in range(300):
                f.write(f"the rays of light {i} fall upon the glass and are bent by it caf\u00e9 {i * 7}\n")
        with open(rules, "w", encoding="utf-8") as f:
            f.write("41\t61\n42\t62\n")  # A to a, B to b
        sentencepiece.SentencePieceTrainer.train(
            input=text, model_prefix=os.path.join(d, "m"), vocab_size=60, model_type="unigram",
            normalization_rule_tsv=rules, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["<user>"],
            minloglevel=2)
        with open(os.path.join(d, "m.model"), "rb") as f:
            return f.read()


def tokenizer_cases():
    model = lambda kind: {"config.json": {"model_type": kind}}
    special_map = {
        "mask_token": {"content": "<m>", "lstrip": True, **{k: False for k in ("rstrip", "normalized", "single_word")}},
        "cls_token": "b", "additional_special_tokens": ["<x>"],
    }
    decoder = {"4": {"content": "[MASK]", "special": True, **ROLE},
               "8": {"content": "<n>", "special": False, **ROLE, "normalized": True, "single_word": True}}
    roberta = bpe(["<s>", "<pad>", "</s>", "<unk>"])
    gpt2 = bpe(["<|endoftext|>"])
    piece = {"spiece.model": spiece()}
    config = lambda **kw: {"tokenizer_config.json": kw}
    return {
        "bert": {"vocab.txt": WORDS, **model("bert")},
        "bert_cased": {"vocab.txt": WORDS, **config(
            tokenizer_class="BertTokenizer", do_lower_case=False, strip_accents=True, tokenize_chinese_chars=False)},
        "bert_odd_lines": {"vocab.txt": "[PAD]\r\n[UNK]\n[CLS]\n[SEP]\na\na\n \nb\u00a0\n##c", **model("bert")},
        "bert_special_map": {"vocab.txt": WORDS, **model("bert"), "special_tokens_map.json": special_map,
                             "added_tokens.json": {"<y>": 9, "<m>": 8}},
        "bert_mask_object": {"vocab.txt": WORDS, **model("bert"),
                             "special_tokens_map.json": {"mask_token": special_map["mask_token"]}},
        "bert_decoder": {"vocab.txt": WORDS, "special_tokens_map.json": {"cls_token": "b"}, **config(
            tokenizer_class="BertTokenizerFast", added_tokens_decoder=decoder)},
        "roberta": {**roberta, **model("roberta")},
        "roberta_prefix_space": {**roberta, **config(
            tokenizer_class="RobertaTokenizer", add_prefix_space=True, trim_offsets=False,
            mask_token={"__type": "AddedToken", "content": "<mask>", "special": True, **ROLE, "lstrip": True})},
        "gpt2": {**gpt2, **model("gpt2")},
        "gpt2_bos": {**gpt2, **config(
            tokenizer_class="GPT2Tokenizer", add_bos_token=True, add_prefix_space=True, pad_token="<|pad|>")},
        "t5": {**piece, **model("t5")},
        "t5_two_extra": {**piece, **config(tokenizer_class="T5Tokenizer", extra_ids=2, model_max_length=512)},
    }


def tokenizer_files():
    """Directories with a tokenizer's older files, and the tokenizer.json that transformers makes of each."""
    for name, files in tokenizer_cases().items():
        for file, content in files.items():
            path = out("tokenizers", name, file)
            if isinstance(content, dict):
                write_json(path, content)
            else:
                with open(path, "wb") as f:
                    f.write(content if isinstance(content, bytes) else content.encode())
        with tempfile.TemporaryDirectory() as d:
            made = transformers.AutoTokenizer.from_pretrained(out("tokenizers", name))
            made.save_pretrained(d)
            with open(os.path.join(d, "tokenizer.json"), encoding="utf-8") as f:
                tokenizer = json.load(f)
        roles = {k: getattr(made, k) for k in made.SPECIAL_TOKENS_ATTRIBUTES if getattr(made, k) is not None}
        with open(out("tokenizers", name, "want.json"), "w", encoding="utf-8") as f:
            json.dump({"class": type(made).__name__, "roles": roles, "all": sorted(set(made.all_special_tokens)),
                       "tokenizer": tokenizer}, f, ensure_ascii=False)
            f.write("\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch_files()
    config()
    matching()
    tokenizer_files()
