"""Unpacks Python wheels side by side, checking them against the digests that they carry.

    wheels.py unpack DIR WHEEL...     unpack them into DIR, each file checked against its wheel's RECORD
    wheels.py verify DIR              check what lies in DIR against the RECORDs there
    wheels.py requires DIR cuda|rest  the requirements of the torch in DIR: NVIDIA's libraries, or the plain Python ones
    wheels.py tag DIR                 the Python that the torch in DIR was built for, as cp312

Standard library only, from Python 3.6 on: it runs before anything is installed.
"""

import base64
import csv
import glob
import hashlib
import os
import re
import sys
import zipfile


def fail(message):
    sys.exit("ddprun: " + message)


def check(root, record):
    """Compares every file that record (RECORD's text) lists with its size and digest."""
    for path, digest, size in csv.reader(record.splitlines()):
        if not digest:
            continue
        kind, _, want = digest.partition("=")
        h = hashlib.new(kind)
        try:
            with open(os.path.join(root, path), "rb") as f:
                for block in iter(lambda: f.read(1 << 20), b""):
                    h.update(block)
        except OSError as e:
            fail("%s: %s" % (path, e.strerror))
        if base64.urlsafe_b64encode(h.digest()).rstrip(b"=").decode() != want:
            fail("%s is not what its wheel says it is" % path)


def unpack(root, wheels):
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as z:
                z.extractall(root)
                (record,) = [n for n in z.namelist() if n.endswith(".dist-info/RECORD")]
                check(root, z.read(record).decode())
        except (zipfile.BadZipFile, ValueError) as e:
            fail("%s: %s" % (wheel, e))


def verify(root):
    records = glob.glob(os.path.join(root, "*.dist-info", "RECORD"))
    for name in ("torch", "nvidia_cuda_cupti", "nvidia_cuda_runtime"):
        if not any(os.path.basename(os.path.dirname(r)).startswith(name + "-") for r in records):
            fail("%s holds no %s" % (root, name))
    for record in records:
        with open(record) as f:
            check(root, f.read())


def metadata(root, name):
    (path,) = glob.glob(os.path.join(root, "torch-*.dist-info", name))
    with open(path) as f:
        return f.read().partition("\n\n")[0]


def requires(root, kind):
    for line in re.findall(r"^Requires-Dist: (.*)$", metadata(root, "METADATA"), re.M):
        requirement, _, marker = line.partition(";")
        if "extra" in marker:
            continue
        gpu = re.match(r"cuda|nvidia|triton", requirement)
        libraries = re.match(r"cuda-toolkit|nvidia-", requirement)
        if libraries if kind == "cuda" else not gpu:
            print(requirement.strip())


def main(command, root, *rest):
    if command == "unpack":
        unpack(root, rest)
    elif command == "verify":
        verify(root)
    elif command == "requires":
        requires(root, rest[0])
    elif command == "tag":
        print(re.search(r"^Tag: (cp\d+)-", metadata(root, "WHEEL"), re.M).group(1))
    else:
        fail("wheels.py knows no " + command)


main(*sys.argv[1:])
