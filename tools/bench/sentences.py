#!/usr/bin/env python3
"""Splits a plain English text into sentences, one a line.

  sentences.py FILE > OUT

A paragraph (blank lines between) is joined to one line and cut after . ? or ! (and a closing quote, bracket or underscore)
where a blank and then a capital, digit, quote, bracket or underscore follow. Abbreviations are not known: "Mr. Boyle" is cut.
Lines of fewer than four words (headings, labels of figures) are left out. Made to give both sides of a benchmark the same work.
"""

import re
import sys

END = re.compile(r"(?<=[.?!])([\"')\]_]*)\s+(?=[\"'(\[_]*[A-Z0-9])")


def main(path):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in END.sub(r"\1\n", " ".join(paragraph.split())).split("\n"):
            if len(sentence.split()) >= 4:
                print(sentence)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
