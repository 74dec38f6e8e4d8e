#!/usr/bin/env bash
# Version:   safetensors 0.8.0 with torch 2.14.0 (PyPI), the functions of `safetensors.torch` and `safe_open`.
# Input:     PyTorch's tensors of two E2M1 numbers in a byte and of E8M0 (an MXFP4 weight and its scales), as `save_file` and
#            `save` write them: F4 and F8_E8M0 of the format's list. A matrix of 2 x 8 bytes has the shape [2, 16] in the header.
# Behaviour: `load_file` and `get_tensor` read both. A part of the F4 tensor cannot be read: `get_slice`, by which a server takes
#            its share of the rows, says [2, 16] and then raises a RuntimeError for every slice, the whole tensor included, since
#            it reshapes the bytes to as many elements. `load`, which reads the same file from bytes, knows neither of the
#            types and raises a KeyError. Of F8_E8M0 slices work.
# Seen:      2026-11-29
seen="F4 (2, 8) in the header [2, 16]: load_file (2, 8), get_slice [2, 16], [:] RuntimeError, [0:1] RuntimeError, load KeyError; "
seen+="F8_E8M0 (2, 8) in the header [2, 8]: load_file (2, 8), get_slice [2, 8], [:] (2, 8), [0:1] (1, 8), load KeyError"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 torch==2.14.0 numpy==2.3.5

found=$("$python" - "$scratch" <<'PYTHON'
import json
import sys
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save, save_file

def shape_or_error(read):
    try:
        return str(tuple(read().shape))
    except (KeyError, RuntimeError) as error:
        return type(error).__name__

def shown(kind):
    tensor = torch.full((2, 8), 127, dtype=torch.uint8).view(kind)
    path = f"{sys.argv[1]}/weight.safetensors"
    save_file({"weight": tensor}, path)
    raw = save({"weight": tensor})
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["weight"]
    with safe_open(path, "pt") as file:
        part = file.get_slice("weight")
        slices = f"get_slice {part.get_shape()}, [:] {shape_or_error(lambda: part[:])}, [0:1] {shape_or_error(lambda: part[0:1])}"
    whole = shape_or_error(lambda: load_file(path)["weight"])
    return (
        f"{header['dtype']} {tuple(tensor.shape)} in the header {header['shape']}: load_file {whole}, {slices}, "
        f"load {shape_or_error(lambda: load(raw)['weight'])}"
    )

print("; ".join(shown(kind) for kind in (torch.float4_e2m1fn_x2, torch.float8_e8m0fnu)))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "safetensors no longer reads F4 and F8_E8M0 as this script says" >&2
    exit 1
fi
