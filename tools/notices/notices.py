"""Writes THIRD_PARTY_NOTICES: what the two programs are linked from, with copyrights and licences.

    python3 tools/notices/notices.py >THIRD_PARTY_NOTICES     (make notices)

It asks the Go tool and cargo what is linked on Linux x86-64, and reads the licence files that come with each. Needs the
environment of scripts/env.sh and every module at hand, so make build goes first.
"""

import glob
import json
import os
import re
import subprocess
import sys

MANIFEST = "internal/tokenizer/rust/Cargo.toml"

HEADER = """ddprun is licensed under the Apache License 2.0 (LICENSE). The programs that are built from it hold, or load when they
run, the works below. Written by tools/notices/notices.py; do not edit.

Loaded by ddprun-worker when it runs, not part of this repository nor of the programs:

  PyTorch's libtorch (BSD-3-Clause), https://github.com/pytorch/pytorch. Its own notices, and those of what it
    holds (Gloo, oneDNN, OpenMP and others), lie in the wheel: torch-*.dist-info/licenses/
  NVIDIA's CUDA runtime and CUPTI (NVIDIA's licence), which that libtorch loads: nvidia_*.dist-info/licenses/
"""


# What the first lines, or telling words, of a licence file say it is. The order matters: BSD-2 is a part of BSD-3.
TELLING = [
    ("Apache-2.0", r"Apache License\s+Version 2\.0"),
    ("MPL-2.0", r"Mozilla Public License,? [Vv]ersion 2\.0"),
    ("ISC", r"Permission to use, copy, modify, and(/or)? distribute this software"),
    ("MIT", r"Permission is hereby granted, free of charge"),
    ("BSD-3-Clause", r"(Neither|endorse or promote)"),
    ("BSD-2-Clause", r"Redistribution and use in source and binary forms"),
]


def run(*command, env=None):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env).stdout.decode()


def licence_files(folder):
    """Yields the name and text of the licence files in folder, and of those one level down (libraries it carries)."""
    for path in sorted(glob.glob(os.path.join(folder, "*")) + glob.glob(os.path.join(folder, "*", "*"))):
        name = os.path.basename(path)
        if re.match(r"(?i)(licen[sc]e|copying|notice|unlicense)[^/]*$", name) and os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as f:
                yield name, f.read()


def go_modules():
    """Yields (name, version, licence, folder) of the modules that the two programs are linked from."""
    form = "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}"
    lines = run("go", "list", "-deps", "-f", form, "./cmd/...").splitlines()
    for line in sorted(set(filter(None, lines))):
        path, version, folder = line.split("\t")
        text = "\n".join(t for n, t in licence_files(folder) if not re.match("(?i)notice", n))
        kinds = [kind for kind, telling in TELLING if re.search(telling, text)]
        if "BSD-3-Clause" in kinds:
            kinds = [k for k in kinds if k != "BSD-2-Clause"]
        if not kinds:
            sys.exit("notices: %s %s has no licence that is known here: look at %s" % (path, version, folder))
        yield path, version, " and ".join(kinds), folder


def crates():
    """Yields the same of the crates that are compiled into the tokenizers' library (not those that only build it)."""
    data = json.loads(
        run("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform",
            "x86_64-unknown-linux-gnu", "--manifest-path", MANIFEST)
    )
    packages = {p["id"]: p for p in data["packages"]}
    needs = {n["id"]: n["deps"] for n in data["resolve"]["nodes"]}
    todo, linked = [data["resolve"]["root"]], set()
    while todo:
        current = todo.pop()
        if current in linked or any("proc-macro" in t["kind"] for t in packages[current]["targets"]):
            continue
        linked.add(current)
        todo += [d["pkg"] for d in needs[current] if any(k["kind"] is None for k in d["dep_kinds"])]
    linked.remove(data["resolve"]["root"])
    for p in sorted((packages[i] for i in linked), key=lambda p: p["name"]):
        if not p["license"]:
            sys.exit("notices: crate %s names no licence" % p["name"])
        yield p["name"], p["version"], p["license"].replace("/", " OR "), os.path.dirname(p["manifest_path"])


def main():
    print(HEADER)
    texts = {}
    for heading, works in (("Go modules", go_modules()), ("Rust crates", crates())):
        print(heading + " linked into the programs:\n")
        for name, version, licence, folder in works:
            print("  %s %s (%s)" % (name, version, licence))
            for _, text in licence_files(folder):
                # A text that many works share is printed once, with their names over it.
                texts.setdefault(" ".join(text.split()), (text.strip(), []))[1].append(name)
        print()
    print("The Apache License 2.0 is in LICENSE. The others, and what the works' authors ask to be repeated:\n")
    for text, names in texts.values():
        if "TERMS AND CONDITIONS FOR USE, REPRODUCTION" in text:
            continue
        print("=" * 100 + "\n" + ", ".join(dict.fromkeys(names)) + "\n" + "-" * 100 + "\n" + text + "\n")


main()
