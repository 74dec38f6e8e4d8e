#!/usr/bin/env bash
# Version:   transformers 5.24.0 with torch 2.14.0 (PyPI), on the CPU.
# Input:     one block of MXFP4 as gpt-oss stores it, with all 16 codes, under the scale byte 255, which the OCP standard for
#            microscaling formats defines as NaN; torch has a dtype of its own for such scales.
# Behaviour: transformers decodes the block as if the byte were the power 2^128: zero stays zero, a half becomes the finite 2^127,
#            all else an infinity. No value is NaN, so that a check for NaN finds nothing. torch's dtype says NaN, and all 16
#            products with it are NaN.
# Seen:      2026-11-28
seen="transformers: 0 NaN, 12 infinite, 4 finite (largest 2^127); torch's float8_e8m0fnu: 16 NaN, 0 infinite, 0 finite"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.14.0 numpy==2.3.5

found=$("$python" - 2>"$scratch/log" <<'PYTHON'
import math

import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
codes = list(range(16)) * 2
pairs = [low | high << 4 for low, high in zip(codes[::2], codes[1::2])]
blocks = torch.tensor(pairs, dtype=torch.uint8).reshape(1, 1, 1, 16)  # expert, row, block, bytes
scales = torch.full((1, 1, 1), 255, dtype=torch.uint8)


def counted(values):
    finite = [value for value in values if math.isfinite(value)]
    largest = f" (largest 2^{round(math.log2(max(finite)))})" if finite else ""
    nan, infinite = sum(map(math.isnan, values)), sum(map(math.isinf, values))
    return f"{nan} NaN, {infinite} infinite, {len(finite)} finite{largest}"


decoded = convert_moe_packed_tensors(blocks, scales).flatten()[:16].tolist()
scale = scales.flatten().view(torch.float8_e8m0fnu).float()
product = (torch.tensor(E2M1 + [-value for value in E2M1]) * scale).tolist()
print(f"transformers: {counted(decoded)}; torch's float8_e8m0fnu: {counted(product)}")
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "transformers no longer reads the scale byte of NaN as a power of two" >&2
    exit 1
fi
