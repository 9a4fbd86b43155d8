#!/usr/bin/env python3
"""Measures ddprun on GPUs beside PyTorch DDP with transformers and prints a Markdown table; scripts/bench-gpu.sh (make bench-gpu) calls it.

  bench_gpu.py --ddprun bin/ddprun --text OPTICKS [--gpus N] [--rounds 3] [--steps 100] [--batch 32] [--parts bf16,tf32,long,reconstruction] [--work DIR]

Both sides train the same random model on the same samples in the order of the text, --batch samples a GPU and step: a BERT of the size of bert-base on windows of 128 tokens
(long: of 512), or a T5 of the size of t5-small on sentences. PyTorch's side is ddp_gpu.py, as it is (eager) and with torch.compile. The sides run in turn, --rounds
times; a figure is the median over rounds of the median over intervals of EVERY steps, without the first WARMUP intervals; a ratio is the median of the rounds' ratios.
With several GPUs everything is measured on one and on all of them, and ddprun on all is compared with itself on one.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile

import bench
import sentences

HERE = os.path.dirname(os.path.abspath(__file__))
EVERY = 10
WARMUP = bench.WARMUP

BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
WINDOWS = {"text_unit": "file", "sample_unit": "window", "data_order": "corpus"}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ddprun", default="bin/ddprun")
    p.add_argument("--text", required=True)
    p.add_argument("--gpus", type=int, help="default: all that nvidia-smi lists")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--parts", default=",".join(PARTS))
    p.add_argument("--work", help="keep the runs here; default: a temporary directory")
    a = p.parse_args()
    parts = a.parts.split(",")
    if a.rounds < 1 or a.steps // EVERY < WARMUP + 1 or set(parts) - set(PARTS):
        p.error(f"want rounds >= 1, steps >= {EVERY * (WARMUP + 1)}, and parts out of {','.join(PARTS)}")
    cards = gpus()
    a.gpus = a.gpus or len(cards)
    with contextlib.ExitStack() as stack:
        work = os.path.abspath(a.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="ddprun-bench-")))
        sides = Sides(a, work)
        rows = [r for part in parts for r in measure(sides, part)]
    print(f"{a.gpus} of {len(cards)} x {cards[0]}; {bench.machine()}; {a.rounds} rounds in turn.\n")
    print("| what, tokens/s | ddprun | compared with | | ratio (each round) |\n|---|---|---|---|---|")
    for r in rows:
        print("| " + " | ".join(r) + " |")


def gpus():
    try:
        listed = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        listed = ""
    cards = [line.strip() for line in listed.splitlines() if line.strip()]
    if not cards:
        sys.exit("bench-gpu: nvidia-smi lists no GPU here: run it on a machine with NVIDIA's driver and a GPU, after CUDA=1 make setup")
    return cards


# PARTS are a name, the model, ddprun's keys and ddp_gpu.py's options of each part.
PARTS = {
    "bf16": ("bert-base, bf16, windows of 128", "bert", {**WINDOWS, "max_seq_length": 128, "bf16": True}, ["--window", "128", "--precision", "bf16"]),
    "tf32": ("bert-base, tf32, windows of 128", "bert", {**WINDOWS, "max_seq_length": 128, "tf32": True}, ["--window", "128", "--precision", "tf32"]),
    "long": ("bert-base, bf16, windows of 512", "bert", {**WINDOWS, "max_seq_length": 512, "bf16": True}, ["--window", "512", "--precision", "bf16"]),
    "reconstruction": (
        "t5-small, bf16, sentences", "t5",
        {"objective": "reconstruction", "text_unit": "file", "sentence_unit": "line", "data_order": "corpus", "max_seq_length": 512, "bf16": True},
        ["--objective", "reconstruction", "--precision", "bf16"]),
}


class Sides:
    """The models, the text and the two ways to train on them."""

    def __init__(self, arguments, work):
        self.a, self.work = arguments, work
        self.models = {"bert": os.path.join(work, "bert-base"), "t5": os.path.join(work, "t5")}
        bench.make_model(self.models["bert"], BERT_BASE)
        bench.make_text_model(self.models["t5"])
        self.text = os.path.join(work, "sentences.txt")
        with open(self.text, "w", encoding="utf-8") as f, contextlib.redirect_stdout(f):
            sentences.main(arguments.text)

    def ddprun(self, name, part, ranks):
        _, model, keys, _ = PARTS[part]
        out = os.path.join(self.work, name)
        config = {
            "model": self.models[model], "data": self.text, "output_dir": out, "shards_dir": os.path.join(self.work, "shards"), "overwrite_output_dir": True,
            "per_device_train_batch_size": self.a.batch, "max_steps": self.a.steps, "learning_rate": 5e-5, "weight_decay": 0.01, "lr_scheduler_type": "constant",
            "logging_steps": EVERY, "save_strategy": "no", "device": "cuda", **keys}
        path = os.path.join(self.work, name + ".yaml")
        with open(path, "w", encoding="ascii") as f:
            json.dump(config, f, indent=1)  # JSON is YAML
        bench.Process(name, [self.a.ddprun, "--nproc", str(ranks), path], self.work).wait()
        with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
            records = [json.loads(line) for line in f]
        rates = [r["tokens_per_second"] for r in records if "tokens_per_second" in r][WARMUP:]
        if not rates:
            sys.exit(f"{out}/metrics.jsonl: no tokens_per_second after {WARMUP} intervals")
        return statistics.median(rates)

    def pytorch(self, name, part, ranks, compiled):
        _, model, _, options = PARTS[part]
        process = bench.Process(name, [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), os.path.join(HERE, "ddp_gpu.py"),
            "--model", self.models[model], "--text", self.text, "--batch", str(self.a.batch), "--steps", str(self.a.steps), "--every", str(EVERY),
            "--warmup", str(WARMUP), *options, *(["--compile"] if compiled else [])], self.work)
        process.wait()
        return json.loads(process.stdout().strip().splitlines()[-1])["median_tokens_per_second"]


def measure(sides, part):
    """Rows of a part: on one GPU and on all, beside PyTorch eager and compiled."""
    rows, alone = [], []
    for ranks in sorted({1, sides.a.gpus}):
        ours, eager, compiled = [], [], []
        for k in range(sides.a.rounds):
            name = f"{part}-{ranks}-{k}"
            ours.append(sides.ddprun(name + "-ddprun", part, ranks))
            eager.append(sides.pytorch(name + "-eager", part, ranks, False))
            compiled.append(sides.pytorch(name + "-compiled", part, ranks, True))
        label = f"{ranks} GPU{'s' if ranks > 1 else ''}, {PARTS[part][0]}"
        rows.append(bench.row(label, ours, "PyTorch DDP", eager))
        rows.append(bench.row(label, ours, "PyTorch DDP, torch.compile", compiled))
        if alone:
            rows.append(bench.row(label, ours, f"ddprun on 1 GPU x {ranks}", [ranks * x for x in alone]))
        alone = ours
    return rows


if __name__ == "__main__":
    main()
