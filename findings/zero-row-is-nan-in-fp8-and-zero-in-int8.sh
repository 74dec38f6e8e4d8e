#!/usr/bin/env bash
# Version:   torchao 0.18.0, optimum-quanto 0.2.7, nvidia-modelopt 0.47.0, torch 2.15.0 and numpy 2.3.5 (PyPI), on the CPU.
# Input:     BF16 weights of 4 x 64, drawn, one row of which is zero, as pruning and padded vocabularies leave them; quantized
#            with a scale per row by each library's own call, to E4M3 and, where it has that, to INT8, and dequantized by its own.
# Behaviour: all three divide the row by a scale of zero and store NaN for it in E4M3, and so does the third for a weight that is zero
#            as a whole in NVFP4. The same row stays zero in INT8, and in the third's MXFP4. Nothing is printed. Each library has
#            the guard for one form and not for the other, so that a model which was tried in INT8 answers NaN in FP8.
# Seen:      2026-11-30
seen="torchao: E4M3 NaN, INT8 0; optimum-quanto: E4M3 NaN, INT8 0; "
seen+="nvidia-modelopt: E4M3 NaN, NVFP4 NaN, MXFP4 0; other rows finite: True"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check torchao==0.18.0 optimum-quanto==0.2.7 nvidia-modelopt==0.47.0 \
    requests==2.34.2 transformers==5.24.0 torch==2.15.0 numpy==2.3.5

found=$("$python" - 2>"$scratch/log" <<'PYTHON'
import torch
from modelopt.torch.quantization.qtensor import FP8QTensor, MXFP4QTensor, NVFP4QTensor
from optimum.quanto import AbsmaxOptimizer, qfloat8_e4m3fn, qint8, quantize_weight
from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

torch.manual_seed(0)
weight = torch.randn(4, 64, dtype=torch.bfloat16)
weight[1] = 0
finite = []

def named(decoded):
    """The values of the row of zeros, which are all the same."""
    finite.append(bool(decoded[[0, 2, 3]].isfinite().all()))
    row = decoded[1].float()
    return "NaN" if row.isnan().all() else "0" if (row == 0).all() else "other"

def by_torchao(config):
    layer = torch.nn.Linear(64, 4, bias=False, dtype=torch.bfloat16)
    layer.weight.data = weight.clone()
    model = torch.nn.Sequential(layer)
    quantize_(model, config)
    return model[0].weight.dequantize()

def by_quanto(dtype):
    return quantize_weight(weight, dtype, 0, AbsmaxOptimizer()(weight, dtype, 0)).dequantize()

def by_modelopt_fp8():
    codes, scale = FP8QTensor.quantize(weight.clone(), axis=0)
    return codes.dequantize(scale=scale)

def zeros_by_modelopt(form):
    zeros = torch.zeros(2, 32, dtype=torch.bfloat16)
    if form is NVFP4QTensor:
        codes, scale, double_scale = form.quantize(zeros, 16)
        decoded = codes.dequantize(scale=scale, double_scale=double_scale, block_sizes={-1: 16})
    else:
        codes, scale = form.quantize(zeros, 32)
        decoded = codes.dequantize(scale=scale, block_sizes={-1: 32})
    return "NaN" if decoded.isnan().all() else "0" if (decoded == 0).all() else "other"

print(
    f"torchao: E4M3 {named(by_torchao(Float8WeightOnlyConfig()))}, INT8 {named(by_torchao(Int8WeightOnlyConfig()))}; "
    f"optimum-quanto: E4M3 {named(by_quanto(qfloat8_e4m3fn))}, INT8 {named(by_quanto(qint8))}; "
    f"nvidia-modelopt: E4M3 {named(by_modelopt_fp8())}, NVFP4 {zeros_by_modelopt(NVFP4QTensor)}, "
    f"MXFP4 {zeros_by_modelopt(MXFP4QTensor)}; other rows finite: {all(finite)}"
)
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "a row of zeros is no longer quantized as this script says" >&2
    exit 1
fi
