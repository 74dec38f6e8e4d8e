#!/usr/bin/env bash
# Version:   transformers 5.24.0 with compressed-tensors 0.20.0 and torch 2.14.0 (PyPI), on the CPU.
# Input:     a tiny LLaVA-NeXT that transformers saved itself, with a compressed-tensors config for FP8 whose `ignore` names every
#            linear layer of the file, so that nothing is quantized; and the same with the names that the layers have in the
#            model, which the file does not hold (`language_model.model.…` against `model.language_model.…`).
# Behaviour: with the file's names no entry is found. Every layer is made an FP8 layer, its scale is not in the file, and the load goes
#            on. With the model's names, none is. The loader for `quant_method: fp8` does rename its list
#            (`modules_to_not_convert`), so that one spelling works there and another here.
# Seen:      2026-11-29
seen="22 linear layers; ignored as in the file: 22 without their scale; as in the model: 0"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0 compressed-tensors==0.20.0 torch==2.14.0 \
    numpy==2.3.5 accelerate==1.12.0

found=$(cd "$scratch" && "$python" - 2>"$scratch/log" <<'PYTHON'
import json
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, CLIPVisionConfig, LlamaConfig, LlavaNextConfig

sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
text = LlamaConfig(vocab_size=64, num_hidden_layers=1, num_key_value_heads=2, **sizes)
vision = CLIPVisionConfig(num_hidden_layers=2, image_size=28, patch_size=14, projection_dim=64, **sizes)
config = LlavaNextConfig(text_config=text, vision_config=vision, image_token_index=63)
model = AutoModelForImageTextToText.from_config(config).to(torch.bfloat16)
model.save_pretrained("model")

linear = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
with safe_open("model/model.safetensors", "pt") as file:
    stored = {name.removesuffix(".weight"): file.get_tensor(name) for name in file.keys() if name.endswith(".weight")}
# A layer is found in the file by its values, whatever it is called there.
in_file = [
    name
    for module in linear.values()
    for name, values in stored.items()
    if values.shape == module.weight.shape and torch.equal(values, module.weight)
]
plain = json.loads(Path("model/config.json").read_text())
weights = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False, "strategy": "channel"}


def without_scale(ignore):
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}},
        "ignore": ignore,
    }
    Path("model/config.json").write_text(json.dumps(plain | {"quantization_config": quantization}))
    _, said = AutoModelForImageTextToText.from_pretrained("model", dtype=torch.bfloat16, output_loading_info=True)
    return sum(name.endswith(".weight_scale") for name in said["missing_keys"])


assert len(in_file) == len(linear)
print(
    f"{len(linear)} linear layers; ignored as in the file: {without_scale(in_file)} without their scale; "
    f"as in the model: {without_scale(list(linear))}"
)
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "transformers no longer looks up the list by the names inside of the model alone" >&2
    exit 1
fi
