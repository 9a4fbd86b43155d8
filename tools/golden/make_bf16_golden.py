#!/usr/bin/env python3
"""What transformers computes under torch.autocast in bfloat16, for models that make_model_golden.py and make_t5_golden.py have made.

  make_bf16_golden.py [--testdata internal/model/testdata]

Writes bf16.safetensors beside a model: of the micro-batch in its golden file logits [M, V] and pair_logits [P, 2] as far as there are such, loss_mean [1],
and grad.<parameter>, all f32, computed in bfloat16 by autocast's rules.
"""

import argparse
import json
import os

import torch

import make_t5_golden
import model_golden as golden

ENCODERS = ("bert-gelu", "bert-nsp", "bert-mlm-nsp", "roberta")
TEXT = ("t5-v1.0", "t5-v1.1")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--testdata", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../internal/model/testdata"))
    a = p.parse_args()
    golden.deterministic()
    for name in ENCODERS + TEXT:
        directory = os.path.join(a.testdata, name)
        with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
            architecture = json.load(f)["architectures"][0]
        compute = text if name in TEXT else encoder
        golden.save(os.path.join(directory, "bf16.safetensors"), compute(directory, architecture))
        print(name)


def encoder(directory, architecture):
    model, _ = golden.load_model(directory, architecture)
    batch = golden.load(os.path.join(directory, "golden.safetensors"))
    for name in golden.BATCH_FIELDS:
        batch.setdefault(name, torch.tensor([], dtype=torch.int64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens, pairs, _ = golden.forward(model, batch)
        loss = golden.losses_of(batch, tokens, pairs)[1]
    loss.backward()
    out = {name: x.float() for name, x in (("logits", tokens), ("pair_logits", pairs)) if x is not None}
    return finish(out, loss, model)


def text(directory, architecture):
    model, _ = make_t5_golden.load(directory, architecture)
    batch = golden.load(os.path.join(directory, "seq2seq.safetensors"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = make_t5_golden.forward(model, batch)
        loss = torch.nn.functional.cross_entropy(logits, batch["targets"])
    loss.backward()
    return finish({"logits": logits.float()}, loss, model)


def finish(out, loss, model):
    out["loss_mean"] = loss.float().reshape(1)
    out.update({"grad." + name: x.grad.float() for name, x in model.named_parameters()})
    return out


if __name__ == "__main__":
    main()
