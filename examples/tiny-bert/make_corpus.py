#!/usr/bin/env python3
"""Gathers the text that the demo's base model is pre-trained on: plain English paragraphs, one a line, blank lines between.

  make_corpus.py OUT [--cache DIR]

Writes OUT/train/<source>.txt and OUT/heldout.txt (each 500th paragraph), and prints what went in. The sources and their
licences are in README.md. Debian packages are fetched with `apt-get download` into the cache, unpacked there, and installed
nowhere; Go's own text is read where it is installed. Deterministic: the same package versions give the same bytes.

The demo goes on to train on Newton's Opticks, so nothing of that book may be in here: a paragraph that shares eight words in a
row with it, or that names Newton, is left out.
"""

import argparse
import glob
import gzip
import html
import os
import re
import subprocess
import sys

PACKAGES = ("dict-gcide", "bible-kjv", "bible-kjv-text", "python3.11-doc")
OPTICKS = "src/testdata/Isaac.Newton-Opticks.txt"  # below GOROOT
OVERLAP_WORDS = 8
HELDOUT_EVERY = 500


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--cache", default=os.path.expanduser(os.environ.get("XDG_CACHE_HOME", "~/.cache") + "/ddprun/tiny-bert"))
    a = p.parse_args()
    goroot = run("go", "env", "GOROOT").strip()
    root = fetch(a.cache)
    sources = {"webster": webster(root), "bible": bible(root), "python": python_docs(root), "go": go_docs(goroot)}
    keep = Filter(read(os.path.join(goroot, OPTICKS)))
    os.makedirs(os.path.join(a.out, "train"), exist_ok=True)
    with open(os.path.join(a.out, "heldout.txt"), "w", encoding="utf-8") as heldout:
        for name, paragraphs in sources.items():
            with open(os.path.join(a.out, "train", name + ".txt"), "w", encoding="utf-8") as train:
                kept = 0
                for text in filter(keep, paragraphs):
                    kept += 1
                    (heldout if kept % HELDOUT_EVERY == 0 else train).write(text + "\n\n")
                print(f"{name}: {kept} paragraphs, {train.tell() / 1e6:.1f} MB")
    print(f"left out: {keep.counts}")


class Filter:
    """Says whether a paragraph is kept: it is prose, it is new, and it is not Newton's."""

    def __init__(self, opticks):
        self.opticks = set(grams(words(opticks)))
        self.seen = set()
        self.counts = {"not prose": 0, "seen before": 0, "Newton": 0}

    def __call__(self, text):
        reason = self.reason(text)
        if reason:
            self.counts[reason] += 1
        return not reason

    def reason(self, text):
        w = words(text)
        letters = sum(c.isalpha() and c.isascii() for c in text)
        if not 5 <= len(w) <= 600 or letters < 0.72 * len(text):
            return "not prose"
        if "newton" in text.lower() or not self.opticks.isdisjoint(grams(w)):
            return "Newton"
        key = " ".join(w)
        if key in self.seen:
            return "seen before"
        self.seen.add(key)
        return None


def words(text):
    return re.findall(r"[a-z]+", text.lower().replace("'", ""))


def grams(w):
    return (" ".join(w[i:i + OVERLAP_WORDS]) for i in range(len(w) - OVERLAP_WORDS + 1))


def fetch(cache):
    """Unpacks the packages into cache/root, each once. A half-made one is made again."""
    root = os.path.join(cache, "root")
    os.makedirs(root, exist_ok=True)
    for package in PACKAGES:
        done = os.path.join(cache, package + ".unpacked")
        if os.path.exists(done):
            continue
        try:
            subprocess.run(["apt-get", "download", package], cwd=cache, check=True, stdout=subprocess.DEVNULL)
            (deb,) = glob.glob(os.path.join(cache, package + "_*.deb"))
            subprocess.run(["dpkg-deb", "-x", deb, root], check=True)
        except (OSError, subprocess.CalledProcessError, ValueError) as e:
            sys.exit(f"package {package}: {e}. Run this on Debian 12, after `apt-get update`, with an empty {cache}.")
        open(done, "w").close()
    return root


def run(*command, **kw):
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace", **kw).stdout


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


def join(text):
    return " ".join(text.split())


# Webster's Revised Unabridged Dictionary of 1913, as it stands in GCIDE

TAG = re.compile(r"\[(?:1913 Webster|PJC|WordNet|Webster 1913|RH|AS|RP|Century)[^\]]*\]")
PUBLIC_DOMAIN = ("[1913 Webster]", "[Webster 1913 Suppl.]")
SPEECH = r"(?:(?:n|a|v|t|i|p|pr|vb|adv|prep|conj|interj|imp|pl|sing|pron|fem|masc|superl|compar|sup|obs)\.[\s,;&]*)+"


def webster(root):
    """One paragraph an entry. Segments that later editors added (WordNet, PJC, ...) are left out by the tags they end in."""
    with gzip.open(os.path.join(root, "usr/share/dictd/gcide.dict.dz"), "rt", encoding="utf-8", errors="replace") as f:
        entries = re.split(r"\n(?=\S)", f.read())
    for entry in entries:
        segments, start = [], 0
        for tag in TAG.finditer(entry):
            if tag.group() in PUBLIC_DOMAIN:
                segments.append(definition(entry[start:tag.start()]))
            elif start == 0:
                segments = None  # the headword itself is not of 1913
                break
            start = tag.end()
        if segments:
            yield join(" ".join(segments))


def definition(text):
    text = re.sub(r"\n\s+--\s*[A-Z].*", " ", text, flags=re.S)  # who said it, on a line of its own
    text = re.sub(r"\{([^}]*)\}", lambda m: re.sub(r"[*\"`|]", "", m.group(1)), text)
    text = re.sub(r"\\[^\\\n]*\\", "", text)  # syllables
    text = re.sub(r"\[(?:[^a-zA-Z\s]([a-zA-Z])|([a-zA-Z]{2}))\]", r"\1\2", text)  # accents, ligatures
    text = re.sub(r"\[[^\[\]]*\]", " ", text)  # etymology, usage
    text = re.sub(r"\([^()\n]*[?*\"`^=][^()\n]*\)", " ", text)  # pronunciation
    text = re.sub(r"\s--\s?[A-Z][\w.']*(?: [A-Z(][\w.')]*){0,3}", " ", text)
    text = join(text)
    text = re.sub(r"^([\w' -]{1,40}?)\s*,?\s*" + SPEECH, r"\1: ", text)
    text = re.sub(r"(?:^|(?<=[\s:]))(?:\d{1,2}\.|\([a-z]\))\s", "", text)  # numbers of senses
    return text


# The King James Bible

def bible(root):
    """One paragraph a chapter's run of about 60 words, at verse ends. `bible` unpacks its own compressed data."""
    lib = os.path.join(root, "usr/lib")
    text = run(os.path.join(root, "usr/bin/bible"), "-l20000", "-d", "bible.data", "-p", lib, "gen1:1-rev22:21",
               env={**os.environ, "COLUMNS": "20000"})
    paragraph = []
    for line in text.splitlines() + [""]:
        verse = re.match(r"\s+\d+ (.*)", line)
        if verse:
            paragraph += verse.group(1).split()
        if paragraph and (not verse or len(paragraph) >= 60):
            yield " ".join(paragraph)
            paragraph = []


# Documentation

def python_docs(root):
    """Prose paragraphs of the reStructuredText sources, without directives, tables and code."""
    sources = os.path.join(root, "usr/share/doc/python3.11/html/_sources")
    for path in sorted(glob.glob(sources + "/**/*.rst.txt", recursive=True)):
        for block in re.split(r"\n\s*\n", read(path)):
            indent = len(block) - len(block.lstrip())
            if indent > 3 or re.match(r"\s*(\.\.|>>>|[|+:=*#-])", block) or block.rstrip().endswith("::"):
                continue
            text = re.sub(r":[\w:.+-]+:`([^`<]*?)(?:\s*<[^`>]*>)?`", r"\1", block)
            text = re.sub(r"`([^`<]*?)\s*<[^`>]*>`_+", r"\1", text)
            yield join(re.sub(r"[*`|]+", "", text).replace("~", "").replace("!", ""))


def go_docs(goroot):
    """The comments of Go's own sources, a paragraph each, and the pages of its doc folder."""
    for path in sorted(glob.glob(os.path.join(goroot, "src", "**", "*.go"), recursive=True)):
        inside = path[len(goroot):]
        if "/vendor/" in inside or "/testdata/" in inside or path.endswith("_test.go"):
            continue
        text = read(path)
        if "Code generated" in text[:2000]:
            continue
        for block in re.findall(r"(?:^[ \t]*// ?(?!\s).*\n)+", text, flags=re.M):
            if "Copyright" not in block:
                yield join(re.sub(r"^[ \t]*//", "", block, flags=re.M))
    for path in sorted(glob.glob(os.path.join(goroot, "doc", "*.html"))):
        for block in re.findall(r"<p>(.*?)(?=</p>|<p>|<pre)", read(path), flags=re.S):
            yield join(html.unescape(re.sub(r"<[^>]*>", "", block)))


if __name__ == "__main__":
    main()
