"""Makes a large text out of the documentation that comes with Go: its packages' comments and Newton's Opticks."""

import os
import random
import re


def paragraphs(goroot):
    """The paragraphs of GOROOT/src's comments and of the Opticks, in a fixed order, one a string without line ends."""
    found = []
    for folder, folders, names in os.walk(os.path.join(goroot, "src")):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if name == "Isaac.Newton-Opticks.txt":
                with open(path, encoding="utf-8", errors="replace") as f:
                    found += f.read().split("\n\n")
            elif name.endswith(".go") and not name.endswith("_test.go"):
                with open(path, encoding="utf-8", errors="replace") as f:
                    text = f.read()
                for block in re.findall(r"(?:^[ \t]*//[^\n]*\n)+", text, re.M):
                    found += re.sub(r"^[ \t]*//", "", block, flags=re.M).split("\n\n")
    found = (" ".join(p.split()) for p in found)
    return sorted({p for p in found if len(p) >= 80})


def write(path, goroot, size, seed):
    """Writes at least size bytes: the paragraphs, shuffled anew in each pass, one a line. Returns the bytes written."""
    pool = paragraphs(goroot)
    rng = random.Random(seed)
    done = 0
    with open(path, "wb") as f:
        while done < size:
            rng.shuffle(pool)
            for start in range(0, len(pool), 1000):
                done += f.write(("\n".join(pool[start : start + 1000]) + "\n").encode())
                if done >= size:
                    break
    return done
