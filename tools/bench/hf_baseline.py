#!/usr/bin/env python3
"""Hugging Face Trainer's training, to measure ddprun beside: its best stock settings on a CPU.

Dynamic padding, grouping by length, fused AdamW, fp32. Two ways to give both sides the same work:
  --order corpus   the texts in the order of the file, without shuffling or grouping
  --window N       (mlm) all texts joined and cut into samples of N tokens, special tokens included

Prints one JSON object: tokens_per_second and median_tokens_per_second (padding not counted, the first --warmup steps left
out), padded_tokens_per_second, steps, loss per step, peak_rss_mib.

  hf_baseline.py --model DIR --text FILE [--objective mlm|nsp|reconstruction] [--steps N] [--batch 8] [--threads N] [--max-length 512] [--order random|corpus]
      [--window N]

FILE holds one sentence a line. DIR is a model directory; without weights it is initialised at random. --steps 0 is one pass.
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--objective", choices=["mlm", "nsp", "reconstruction"], default="mlm")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--warmup", type=int, default=3)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--max-length", type=int, default=512)
    p.add_argument("--lr", type=float, default=5e-5)
    p.add_argument("--order", choices=["random", "corpus"], default="random")
    p.add_argument("--window", type=int, default=0)
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


def main():
    a = parse()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    import torch
    import transformers as tf
    if a.threads:
        torch.set_num_threads(a.threads)
    tf.set_seed(a.seed)
    tokenizer = tf.AutoTokenizer.from_pretrained(a.model)
    has_weights = any(f.endswith((".safetensors", ".bin")) for f in os.listdir(a.model))
    kind = {"mlm": tf.AutoModelForMaskedLM, "nsp": tf.AutoModelForNextSentencePrediction, "reconstruction": tf.AutoModelForSeq2SeqLM}[a.objective]
    model = kind.from_pretrained(a.model) if has_weights else kind.from_config(tf.AutoConfig.from_pretrained(a.model))
    rows = samples(a, tokenizer)
    steps = a.steps or -(-len(rows) // a.batch)
    if steps < a.warmup + 2:
        raise SystemExit(f"{steps} steps leave nothing to measure after {a.warmup} of warm-up")

    counts = {"real": 0, "padded": 0}
    clock = clock_class(tf)(counts)
    with tempfile.TemporaryDirectory() as out:
        arguments = tf.TrainingArguments(
            output_dir=out, max_steps=steps, per_device_train_batch_size=a.batch, save_strategy="no", logging_steps=1,
            report_to=[], learning_rate=a.lr, use_cpu=True, seed=a.seed, prediction_loss_only=True, disable_tqdm=True,
            dataloader_num_workers=0, remove_unused_columns=False, lr_scheduler_type="constant", optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length")
        trainer_class(tf, torch, a.order)(
            model=model, args=arguments, train_dataset=rows, data_collator=collator(torch, tokenizer, counts, a.objective),
            callbacks=[clock]).train()
    print(json.dumps(clock.result(a.warmup)))


def samples(a, tokenizer):
    with open(a.text, encoding="utf-8") as f:
        lines = [line.strip() for line in f if line.strip()]
    if a.objective == "nsp":
        return pairs(a, tokenizer, lines)
    if a.objective == "reconstruction":
        return perturbed(a, tokenizer, lines)
    if not a.window:
        return [{"input_ids": r} for r in tokenizer(lines, truncation=True, max_length=a.max_length)["input_ids"]]
    flat = [t for r in tokenizer(lines, add_special_tokens=False)["input_ids"] for t in r]
    n = a.window - 2
    return [{"input_ids": [tokenizer.cls_token_id, *flat[i:i + n], tokenizer.sep_token_id]}
            for i in range(0, len(flat) - n + 1, n)]


def pairs(a, tokenizer, lines):
    """A line and the next one (class 0), or a random other one (class 1)."""
    import random
    draw = random.Random(a.seed)
    rows = []
    for i in range(len(lines) - 1):
        label = draw.randrange(2)
        second = lines[i + 1]
        while label == 1 and second in (lines[i], lines[i + 1]):
            second = draw.choice(lines)
        e = tokenizer(lines[i], second, truncation=True, max_length=a.max_length)
        rows.append({"input_ids": e["input_ids"], "token_type_ids": e["token_type_ids"], "labels": label})
    return rows


def perturbed(a, tokenizer, lines):
    """A line without a fifth of its words and in another order, and the line."""
    import random
    draw = random.Random(a.seed)
    rows = []
    for line in lines:
        words = [w for w in line.split() if draw.random() > 0.2]
        draw.shuffle(words)
        read, written = tokenizer([" ".join(words), line], truncation=True, max_length=a.max_length)["input_ids"]
        rows.append({"input_ids": read, "labels": written})
    return rows


def collator(torch, tokenizer, counts, objective):
    def collate(batch):
        n = max(len(r["input_ids"]) for r in batch)
        ids = torch.full((len(batch), n), tokenizer.pad_token_id)
        attention = torch.zeros(len(batch), n, dtype=torch.long)
        for i, r in enumerate(batch):
            k = len(r["input_ids"])
            ids[i, :k] = torch.tensor(r["input_ids"])
            attention[i, :k] = 1
        counts["real"] += int(attention.sum())
        counts["padded"] += attention.numel()
        if objective == "nsp":
            types = torch.zeros_like(ids)
            for i, r in enumerate(batch):
                types[i, :len(r["token_type_ids"])] = torch.tensor(r["token_type_ids"])
            return {"input_ids": ids, "attention_mask": attention, "token_type_ids": types, "labels": torch.tensor([r["labels"] for r in batch])}
        if objective == "reconstruction":
            labels = torch.full((len(batch), max(len(r["labels"]) for r in batch)), -100)
            for i, r in enumerate(batch):
                labels[i, :len(r["labels"])] = torch.tensor(r["labels"])
            counts["real"] += int((labels != -100).sum())
            counts["padded"] += labels.numel()
            return {"input_ids": ids, "attention_mask": attention, "labels": labels}
        labels = ids.clone()
        mask = (torch.rand(ids.shape) < 0.15) & attention.bool()
        labels[~mask] = -100
        ids[mask] = tokenizer.mask_token_id
        return {"input_ids": ids, "attention_mask": attention, "labels": labels}
    return collate


def clock_class(tf):
    class Clock(tf.TrainerCallback):
        """Notes the time and the tokens collated so far at each step's start, and each step's loss."""

        def __init__(self, counts):
            self.counts, self.marks, self.loss = counts, [], []

        def on_step_begin(self, *_, **__):
            self.marks.append((time.perf_counter(), self.counts["real"], self.counts["padded"]))

        def on_log(self, args, state, control, logs=None, **_):
            if logs and "loss" in logs:
                self.loss.append(float(logs["loss"]))

        def result(self, warmup):
            marks = self.marks[warmup:]
            (t0, real0, padded0), (t1, real1, padded1) = marks[0], marks[-1]
            rates = [(y[1] - x[1]) / (y[0] - x[0]) for x, y in zip(marks, marks[1:])]
            return {
                "tokens_per_second": (real1 - real0) / (t1 - t0), "median_tokens_per_second": statistics.median(rates),
                "padded_tokens_per_second": (padded1 - padded0) / (t1 - t0), "steps": len(self.marks), "loss": self.loss,
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}
    return Clock


def trainer_class(tf, torch, order):
    class Trainer(tf.Trainer):
        def _get_train_sampler(self, dataset=None):
            if order == "corpus":
                return torch.utils.data.SequentialSampler(self.train_dataset)
            return super()._get_train_sampler(dataset)
    return Trainer


if __name__ == "__main__":
    main()
