"""Writes the fixtures of internal/hf: files that torch, safetensors and transformers wrote.

    python3 tools/golden/make_hf_fixtures.py internal/hf/testdata

Needs torch, transformers, safetensors, tokenizers; the SentencePiece fixtures also
sentencepiece and protobuf. The fixtures are small and committed; the script is kept
so that anyone can see what they are and make them again.
"""

import json
import os
import shutil
import sys
import tempfile
import warnings

import safetensors.torch
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


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch_files()
    config()
    matching()
