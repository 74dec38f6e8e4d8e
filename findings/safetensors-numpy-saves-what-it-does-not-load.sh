#!/usr/bin/env bash
# Version:   safetensors 0.8.0 and ml_dtypes 0.6.0 with numpy 2.2.6 (PyPI), the functions of `safetensors.numpy`.
# Input:     arrays of ml_dtypes' bfloat16, float8_e4m3fn and float8_e8m0fnu, which `save` and `save_file` take and write as
#            BF16, F8_E4M3 and F8_E8M0 of the format's list.
# Behaviour: the same module does not read its own files. `load`, from bytes, has none of the three types and raises a
#            KeyError; `load_file`, from a path, reads BF16, and looks for the two others in numpy, which has no such name.
#            Whether BF16 can be read depends on whether the file was read into memory first. A round trip in a test works
#            with `save_file` and BF16 alone, and a script that writes FP8 scales sees no mistake until somebody reads them.
# Seen:      2026-11-28
seen="BF16: load KeyError 'BF16', load_file bfloat16; "
seen+="F8_E4M3: load KeyError 'F8_E4M3', load_file AttributeError module 'numpy' has no attribute 'float8_e4m3fn'; "
seen+="F8_E8M0: load KeyError 'F8_E8M0', load_file AttributeError module 'numpy' has no attribute 'float8_e8m0fnu'"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 ml-dtypes==0.6.0 numpy==2.2.6

found=$("$python" - "$scratch" <<'PYTHON'
import json
import sys
import ml_dtypes
import numpy
from safetensors.numpy import load, load_file, save, save_file

def read_by(read, given):
    try:
        return str(read(given)["weight"].dtype)
    except (AttributeError, KeyError) as error:
        return f"{type(error).__name__} {error}"

def shown(kind):
    tensors = {"weight": numpy.ones(4, kind)}
    path = f"{sys.argv[1]}/weight.safetensors"
    save_file(tensors, path)
    raw = save(tensors)
    name = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["weight"]["dtype"]
    return f"{name}: load {read_by(load, raw)}, load_file {read_by(load_file, path)}"

print("; ".join(shown(kind) for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e8m0fnu)))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "safetensors.numpy no longer writes types that it does not read as this script says" >&2
    exit 1
fi
