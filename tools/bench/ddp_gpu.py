#!/usr/bin/env python3
"""Trains a model of transformers with PyTorch's DistributedDataParallel on GPUs, to measure ddprun beside: what PyTorch offers for speed, without a framework around it.

bfloat16 by autocast (or TF32, or float32), scaled-dot-product attention, fused AdamW, pinned memory and asynchronous copies, tokens and masks made ahead, and
torch.compile where --compile asks for it. No padding among windows; where lengths differ, padding to the longest sample of a batch. Nothing waits for the GPU but at every --every steps.

Prints one JSON object: median_tokens_per_second over all ranks (padding not counted, the first --warmup intervals of --every steps left out), loss of each interval, peak_gpu_mib of rank 0.

  python3 -m torch.distributed.run --standalone --nproc-per-node GPUS ddp_gpu.py --model DIR --text FILE [--objective mlm|reconstruction] [--window 128] [--batch 32]
      [--steps 100] [--every 10] [--warmup 3] [--precision bf16|tf32|fp32] [--compile]

FILE holds one sentence a line, and is taken in its order, again and again. DIR is a model directory; without weights the model is random.
"""

import argparse
import json
import os
import statistics
import time

import hf_baseline


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--objective", choices=["mlm", "reconstruction"], default="mlm")
    p.add_argument("--window", type=int, default=0)
    p.add_argument("--max-length", type=int, default=512)
    p.add_argument("--batch", type=int, default=32, help="samples a GPU and step")
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--every", type=int, default=10)
    p.add_argument("--warmup", type=int, default=3, help="intervals")
    p.add_argument("--precision", choices=["bf16", "tf32", "fp32"], default="bf16")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--lr", type=float, default=5e-5)
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


def main():
    a = parse()
    if a.steps // a.every < a.warmup + 1:
        raise SystemExit(f"{a.steps} steps leave no interval of {a.every} after {a.warmup} of warm-up")
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    import torch
    import transformers as tf
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU: CUDA=1 make setup fetches its CUDA libraries, nvidia-smi shows the driver")
    rank, world, local = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl", device_id=torch.device("cuda", local))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.precision == "tf32"
    tf.set_seed(a.seed)
    model = make(tf, a).cuda().train()
    if a.compile:
        model = torch.compile(model)
    model = torch.nn.parallel.DistributedDataParallel(model, device_ids=[local], gradient_as_bucket_view=True, static_graph=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=a.lr, weight_decay=0.01, fused=True)
    batches = made_ahead(torch, tf, a, rank, world)

    rates, losses = [], []
    torch.cuda.synchronize()
    began, tokens = time.perf_counter(), 0
    for step in range(a.steps):
        batch, count = batches[step]
        batch = {k: v.cuda(non_blocking=True) for k, v in batch.items()}
        with torch.autocast("cuda", torch.bfloat16, enabled=a.precision == "bf16"):
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += count
        if (step + 1) % a.every == 0:
            losses.append(loss.item())  # waits for the GPU
            now = time.perf_counter()
            rates.append(tokens / (now - began))
            began, tokens = now, 0
    total = torch.tensor(rates, dtype=torch.float64, device="cuda")
    torch.distributed.all_reduce(total)
    if rank == 0:
        print(json.dumps({
            "median_tokens_per_second": statistics.median(total.tolist()[a.warmup:]), "loss": losses, "ranks": world,
            "peak_gpu_mib": torch.cuda.max_memory_allocated() >> 20, "gpu": torch.cuda.get_device_name(), "torch": torch.__version__}))
    torch.distributed.destroy_process_group()


def make(tf, a):
    kind = {"mlm": tf.AutoModelForMaskedLM, "reconstruction": tf.AutoModelForSeq2SeqLM}[a.objective]
    if any(f.endswith((".safetensors", ".bin")) for f in os.listdir(a.model)):
        return kind.from_pretrained(a.model)
    return kind.from_config(tf.AutoConfig.from_pretrained(a.model))


def made_ahead(torch, tf, a, rank, world):
    """Every step's batch of this rank in pinned memory, and its number of tokens."""
    tokenizer = tf.AutoTokenizer.from_pretrained(a.model)
    rows = hf_baseline.samples(a, tokenizer)
    counts = {"real": 0, "padded": 0}
    collate = hf_baseline.collator(torch, tokenizer, counts, a.objective)
    batches = []
    for step in range(a.steps):
        first = (step * world + rank) * a.batch
        before = counts["real"]
        batch = collate([rows[(first + i) % len(rows)] for i in range(a.batch)])
        if a.window:
            del batch["attention_mask"]  # no padding: attention takes its fastest way
        batches.append(({k: v.pin_memory() for k, v in batch.items()}, counts["real"] - before))
    return batches


if __name__ == "__main__":
    main()
