#!/usr/bin/env python3
"""Writes shard/testdata/minhash.json: signatures and estimates of datasketch 2.0.0 for sets of 32-bit hashes.

pip install datasketch==2.0.0; then run it from the top of the checkout.
"""
import json
import random

import datasketch

NUM_PERM = 128


def main():
    rng = random.Random(1)
    pool = [rng.getrandbits(32) for _ in range(400)]
    sets = [[0], [2**32 - 1], pool[:40], pool[2:40], pool[10:60], pool[200:260]]
    hashes = [datasketch.MinHash(num_perm=NUM_PERM, seed=1, scheme="affine32", hashfunc=lambda h: h) for _ in sets]
    for m, s in zip(hashes, sets):
        for h in s:
            m.update(h)
    a, b = hashes[0].permutations
    jaccard = [[m.jaccard(n) for n in hashes] for m in hashes]
    golden = {
        "datasketch": datasketch.__version__,
        "a": [int(x) for x in a],
        "b": [int(x) for x in b],
        "sets": sets,
        "signatures": [[int(x) for x in m.hashvalues] for m in hashes],
        "jaccard": jaccard,
    }
    with open("shard/testdata/minhash.json", "w") as f:
        json.dump(golden, f)
        f.write("\n")


if __name__ == "__main__":
    main()
