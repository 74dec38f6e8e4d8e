#!/usr/bin/env bash
# Version:   safetensors 0.8.0 with numpy 2.2.6 (PyPI), the Python binding of the crate.
# Input:     one tensor of two bytes, and a `__metadata__` of eight entries. The format's description allows any map from
#            text to text there.
# Behaviour: two processes that save the same tensor with the same metadata write different bytes, since the entries go
#            through a hash map with a random seed. A checksum of a whole file therefore says nothing about whether two
#            runs of a Python tool agree. qwen-fp8 writes headers of its own, in a fixed order.
# Seen:      2026-11-28
seen="20 files with the same content: more than one sequence of bytes; the same names, shapes, data and metadata in all"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.2.6

cat >"$scratch/save.py" <<'PYTHON'
import sys
import numpy
from safetensors.numpy import save_file

metadata = {f"key_{number}": "value" for number in range(8)}
save_file({"weight": numpy.array([1, 2], dtype=numpy.uint8)}, sys.argv[1], metadata)
PYTHON
for number in {1..20}; do
    "$python" "$scratch/save.py" "$scratch/$number.safetensors"
done

found=$("$python" - "$scratch" <<'PYTHON'
import json, pathlib, sys

files = [path.read_bytes() for path in pathlib.Path(sys.argv[1]).glob("*.safetensors")]
def content(raw):
    end = 8 + int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:end]), raw[end:]
bytes_differ = "more than one sequence of bytes" if len(set(files)) > 1 else "one sequence of bytes"
same = all(content(raw) == content(files[0]) for raw in files)
what = "the same names, shapes, data and metadata in all" if same else "names, shapes, data or metadata differ"
print(f"{len(files)} files with the same content: {bytes_differ}; {what}")
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
[ "$found" = "$seen" ]
