#!/usr/bin/env bash
# Version:   bitsandbytes 0.50.2 with torch 2.15.0 and numpy 2.3.5 (PyPI), on the CPU; and ml_dtypes 0.6.0.
# Input:     one block of 64 F32 weights, each a number of E2M1 (0, 0.5, 1, 1.5, 2, 3, 4 and 6), the FP4 of the OCP specification of
#            microscaling formats and of NVFP4, through `quantize_4bit` with quant_type "fp4" and back.
# Behaviour: the "fp4" of bitsandbytes has the numbers of E2M1 but for one: beside 6, its smallest is 0.03125 where E2M1's is 0.5. So
#            every number of an E2M1 block comes back but 0.5, which becomes a sixteenth of itself, and 0.25 and 0.02 become the
#            same. The codes are in another order too: 6 is 3, where E2M1 has 7. NVFP4 or MXFP4 weights cannot be moved to it without
#            loss, nor its codes be read by a table of E2M1, for all that both are called FP4.
# Seen:      2026-12-01
seen="0 0.5 1 1.5 2 3 4 6: come back as 0 0.03125 1 1.5 2 3 4 6; codes 0 1 6 7 4 5 2 3, E2M1's 0 1 2 3 4 5 6 7; "
seen+="0.02 0.25 0.5: 0.03125 0.03125 0.03125, E2M1 0 0 0.5"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile bitsandbytes==0.50.2 torch==2.15.0 ml-dtypes==0.6.0 \
    numpy==2.3.5

found=$("$python" -W ignore - 2>"$scratch/log" <<'PYTHON'
import ml_dtypes
import numpy
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

def listed(numbers):
    return " ".join(f"{float(number):g}" for number in numbers)

def through(numbers):
    """What a block makes of these numbers when its largest is 6: the decoded ones, and their codes."""
    block = torch.zeros(64)
    block[: len(numbers)] = torch.tensor(numbers)
    block[-1] = 6
    packed, state = quantize_4bit(block, blocksize=64, quant_type="fp4")
    codes = [half for byte in packed.flatten().tolist() for half in (byte >> 4, byte & 15)]
    return dequantize_4bit(packed, state).flatten()[: len(numbers)], codes[: len(numbers)]

def e2m1(numbers):
    return numpy.array(numbers, numpy.float32).astype(ml_dtypes.float4_e2m1fn)

numbers, small = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], [0.02, 0.25, 0.5]
decoded, codes = through(numbers)
print(
    f"{listed(numbers)}: come back as {listed(decoded)}; codes {listed(codes)}, E2M1's {listed(e2m1(numbers).view(numpy.uint8))}; "
    f"{listed(small)}: {listed(through(small)[0])}, E2M1 {listed(e2m1(small).astype(float))}"
)
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "bitsandbytes no longer has the FP4 that this script says" >&2
    exit 1
fi
