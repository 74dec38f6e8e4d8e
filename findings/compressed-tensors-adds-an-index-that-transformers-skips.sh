#!/usr/bin/env bash
# Version:   compressed-tensors 0.19.0 writes, transformers 5.17.0 reads, with torch 2.14.0 (PyPI), on the CPU.
# Input:     a model in one file, `model.safetensors`, and `save_mtp_tensors_to_checkpoint`, which carries the layers of its draft
#            model (MTP) over from the source: into `model_mtp.safetensors`, with an index that names both files.
# Behaviour: transformers takes `model.safetensors` where there is one, and does not open the index beside it, so that the second file
#            is never read: no key is missing, none is unexpected. The same folder with the first file under another name, and the
#            index changed to it, has the draft model's tensor among the unexpected keys, as it should. Servers that go by the index see it either way.
#            (compressed-tensors 0.20.0 renames the first file to `model_backbone.safetensors`.)
# Seen:      2026-11-29
seen="model.safetensors, model.safetensors.index.json, model_mtp.safetensors: unexpected []; renamed: unexpected ['mtp.fc.weight']"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check \
    compressed-tensors==0.19.0 transformers==5.17.0 torch==2.14.0 safetensors==0.8.0 numpy==2.3.5

found=$("$python" - "$scratch" 2>"$scratch/errors" <<'PYTHON'
import os
import shutil
import sys
import torch
from compressed_tensors.utils.mtp import save_mtp_tensors_to_checkpoint
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config

source, folder = (f"{sys.argv[1]}/{name}" for name in ("source", "quantized"))
small = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=1, head_dim=16)
model = AutoModelForCausalLM.from_config(Qwen3Config(**small, num_attention_heads=2, num_key_value_heads=2))
model.save_pretrained(folder)
shutil.copytree(folder, source)
tensors = load_file(f"{source}/model.safetensors") | {"mtp.fc.weight": torch.ones(32, 64)}
save_file(tensors, f"{source}/model.safetensors", metadata={"format": "pt"})
save_mtp_tensors_to_checkpoint(source, folder)

def unexpected():
    return AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)[1]["unexpected_keys"]

files = ", ".join(sorted(name for name in os.listdir(folder) if "safetensors" in name))
first = sorted(unexpected())
index = f"{folder}/model.safetensors.index.json"
os.rename(f"{folder}/model.safetensors", f"{folder}/model_backbone.safetensors")
text = open(index).read().replace('"model.safetensors"', '"model_backbone.safetensors"')
open(index, "w").write(text)
print(f"{files}: unexpected {first}; renamed: unexpected {sorted(unexpected())}")
PYTHON
) || { cat "$scratch/errors" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "compressed-tensors and transformers no longer disagree on the files of a model as this script says" >&2
    exit 1
fi
