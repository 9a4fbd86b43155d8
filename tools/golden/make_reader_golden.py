"""Writes what the tests of shard's readers compare with: files that other programs wrote, and what Python reads in odd ones.

    python3 -m pip install pyarrow zstandard
    python3 tools/golden/make_reader_golden.py shard/testdata/readers

The files are small and committed; the script is kept so that anyone can see what they are and make them again.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

OUT = sys.argv[1]
os.makedirs(OUT, exist_ok=True)

TEXTS = [
    "A plain sentence.",
    'Quotes: "double", \'single\', and ""two"".',
    "commas, tabs\tand semicolons; all in one",
    "two\nlines",
    "a blank line\n\nwithin",
    "Umlauts: äöüß, Greek αβγ, Chinese 漢字, an emoji \U0001f600.",
    "backslashes \\ and \\n and \\u0041 stay as they are",
    "  spaces around  ",
    "</script> & <b>HTML</b>",
    "x" * 3000,
    "\u2028 separators \u2029 and a soft hyphen \u00ad",
    "1,234.5",
] + [f"Document {i} has {i * i} in it, and {'many ' * (i % 40)}words." for i in range(300)]


def write(name, data):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data.encode() if isinstance(data, str) else data)


def rows():
    for i, text in enumerate(TEXTS):
        yield {"id": i, "text": text, "meta": {"text": "inner " + text, "score": i / 7, "tags": ["a", {"text": "no"}]}, "none": None}


def table(values, header, **dialect):
    f = io.StringIO(newline="")
    writer = csv.writer(f, **dialect)
    writer.writerow(header)
    writer.writerows(values)
    return f.getvalue()


def plain_formats():
    write("texts.json", json.dumps(TEXTS, ensure_ascii=False))
    lines = "".join(json.dumps(r) + "\n" for r in rows())
    write("ascii.jsonl", lines)
    write("utf8.ndjson", "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\r\n" for r in rows()))
    flat = [(i, text, i / 7) for i, text in enumerate(TEXTS)]
    write("excel.csv", table(flat, ("id", "text", "score")))
    write("all-quoted.csv", "\ufeff" + table(flat, ("id", "text", "score"), quoting=csv.QUOTE_ALL, lineterminator="\n"))
    write("excel.tsv", table(flat, ("id", "text", "score"), dialect="excel-tab"))
    return lines.encode()


def archives(lines):
    """Two members, frames or streams each, of which the second begins in the middle of a line."""
    first, second = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    write("two.jsonl.gz", gzip.compress(first, 6, mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(second, 9, mtime=0))
    write("padded.jsonl.gz", gzip.compress(lines, mtime=0) + bytes(512))
    zstd = zstandard.ZstdCompressor(level=3, write_checksum=True)
    skippable = (0x184D2A53).to_bytes(4, "little") + (5).to_bytes(4, "little") + b"skip!"
    write("two.jsonl.zst", skippable + zstd.compress(first) + skippable + zstd.compress(second))
    write("two.jsonl.bz2", bz2.compress(first) + bz2.compress(second))
    write("two.jsonl.xz", lzma.compress(first) + lzma.compress(second, check=lzma.CHECK_SHA256) + bytes(8))
    write("excel.csv.gz", gzip.compress(open(os.path.join(OUT, "excel.csv"), "rb").read(), mtime=0))


def long_window():
    """A zstd frame with a window of 256 MiB, as zstd --long=28 writes it."""
    params = zstandard.ZstdCompressionParameters.from_level(1, window_log=28, enable_ldm=True)
    c = zstandard.ZstdCompressor(compression_params=params).compressobj()
    write("long.txt.zst", c.compress(b"one\n") + c.flush())


def parquet():
    plain = pa.table({
        "id": pa.array(range(len(TEXTS))),
        "text": pa.array(TEXTS),
        "meta": pa.array([{"text": "inner " + t, "n": i} for i, t in enumerate(TEXTS)]),
        "list": pa.array([[t] for t in TEXTS]),
        "with.dot": pa.array(["dot " + t for t in TEXTS]),
        "category": pa.array([f"category {i % 7}" for i in range(len(TEXTS))]).dictionary_encode(),
        "nulls": pa.array([None if i % 3 == 0 else t for i, t in enumerate(TEXTS)]),
        "large": pa.array(TEXTS, pa.large_string()),
        "binary": pa.array([t.encode() for t in TEXTS], pa.binary()),
        "latin1": pa.array([b"caf\xe9" if i == 1 else t.encode() for i, t in enumerate(TEXTS)], pa.binary()),
    })

    def save(name, **options):
        pq.write_table(plain.select(options.pop("columns", ["id", "text"])), os.path.join(OUT, name), **options)

    save("snappy.parquet", compression="snappy", columns=plain.column_names, row_group_size=100, data_page_size=4096)
    save("zstd-v2.parquet", compression="zstd", data_page_version="2.0", row_group_size=70, use_dictionary=False, data_page_size=4096)
    save("gzip-crc.parquet", compression="gzip", write_page_checksum=True, row_group_size=150, data_page_size=2048)
    save("none.parquet", compression="none", use_dictionary=False)
    save("brotli.parquet", compression="brotli")
    save("lz4.parquet", compression="lz4")
    for encoding in ("DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"):
        save(encoding.lower() + ".parquet", compression="none", use_dictionary=False, column_encoding={"text": encoding, "id": "PLAIN"})
    pq.write_table(plain.slice(0, 0), os.path.join(OUT, "empty.parquet"))


JSON_LINES = [
    '{"text": "a"}', '{"text":"a"}', ' \t{ "text" : "a" } \r', '{"text": "a", "text": "b"}', '{"text": 1, "text": "b"}',
    '{"text": "a", "text": 1}', '{"te\\u0078t": "a"}', '{"Text": "a"}', '{"TEXT": "a", "text": "b"}', '{"text ": "a"}',
    '{"text": "\\u00e4\\uD83D\\uDE00\\n\\t\\"\\\\\\/\\b\\f\\r"}', '{"text": "\\ud800"}', '{"text": "\\udc00"}', '{"text": "\\ud800\\ud800\\udc00"}',
    '{"text": "\\ud800x"}', '{"text": "\\ud800\\n"}', '{"text": "\\ud83d\\ude00\\ude00"}', '{"text": "\\ud800\\u0041"}',
    '{"text": "\\u0000"}', '{"text": "\\u00"}', '{"text": "\\u00g0"}', '{"text": "\\x41"}', '{"text": "\\"}', '{"text": "\\u+123"}',
    '{"text": "a\tb"}', '{"text": "a\x7fb"}', '{"text": "a\x1fb"}', '{"text": "a', '{"text": "a"', '{"text"', '{', '', '[]', '"text"', '1', 'null',
    '{"text": "a"} x', '{"text": "a"}{"text": "b"}', '{"text": "a",}', '{,"text": "a"}', '{"text": "a" "b": 1}', "{'text': 'a'}", '{text: "a"}',
    '{"text": null}', '{"text": true}', '{"text": false}', '{"text": 0}', '{"text": -1.5e+3}', '{"text": {}}', '{"text": []}', '{"text": NaN}',
    '{"a": NaN, "b": Infinity, "c": -Infinity, "text": "x"}', '{"a": nan, "text": "x"}', '{"a": -NaN, "text": "x"}', '{"a": +1, "text": "x"}',
    '{"a": 01, "text": "x"}', '{"a": 1., "text": "x"}', '{"a": .5, "text": "x"}', '{"a": 1e, "text": "x"}', '{"a": 1e5, "text": "x"}',
    '{"a": 1E-05, "text": "x"}', '{"a": -, "text": "x"}', '{"a": -0, "text": "x"}', '{"a": 0x1, "text": "x"}', '{"a": tru, "text": "x"}',
    '{"a": trueish, "text": "x"}', '{"a": [1, [2, {"text": "no"}]], "text": "x"}', '{"a": [1,], "text": "x"}', '{"a": [,1], "text": "x"}',
    '{"a": [1 2], "text": "x"}', '{"a": {"text": "no"}}', '{"text": ""}', '{"text": " "}', '{}', '{"a": 1}', '{"text" "a"}', '{"text":: "a"}',
    '{"": "empty", "text": "x"}', '{"text": "\u00e4\u6f22\U0001f600"}', '\ufeff{"text": "a"}', '{"text": "a"}\u00a0', '{"text": "a"}\x0b',
    '{"a": "\ud7ff", "text": "x"}', '{"a\\ud800": 1, "text": "x"}', '{"a": "\\ud800", "text": "x"}', '// c\n{"text": "a"}', '{"text": "a" /* c */}',
]
NESTED_LINES = [
    '{"a": {"b": "x"}}', '{"a": {"b": "x"}, "a": {"c": 1}}', '{"a": {"b": "x"}, "a": 1}', '{"a": 1, "a": {"b": "x"}}', '{"a": {"b": {"c": 1}}}',
    '{"a": {"b": "x", "b": "y"}}', '{"b": "x"}', '{"a": {"c": {"b": "no"}}}', '{"a": [{"b": "x"}]}', '{"a": {"b": null}}', '{"c": {"a": {"b": "no"}}}',
    '{"a": {"b": "x"}, "c": {"b": "y"}}', '{"\\u0061": {"\\u0062": "x"}}', '{"a": {"b": "x"}, "a": null}',
]


def python_json(line, path):
    """What json.loads makes of a line: the text under path, or a word for what there is instead."""
    try:
        value = json.loads(line)
    except ValueError:
        return {"is": "bad"}
    if not isinstance(value, dict):
        return {"is": "bad"}
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return {"is": "none"}
        value = value[name]
    if value is None:
        return {"is": "none"}
    if not isinstance(value, str):
        return {"is": "other"}
    lone = sum(0xD800 <= ord(c) <= 0xDFFF for c in value)
    return {"is": "text", "text": "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in value), "lone": lone}


def json_table():
    write("json.json", json.dumps(
        [{"line": line, "field": "text", **python_json(line, ["text"])} for line in JSON_LINES]
        + [{"line": line, "field": "a.b", **python_json(line, ["a", "b"])} for line in NESTED_LINES], indent=0) + "\n")


CSVS = [
    "text\na\nb\n", "text\r\na\r\nb", "text\ra\rb\r", "text,b\na,1\n", "b,text\n1,a\n", '"text"\n"a"\n', 'text\n"a ""quoted"" b"\n', 'text\n"a\nb"\n',
    'text\n"a\r\nb"\n', 'text\n"a,b"\n', 'text,b\n"a"x,1\n', 'text,b\na"b",1\n', 'text,b\na"b,1\n', "text,b\n ,1\n", "text,b\n,1\n", "text,b\n\n\na,1\n",
    'text\n""\n', 'text\n"a"', "text\n", "text", 'text,b\n "a",1\n', 'text,b\n"a" ,1\n', 'text,b\n"a"",",1\n', "text,b\n\ta,1\n", 'text,b\n"""",1\n',
    'text,b\n"a""b"c"d,1\n', "\n\ntext\na\n", "text,b\r\n\r\na,1\r\n", "text;b\n", 'text,b\na,"x\ny\nz"\nb,"""\n"""\n', "text,b\n\u00e4,\u6f22\n",
]


def csv_table():
    out = []
    for text in CSVS:
        records = [r for r in csv.reader(io.StringIO(text, newline="")) if r]
        if "text" in records[0] and all(len(r) == len(records[0]) for r in records):
            out.append({"csv": text, "texts": [r[records[0].index("text")] for r in records[1:]]})
    write("csv.json", json.dumps(out, indent=0) + "\n")


archives(plain_formats())
long_window()
parquet()
json_table()
csv_table()
