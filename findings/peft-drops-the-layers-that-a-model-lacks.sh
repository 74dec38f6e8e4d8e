#!/usr/bin/env bash
# Version:   peft 0.21.2 with transformers 5.24.0, torch 2.15.0 and numpy 2.3.5 (PyPI), on the CPU.
# Input:     a LoRA adapter on the `q_proj` of a tiny LLaMA of four layers, saved by `save_pretrained`; loaded onto one of two layers,
#            as pruning leaves them, and onto one of six; once by `PeftModel.from_pretrained` and once by the `load_adapter` of a
#            transformers model, which takes the same folder.
# Behaviour: for the layers that the adapter lacks peft warns, and for those that the model lacks it says nothing: half of the adapter is
#            dropped, and what is merged is the other half. `load_adapter` of transformers reports both. So the silence of
#            `from_pretrained` does not say that an adapter fits, and a wrong base model (the smaller of two sizes that share a
#            width) is merged like the right one.
# Seen:      2026-12-01
seen="adapter of 4 layers on 2: merged 2, peft warns of 0 tensors, transformers reports 4; "
seen+="on 4: merged 4, peft warns of 0 tensors, transformers reports 0; "
seen+="on 6: merged 4, peft warns of 4 tensors, transformers reports 4"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile peft==0.21.2 transformers==5.24.0 torch==2.15.0 numpy==2.3.5

found=$(cd "$scratch" && "$python" - 2>"$scratch/log" <<'PYTHON'
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

def model_of(layers):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    return AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=64, num_hidden_layers=layers, **sizes))

made = get_peft_model(model_of(4), LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
for name, values in made.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(values)
made.save_pretrained("adapter")

parts = []
for layers in (2, 4, 6):
    before = model_of(layers).state_dict()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        merged = PeftModel.from_pretrained(model_of(layers), "adapter").merge_and_unload().state_dict()
    changed = sum(not torch.equal(values, before[name]) for name, values in merged.items())
    named = sum(str(warning.message).count("lora_") for warning in caught)
    report = model_of(layers).load_adapter("adapter")
    reported = len(report.unexpected_keys) + len(report.missing_keys)
    title = f"adapter of 4 layers on {layers}" if not parts else f"on {layers}"
    parts.append(f"{title}: merged {changed}, peft warns of {named} tensors, transformers reports {reported}")
print("; ".join(parts))
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "peft no longer warns of what an adapter and a model do not share as this script says" >&2
    exit 1
fi
