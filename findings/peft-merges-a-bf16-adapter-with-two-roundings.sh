#!/usr/bin/env bash
# Version:   peft 0.21.2 with transformers 5.24.0, torch 2.14.0 and numpy 2.3.5 (PyPI), on the CPU.
# Input:     a linear layer of 128 x 128 in BF16 and a LoRA adapter of rank 8 in BF16, saved by `save_pretrained`, loaded by
#            `PeftModel.from_pretrained` and merged by `merge_and_unload`: once as it is, and once with
#            `autocast_adapter_dtype=False`, an option that is described by what it does for training.
# Behaviour: as it is, the adapter becomes F32 and each merged weight is the BF16 number nearest to W + scaling * (B @ A). With the
#            option the product is computed in F32 too, but rounded to BF16, the adapter's dtype, before it is added, and the sum is
#            rounded once more: one merged weight in ten is not the nearest. Both are one call on the same
#            files, nothing is printed, and whoever merges a BF16 adapter elsewhere has to know which of the two is meant.
# Seen:      2026-11-29
seen="loaded as it is: adapter F32, merged BF16, 0 % of the weights are not the nearest; "
seen+="autocast_adapter_dtype=False: adapter BF16, merged BF16, 10 % are not, 100 % of these as after two roundings"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check peft==0.21.2 transformers==5.24.0 torch==2.14.0 numpy==2.3.5

found=$("$python" - "$scratch/adapter" 2>"$scratch/log" <<'PYTHON'
import sys

import numpy
import torch
from peft import LoraConfig, PeftModel, get_peft_model

SIDE, RANK, ALPHA = 128, 8, 16
drawn = numpy.random.default_rng(0)

def drawn_as(dtype, *shape):
    return torch.from_numpy(drawn.normal(size=shape).astype(numpy.float32) * numpy.float32(0.02)).to(dtype)

weight = drawn_as(torch.bfloat16, SIDE, SIDE)
a, b = drawn_as(torch.bfloat16, RANK, SIDE), drawn_as(torch.bfloat16, SIDE, RANK)

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Linear(SIDE, SIDE, bias=False, dtype=torch.bfloat16)
        self.proj.weight.data = weight.clone()

    def forward(self, x):
        return self.proj(x)

config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["proj"])
made = get_peft_model(Model(), config, autocast_adapter_dtype=False)
made.base_model.model.proj.lora_A.default.weight.data = a
made.base_model.model.proj.lora_B.default.weight.data = b
made.save_pretrained(sys.argv[1])

delta = b.double() @ a.double() * (ALPHA / RANK)
nearest = (weight.double() + delta).float().bfloat16()
rounded_twice = (weight.float() + delta.bfloat16().float()).bfloat16()
name = {torch.float32: "F32", torch.bfloat16: "BF16"}

parts = []
for title, options in (("loaded as it is", {}), ("autocast_adapter_dtype=False", {"autocast_adapter_dtype": False})):
    model = PeftModel.from_pretrained(Model(), sys.argv[1], **options)
    adapter = model.base_model.model.proj.lora_A.default.weight.dtype
    merged = model.merge_and_unload().proj.weight.data
    differ = merged != nearest
    share = f"{100 * float(differ.double().mean()):.0f} %"
    parts.append((f"{title}: adapter {name[adapter]}, merged {name[merged.dtype]}, {share}", merged[differ] == rounded_twice[differ]))
(first, _), (second, as_twice) = parts
explained = 100 * float(as_twice.double().mean())
print(f"{first} of the weights are not the nearest; {second} are not, {explained:.0f} % of these as after two roundings")
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "peft no longer merges a BF16 adapter as this script says" >&2
    exit 1
fi
