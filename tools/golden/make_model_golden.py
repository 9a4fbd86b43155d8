#!/usr/bin/env python3
"""Golden files for internal/model, and the check of what ddprun writes. What a golden holds: model_golden.py.

  make_model_golden.py [--out internal/model/testdata]
      Rewrites every case: a from_pretrained directory of a random tiny model, golden.safetensors, and expected.json with
      the class that loads that directory, and the keys that transformers then reports as missing and unexpected.
  make_model_golden.py --model DIR --text FILE --out DIR
      The same for any BERT at test time. FILE: one sentence a line, 33 or more of them. A head that the model lacks is
      drawn from a fixed seed; the whole model is saved into --out, beside golden.safetensors.
  make_model_golden.py --check DIR [--golden FILE]
      Loads DIR with from_pretrained of the class that its config.json names. Fails on a missing, unexpected or mismatched key and on any warning.
      With FILE (ids, token_types, positions, offsets, labelled and logits as in a golden) fails also where a logit differs
      by more than 1e-5 (of 1, or of its size where that is larger). Prints one JSON object.

Needs requirements.txt of this folder. Deterministic: the same versions give the same bytes.
"""

import argparse
import hashlib
import json
import logging
import os
import shutil
import sys
import warnings

import torch

import model_golden as golden

VOCAB, PAD, UNK, CLS, SEP, MASK = 97, 0, 1, 2, 3, 4
SPECIAL = {PAD, UNK, CLS, SEP, MASK}

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "hidden_dropout_prob": 0.1}
DISTIL_SIZES = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "dropout": 0.1}

# name -> changes to the configuration, and what is done to the saved directory
CASES = {
    "bert-gelu": {"final": True},
    "bert-gelu-new": {"config": {"hidden_act": "gelu_new"}},
    "bert-relu-eps": {"config": {"hidden_act": "relu", "layer_norm_eps": 1e-5, "num_hidden_layers": 3}},
    "bert-token-types": {"config": {"type_vocab_size": 3}, "types": 3},
    "bert-float16": {"dtype": torch.float16},
    "bert-bfloat16": {"dtype": torch.bfloat16},
    "bert-old-names": {"old_names": True},
    "bert-encoder-only": {"save_as": "BertModel"},
    "bert-pretraining": {"save_as": "BertForPreTraining", "types": 2},
    "bert-sharded": {"shard": "20KB"},
    "bert-nsp": {"load": "BertForNextSentencePrediction", "save_as": "BertForNextSentencePrediction", "types": 2},
    "bert-mlm-nsp": {"load": "BertForPreTraining", "save_as": "BertForPreTraining", "types": 2, "final": True},
    "bert-nsp-of-pretraining": {"load": "BertForNextSentencePrediction", "save_as": "BertForPreTraining", "types": 2},
    "roberta": {"family": "Roberta", "load": "RobertaForMaskedLM", "save_as": "RobertaForMaskedLM",
                "config": {"hidden_act": "relu", "type_vocab_size": 1, "max_position_embeddings": 42, "pad_token_id": 1, "layer_norm_eps": 1e-5}},
    "roberta-encoder-only": {"family": "Roberta", "load": "RobertaForMaskedLM", "save_as": "RobertaModel",
                             "config": {"type_vocab_size": 1, "max_position_embeddings": 42, "pad_token_id": 1}},
    "xlm-roberta": {"family": "XLMRoberta", "load": "XLMRobertaForMaskedLM", "save_as": "XLMRobertaForMaskedLM",
                    "config": {"type_vocab_size": 1, "max_position_embeddings": 42, "pad_token_id": 1}},
    "camembert": {"family": "Camembert", "load": "CamembertForMaskedLM", "save_as": "CamembertForMaskedLM",
                  "config": {"type_vocab_size": 1, "max_position_embeddings": 42, "pad_token_id": 1}},
    "distilbert": {"family": "DistilBert", "load": "DistilBertForMaskedLM", "save_as": "DistilBertForMaskedLM", "sizes": DISTIL_SIZES,
                   "config": {"activation": "relu"}, "final": True},
    "distilbert-encoder-only": {"family": "DistilBert", "load": "DistilBertForMaskedLM", "save_as": "DistilBertModel", "sizes": DISTIL_SIZES},
    "distilbert-untied": {"family": "DistilBert", "load": "DistilBertForMaskedLM", "save_as": "DistilBertForMaskedLM", "sizes": DISTIL_SIZES,
                          "config": {"tie_word_embeddings": False}},
    "electra": {"family": "Electra", "load": "ElectraForMaskedLM", "save_as": "ElectraForMaskedLM", "types": 2,
                "config": {"embedding_size": 24, "hidden_act": "relu"}},
    "electra-discriminator": {"family": "Electra", "load": "ElectraForMaskedLM", "save_as": "ElectraForPreTraining", "types": 2,
                              "config": {"embedding_size": 32}},
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../internal/model/testdata"))
    p.add_argument("--model")
    p.add_argument("--text")
    p.add_argument("--check")
    p.add_argument("--golden")
    a = p.parse_args()
    golden.deterministic()
    if a.check:
        sys.exit(check(a.check, a.golden))
    if a.model:
        if not a.text:
            p.error("--model needs --text")
        return of_model(a.model, a.text, a.out)
    for seed, (name, case) in enumerate(CASES.items()):
        make_case(os.path.join(a.out, name), case, seed)
        print(name)


def make_case(directory, case, seed):
    shutil.rmtree(directory, ignore_errors=True)
    write_model(directory, case, seed)
    torch.manual_seed(seed)
    architecture = case.get("load", "BertForMaskedLM")
    model, info = golden.load_model(directory, architecture)
    golden.write_json(os.path.join(directory, "expected.json"), {
        "architecture": architecture, "missing": sorted(info["missing_keys"]), "unexpected": sorted(info["unexpected_keys"])})
    g = torch.Generator().manual_seed(1000 + seed)
    def batch(lengths):
        out = tiny_batch(g, case.get("types", 1), lengths, case.get("config", {}).get("pad_token_id", -1) + 1)
        if architecture.endswith("ForMaskedLM"):
            return out
        return golden.with_pairs(out, g, architecture.endswith("ForPreTraining"))

    out = golden.reference(model, batch((40, 3, 17, 9)))
    if info["missing_keys"]:  # a head drawn at random: nothing past the encoder can be compared
        keep = golden.BATCH_FIELDS + ("last_hidden_state",)
        out = {name: out[name] for name in keep if name in out}
    else:
        batches = [batch(torch.randint(3, 41, (4,), generator=g).tolist()) for _ in range(golden.STEPS)]
        out.update(golden.train_steps(model, batches))
        if case.get("final"):
            out.update({"final." + name: p for name, p in model.named_parameters()})
    golden.save(os.path.join(directory, "golden.safetensors"), out)


def write_model(directory, case, seed):
    """A random model with weights large enough (0.3; biases and LayerNorm random too) that an error anywhere shows."""
    import transformers as tf
    torch.manual_seed(seed)
    config = getattr(tf, case.get("family", "Bert") + "Config")(
        vocab_size=VOCAB, max_position_embeddings=40, initializer_range=0.3, pad_token_id=PAD, **case.get("sizes", SIZES))
    config.update(case.get("config", {}))
    model = getattr(tf, case.get("save_as", "BertForMaskedLM"))(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.normal_(0, 0.1)
            elif "LayerNorm" in name or "layer_norm" in name:
                p.normal_(1, 0.2)
            elif name.endswith("word_embeddings.weight"):
                p.normal_(0, 0.3)  # transformers zeroes the padding row; a zero row would hide an error in it
    model.to(case.get("dtype", torch.float32))
    model.save_pretrained(directory, max_shard_size=case.get("shard", "5GB"))
    if case.get("old_names"):
        path = os.path.join(directory, "model.safetensors")
        old = lambda n: n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors = {old(n): t for n, t in golden.load(path).items()}
        tensors["bert.embeddings.position_ids"] = torch.arange(config.max_position_embeddings).reshape(1, -1)  # a buffer then
        golden.save(path, tensors)


def tiny_batch(g, types, lengths, first_position=0):
    """Samples of the given lengths, [CLS] and [SEP] among them; token types fall into `types` runs in each."""
    samples = [[CLS, *torch.randint(5, VOCAB, (n - 2,), generator=g).tolist(), SEP] for n in lengths]
    kinds = [[i * types // len(s) for i in range(len(s))] for s in samples]
    return golden.make_batch(samples, kinds, MASK, SPECIAL, g, first_position=first_position)


def of_model(source, text, out):
    import transformers as tf
    torch.manual_seed(0)
    model, info = golden.load_model(source)
    tokenizer = tf.AutoTokenizer.from_pretrained(source)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    with open(text, encoding="utf-8") as f:
        lines = [line.strip() for line in f if line.strip()]
    need = 3 * (golden.STEPS + 1)
    if len(lines) < need:
        sys.exit(f"{text}: {len(lines)} lines; {need} are needed")
    limit = min(40, model.config.max_position_embeddings)
    samples = tokenizer(lines[:need], truncation=True, max_length=limit)["input_ids"]
    g = torch.Generator().manual_seed(0)
    special = set(tokenizer.all_special_ids)
    batches = [golden.make_batch(s, [[0] * len(x) for x in s], tokenizer.mask_token_id, special, g)
               for s in (samples[i:i + 3] for i in range(0, need, 3))]
    tensors = golden.reference(model, batches[0])
    tensors.update(golden.train_steps(model, batches[1:]))
    golden.save(os.path.join(out, "golden.safetensors"), tensors)
    print(json.dumps({"missing": sorted(info["missing_keys"]), "unexpected": sorted(info["unexpected_keys"])}))


class Heard(logging.Handler):
    """Keeps every warning that transformers logs."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def check(directory, path):
    heard = Heard()
    logging.getLogger("transformers").addHandler(heard)
    with warnings.catch_warnings(record=True) as python_warnings:
        warnings.simplefilter("always")
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
            architecture = json.load(f)["architectures"][0]
        model, info = golden.load_model(directory, architecture)
    faults = [f"{kind}: {sorted(map(str, info[kind]))}"
              for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs") if info.get(kind)]
    faults += [f"warning: {m}" for m in heard.messages] + [f"warning: {w.message}" for w in python_warnings]
    report = {"architecture": architecture, "parameters": sum(p.numel() for p in model.parameters()), "faults": faults}
    if path:
        want = golden.load(path)
        with torch.no_grad():
            tokens, pairs, _ = golden.forward(model, {name: torch.tensor([], dtype=torch.int64) for name in golden.BATCH_FIELDS} | want)
        got = torch.cat([x.flatten() for x in (tokens, pairs) if x is not None])
        wanted = torch.cat([want[name].flatten() for name in ("logits", "pair_logits") if name in want])
        report["logits_sha256"] = hashlib.sha256(got.numpy().tobytes()).hexdigest()
        if got.shape != wanted.shape:
            faults.append(f"logits: shape {list(got.shape)}, {path} has {list(wanted.shape)}")
        else:
            error = ((got - wanted).abs() / got.abs().clamp(min=1)).max().item()
            report["max_logit_error"] = error
            if not error <= 1e-5:  # not <=, so that NaN fails too
                faults.append(f"logits differ by {error:.3g}, more than 1e-5")
    print(json.dumps(report))
    return 1 if faults else 0


if __name__ == "__main__":
    main()
