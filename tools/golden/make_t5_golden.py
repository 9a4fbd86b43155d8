#!/usr/bin/env python3
"""Golden files of T5 for internal/model and internal/torch, and the check of what ddprun writes.

  make_t5_golden.py [--out internal/model/testdata] [--buckets internal/torch/testdata/relative_buckets.json]
      Rewrites every case: a from_pretrained directory of a random tiny model and seq2seq.safetensors; and the buckets of relative
      positions.
  make_t5_golden.py --check DIR... --golden FILE...
      Loads each DIR with from_pretrained of the class that its config.json names. Fails on a missing, unexpected or mismatched key, and
      where the mean loss on its FILE's micro-batch differs from its loss_mean by more than 1e-5. Prints one JSON object a line.

seq2seq.safetensors holds, for one micro-batch (legend: N encoder tokens, T decoder tokens, S samples, V vocabulary), without padding:

  ids [N], offsets [S+1] int32            the encoder's input
  decoder_ids, targets [T]                the decoder's input, which begins with decoder_start_token_id, and what it shall say
  decoder_offsets [S+1] int32
  logits [T, V], loss_sum, loss_mean, smoothed_loss [1], grad.<parameter> f32     as model_golden.py has them
  generated [], generated_offsets [S+1]   greedy decoding, without the start token, up to the end token, at most 12 tokens
  batch.<k>.<field>, losses, lr, grad_norm, final.<parameter>                     ten optimizer steps, as in model_golden.py

transformers computes it on the padded batch in float32, in eval mode, with attn_implementation="eager".
Needs requirements.txt of this folder. Deterministic: the same versions give the same bytes.
"""

import argparse
import json
import os
import shutil
import sys

import torch

import model_golden as golden

VOCAB, PAD, EOS = 89, 0, 1
HERE = os.path.dirname(os.path.abspath(__file__))
FIELDS = ("ids", "offsets", "decoder_ids", "targets", "decoder_offsets")

# name -> the class, changes to the configuration, whether the head gets weights of its own, and what config.json is made to say afterwards
CASES = {
    "t5-v1.0": {"final": True},
    "t5-v1.1-old-config": {"config": {"feed_forward_proj": "gated-gelu"}, "untied": True,
                           "write": {"tie_word_embeddings": False}, "remove": ["scale_decoder_outputs"]},
    "t5-v1.1": {"config": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, "untied": True, "final": True},
    "t5-scaled": {"config": {"feed_forward_proj": "gelu"}, "write": {"tie_word_embeddings": False, "scale_decoder_outputs": True}},
    "t5-unscaled": {"config": {"feed_forward_proj": "gated-silu"}, "write": {"tie_word_embeddings": True, "scale_decoder_outputs": False}},
    "t5-headless": {"save_as": "T5Model", "config": {"num_layers": 1, "num_decoder_layers": 3}},
    "t5-mt5": {"class": "MT5", "config": {"feed_forward_proj": "gated-gelu"}, "untied": True},
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default=os.path.join(HERE, "../../internal/model/testdata"))
    p.add_argument("--buckets", default=os.path.join(HERE, "../../internal/torch/testdata/relative_buckets.json"))
    p.add_argument("--check", nargs="+")
    p.add_argument("--golden", nargs="+")
    a = p.parse_args()
    golden.deterministic()
    if a.check:
        sys.exit(max(check(d, f) for d, f in zip(a.check, a.golden, strict=True)))
    write_buckets(a.buckets)
    for seed, (name, case) in enumerate(CASES.items()):
        make_case(os.path.join(a.out, name), case, seed)
        print(name)


def make_case(directory, case, seed):
    shutil.rmtree(directory, ignore_errors=True)
    write_model(directory, case, seed)
    model = load(directory, case.get("class", "T5") + "ForConditionalGeneration")[0]
    g = torch.Generator().manual_seed(2000 + seed)
    out = reference(model, make_batch(g, ((30, 21), (3, 1), (17, 40), (9, 9))))
    pairs = lambda: [(int(n), int(t)) for n, t in zip(torch.randint(2, 30, (4,), generator=g), torch.randint(1, 30, (4,), generator=g))]
    # the optimizer's steps are those of model_golden.py, on this family's loss and fields
    golden.mean_loss = lambda model, batch: torch.nn.functional.cross_entropy(forward(model, batch), batch["targets"])
    golden.fields = lambda batch, prefix="": {prefix + name: batch[name] for name in FIELDS}
    out.update(golden.train_steps(model, [make_batch(g, pairs()) for _ in range(golden.STEPS)]))
    if case.get("final"):
        out.update({"final." + name: x for name, x in model.named_parameters()})
    golden.save(os.path.join(directory, "seq2seq.safetensors"), out)


def write_model(directory, case, seed):
    """A random model whose weights are large enough that an error anywhere shows; heads times d_kv are not d_model."""
    import transformers as tf
    torch.manual_seed(seed)
    settings = {"vocab_size": VOCAB, "d_model": 24, "d_kv": 8, "num_heads": 4, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 2,
                "relative_attention_num_buckets": 8, "relative_attention_max_distance": 20, "decoder_start_token_id": PAD}
    settings.update(case.get("config", {}))
    kind = case.get("class", "T5")
    model = getattr(tf, case.get("save_as", kind + "ForConditionalGeneration"))(getattr(tf, kind + "Config")(**settings))
    if case.get("untied"):
        model.lm_head.weight = torch.nn.Parameter(torch.empty(VOCAB, settings["d_model"]))
    # Where the embeddings are the head of an output that is not scaled, larger ones would make logits of 20, and float32 would be off by 1e-4.
    small = case.get("write", {}).get("scale_decoder_outputs") is False
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "layer_norm" in name:
                p.normal_(1, 0.2)
            else:
                p.normal_(0, 1 if "relative" in name or name == "shared.weight" and not small else 0.3)
    model.save_pretrained(directory)
    path = os.path.join(directory, "config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    config.update(case.get("write", {}))
    for key in case.get("remove", []):
        config.pop(key, None)
    golden.write_json(path, config)


def load(directory, architecture):
    import transformers
    model, info = getattr(transformers, architecture).from_pretrained(
        directory, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    return model.eval(), info


def make_batch(g, lengths):
    """Samples of (encoder, decoder) tokens; both sides end with the end token, the decoder's input is the targets shifted right."""
    draw = lambda n: [*torch.randint(3, VOCAB, (n - 1,), generator=g).tolist(), EOS]
    ids, targets, decoder, offsets, decoder_offsets = [], [], [], [0], [0]
    for n, t in lengths:
        ids += draw(n)
        said = draw(t)
        targets += said
        decoder += [PAD, *said[:-1]]
        offsets.append(len(ids))
        decoder_offsets.append(len(targets))
    as64 = lambda values: torch.tensor(values, dtype=torch.int64)
    as32 = lambda values: torch.tensor(values, dtype=torch.int32)
    return {"ids": as64(ids), "offsets": as32(offsets),
            "decoder_ids": as64(decoder), "targets": as64(targets), "decoder_offsets": as32(decoder_offsets)}


def padded(ids, offsets):
    offsets = offsets.tolist()
    lengths = [b - a for a, b in zip(offsets, offsets[1:])]
    out, mask = torch.full((len(lengths), max(lengths)), PAD), torch.zeros((len(lengths), max(lengths)), dtype=torch.int64)
    for s, n in enumerate(lengths):
        out[s, :n] = ids[offsets[s]:offsets[s] + n]
        mask[s, :n] = 1
    return out, mask


def forward(model, batch):
    """The logits of all targets [T, V]."""
    ids, mask = padded(batch["ids"], batch["offsets"])
    decoder, said = padded(batch["decoder_ids"], batch["decoder_offsets"])
    return model(input_ids=ids, attention_mask=mask, decoder_input_ids=decoder, decoder_attention_mask=said).logits[said.bool()]


def reference(model, batch):
    from transformers.trainer_pt_utils import LabelSmoother
    model.zero_grad()
    logits = forward(model, batch)
    total = torch.nn.functional.cross_entropy(logits, batch["targets"], reduction="sum")
    mean = total / len(batch["targets"])
    mean.backward()
    out = dict(batch, logits=logits, loss_sum=total.reshape(1), loss_mean=mean.reshape(1))
    out["smoothed_loss"] = LabelSmoother(epsilon=0.1)({"logits": logits[None]}, batch["targets"][None]).reshape(1)
    out.update({"grad." + name: x.grad.clone() for name, x in model.named_parameters()})
    ids, mask = padded(batch["ids"], batch["offsets"])
    said, offsets = [], [0]
    # without the cache, which would be as deep as the encoder
    rows = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=12, do_sample=False, num_beams=1, use_cache=False)
    for row in rows[:, 1:].tolist():
        said += row[:row.index(EOS) + 1] if EOS in row else row
        offsets.append(len(said))
    out.update(generated=torch.tensor(said), generated_offsets=torch.tensor(offsets, dtype=torch.int32))
    return out


def write_buckets(path):
    """Buckets of distances around zero and, for each setting, beyond its largest."""
    from transformers.models.t5.modeling_t5 import T5Attention
    os.makedirs(os.path.dirname(path), exist_ok=True)
    first = -300
    cases = []
    for buckets, distance in ((32, 128), (8, 20), (64, 256), (16, 100)):
        for causal in (False, True):
            rows = T5Attention._relative_position_bucket(torch.arange(first, 301), not causal, buckets, distance)
            cases.append({"buckets": buckets, "maxDistance": distance, "first": first, "causal": causal, "rows": rows.tolist()})
    with open(path, "w", encoding="ascii") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


def check(directory, path):
    with open(os.path.join(directory, "config.json"), encoding="utf-8") as f:
        architecture = json.load(f)["architectures"][0]
    model, info = load(directory, architecture)
    faults = [f"{kind}: {sorted(map(str, info[kind]))}"
              for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs") if info.get(kind)]
    want = golden.load(path)
    with torch.no_grad():
        loss = torch.nn.functional.cross_entropy(forward(model, want), want["targets"]).item()
    if not abs(loss - want["loss_mean"].item()) <= 1e-5:  # not >, so that NaN fails too
        faults.append(f"the loss is {loss}, want {want['loss_mean'].item()}")
    print(json.dumps({"architecture": architecture, "loss": loss, "faults": faults}))
    return 1 if faults else 0


if __name__ == "__main__":
    main()
