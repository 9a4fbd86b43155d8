#!/usr/bin/env python3
"""What Trainer does around the model, as golden files for ddp: which parameters weight decay spares, and learning rates.

  make_trainer_golden.py [--out ddp/testdata]

decay_names.json   {architecture: {"decay": [names], "spared": [names]}}: Trainer.get_decay_parameter_names over a tiny
                   model's named_parameters, in their order; a tied parameter comes once, under its first name.
schedules.json     [{"name", "warmup_steps", "kwargs", "steps", "lr": [...]}]: get_scheduler's factors of the learning rate
                   at the updates 0..steps-1 (a base rate of 1), and of one more past the end.

Needs requirements.txt of this folder.
"""

import argparse
import json
import os

import torch
import transformers as tf

import model_golden as golden

STEPS = 100
WARMUPS = (0, 1, 7, 10, 50, 100)
KWARGS = {
    "linear": [{}],
    "cosine": [{}, {"num_cycles": 1.5}],
    "constant": [{}],
    "constant_with_warmup": [{}],
    "warmup_stable_decay": [
        {"num_decay_steps": 20},
        {"num_decay_steps": 20, "min_lr_ratio": 0.1},
        {"num_decay_steps": 20, "decay_type": "linear", "warmup_type": "cosine"},
        {"num_decay_steps": 20, "decay_type": "1-sqrt", "warmup_type": "1-sqrt", "min_lr_ratio": 0.05},
        {"num_decay_steps": 15, "num_stable_steps": 30, "min_lr_ratio": 0.2},
        {"num_decay_steps": 20, "num_cycles": 0.25},
    ],
}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../ddp/testdata"))
    a = p.parse_args()
    golden.deterministic()
    os.makedirs(a.out, exist_ok=True)
    golden.write_json(os.path.join(a.out, "decay_names.json"), {name: decay_names(m) for name, m in tiny_models()})
    with open(os.path.join(a.out, "schedules.json"), "w", encoding="ascii") as f:
        f.write("[\n" + ",\n".join(json.dumps(s, sort_keys=True) for s in schedules()) + "\n]\n")


def tiny_models():
    """One random model of each architecture, with every kind of parameter that it can have."""
    bert = dict(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    t5 = dict(vocab_size=16, d_model=8, d_kv=4, d_ff=8, num_layers=2, num_heads=2)
    yield "bert", tf.BertForPreTraining(tf.BertConfig(**bert))
    yield "bert_masked_lm", tf.BertForMaskedLM(tf.BertConfig(**bert))
    yield "roberta", tf.RobertaForMaskedLM(tf.RobertaConfig(**bert))
    yield "distilbert", tf.DistilBertForMaskedLM(tf.DistilBertConfig(vocab_size=16, dim=8, hidden_dim=8, n_layers=1, n_heads=2))
    yield "modernbert", tf.ModernBertForMaskedLM(tf.ModernBertConfig(
        **{**bert, "num_hidden_layers": 2}, norm_bias=True, attention_bias=True, mlp_bias=True, decoder_bias=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2))
    yield "t5_v1_0", tf.T5ForConditionalGeneration(tf.T5Config(**t5))
    yield "t5_v1_1", tf.T5ForConditionalGeneration(tf.T5Config(**t5, feed_forward_proj="gated-gelu", tie_word_embeddings=False))
    yield "gpt2", tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=2))
    yield "llama", tf.LlamaForCausalLM(tf.LlamaConfig(**bert, num_key_value_heads=2, attention_bias=True, mlp_bias=True))


def decay_names(model):
    decay = set(tf.Trainer.get_decay_parameter_names(None, model))
    names = [n for n, _ in model.named_parameters()]
    return {"decay": [n for n in names if n in decay], "spared": [n for n in names if n not in decay]}


def schedules():
    for name, variants in KWARGS.items():
        for kwargs in variants:
            for warmup in WARMUPS:
                if warmup + kwargs.get("num_decay_steps", 0) > STEPS:
                    continue  # transformers then has a stable phase of negative length
                yield {"name": name, "warmup_steps": warmup, "kwargs": kwargs, "steps": STEPS, "lr": rates(name, warmup, kwargs)}


def rates(name, warmup, kwargs):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = tf.get_scheduler(name, optimizer, warmup, STEPS, dict(kwargs))
    out = []
    for _ in range(STEPS + 1):
        out.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return out


if __name__ == "__main__":
    main()
