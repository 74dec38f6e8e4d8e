#!/usr/bin/env bash
# Version:   nvidia-modelopt 0.47.0 with transformers 5.24.0, torch 2.15.0 and numpy 2.3.5 (PyPI), on the CPU.
# Input:     weights that are ties between two numbers of E2M1 beside its largest one, 6, so that every scale is one: quantized by
#            MXFP4QTensor and NVFP4QTensor, the classes by which checkpoints are exported, and dequantized by their own calls.
# Behaviour: NVFP4 rounds ties to even (0.75 to 1, 1.75 to 2, 3.5 to 4), as its format and GPUs do; MXFP4 moves every tie toward zero
#            (0.75 to 0.5, 1.75 to 1.5, 3.5 to 3), and stores zero as -0. Weights on a coarse grid, such as BF16 ones of few
#            significant bits, have many ties: two exports of one model differ in more than their scales.
# Seen:      2026-11-30
seen="0.25 0.75 1.25 1.75 2.5 3.5 5 6: NVFP4 0 1 1 2 2 4 4 6, MXFP4 0 0.5 1 1.5 2 3 4 6; codes of zero: NVFP4 0, MXFP4 8"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check nvidia-modelopt==0.47.0 requests==2.34.2 transformers==5.24.0 torch==2.15.0 \
    numpy==2.3.5

found=$("$python" - 2>"$scratch/log" <<'PYTHON'
import torch
from modelopt.torch.quantization.qtensor import MXFP4QTensor, NVFP4QTensor

ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0]
weight = torch.tensor([(ties + [0.0] * 8) * 2], dtype=torch.bfloat16)

def shown(values):
    return " ".join(f"{value:g}" for value in values)

nvfp4, scale, double_scale = NVFP4QTensor.quantize(weight.clone(), 16)
of_nvfp4 = nvfp4.dequantize(scale=scale, double_scale=double_scale, block_sizes={-1: 16})[0, :8].tolist()
mxfp4, scale = MXFP4QTensor.quantize(weight.clone(), 32)
of_mxfp4 = mxfp4.dequantize(scale=scale, block_sizes={-1: 32})[0, :8].tolist()
assert scale.tolist() == [[127]], scale

def code_of_zero(made):
    """The lower half of the byte that holds weights 8 and 9."""
    return int(made._quantized_data.flatten().view(torch.uint8)[4]) & 15

print(
    f"{shown(ties)}: NVFP4 {shown(of_nvfp4)}, MXFP4 {shown(of_mxfp4)}; "
    f"codes of zero: NVFP4 {code_of_zero(nvfp4)}, MXFP4 {code_of_zero(mxfp4)}"
)
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "modelopt no longer rounds E2M1 as this script says" >&2
    exit 1
fi
