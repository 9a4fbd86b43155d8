"""Tokenizes texts, a document a line, with datasets.map: prints a JSON object. prepare_bench.py calls it.

  hf_map.py MODEL TEXT...
"""

import json
import os
import sys
import time

import datasets
from transformers import AutoTokenizer


def main():
    model, *texts = sys.argv[1:]
    datasets.disable_progress_bars()
    cores = len(os.sched_getaffinity(0))
    tokenizer = AutoTokenizer.from_pretrained(model, use_fast=True)
    start = time.monotonic()
    text = datasets.load_dataset("text", data_files=texts, split="train", num_proc=min(cores, len(texts)) if len(texts) > 1 else None)
    loaded = time.monotonic()

    def encode(batch):
        return tokenizer(batch["text"], add_special_tokens=False, truncation=False, padding=False,
                         return_attention_mask=False, return_token_type_ids=False)

    tokens = text.map(encode, batched=True, num_proc=cores, remove_columns=["text"])
    mapped = time.monotonic()
    table = tokens.data.column("input_ids")
    count = sum(len(chunk.flatten()) for chunk in table.chunks)
    print(json.dumps({"load_seconds": loaded - start, "map_seconds": mapped - loaded, "documents": len(tokens), "tokens": count}))


if __name__ == "__main__":
    main()
