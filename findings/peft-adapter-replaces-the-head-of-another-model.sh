#!/usr/bin/env bash
# Version:   peft 0.21.2 with transformers 5.24.0, torch 2.15.0 and numpy 2.3.5 (PyPI), on the CPU.
# Input:     LoRA adapters on `q_proj` alone and on `q_proj` with `lm_head` or `embed_tokens`, made on one tiny LLaMA and saved by
#            `save_pretrained`; loaded onto a second LLaMA of the same shape, as adapters are put on a fine-tuned
#            descendant of their base, and merged by `merge_and_unload`. They are fresh, so that merging adds zero to every weight.
# Behaviour: an adapter that targets the head or the embeddings carries the whole matrix of its own base as `….base_layer.weight` (saving
#            says so, in a warning), and loading it overwrites the second model's without one: merged, the head is the first
#            model's. Where the two are tied, embeddings and head go together. Nothing in adapter_config.json tells such an adapter, and
#            a merge that reads lora_A and lora_B alone keeps the second's head, and so makes another model of the same files.
# Seen:      2026-12-01
seen="q_proj: saves no whole matrix, merged: head of the second, embeddings of the second; "
seen+="q_proj lm_head: saves lm_head.base_layer, merged: head of the first, embeddings of the second; "
seen+="q_proj embed_tokens: saves model.embed_tokens.base_layer, merged: head of the second, embeddings of the first; "
seen+="q_proj lm_head, tied: saves lm_head.base_layer, merged: head of the first, embeddings of the first; "
seen+="warnings of the loads that name a base layer: 0"
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
from safetensors import safe_open
from transformers import AutoModelForCausalLM, LlamaConfig

def model_of(seed, tied):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    return AutoModelForCausalLM.from_config(
        LlamaConfig(vocab_size=64, num_hidden_layers=1, tie_word_embeddings=tied, **sizes)
    )

def matrices(model):
    return {"head": model.lm_head.weight.detach().clone(), "embeddings": model.model.embed_tokens.weight.detach().clone()}

parts, said = [], 0
for number, (targets, tied) in enumerate([
    (["q_proj"], False), (["q_proj", "lm_head"], False), (["q_proj", "embed_tokens"], False), (["q_proj", "lm_head"], True)
]):
    first, second = model_of(1, tied), model_of(2, tied)
    of_first, of_second = matrices(first), matrices(second)
    config = LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")
    get_peft_model(first, config).save_pretrained(f"adapter{number}")
    with safe_open(f"adapter{number}/adapter_model.safetensors", "pt") as file:
        whole = [name for name in file.keys() if "lora" not in name]
    named = " ".join(name.removeprefix("base_model.model.").removesuffix(".weight") for name in whole)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        merged = matrices(PeftModel.from_pretrained(second, f"adapter{number}").merge_and_unload())
    said += sum("base_layer" in str(warning.message) or "base layer" in str(warning.message) for warning in caught)
    owners = ", ".join(
        f"{title} of the {'first' if torch.equal(values, of_first[title]) else 'second' if torch.equal(values, of_second[title]) else '?'}"
        for title, values in merged.items()
    )
    parts.append(f"{' '.join(targets)}{', tied' if tied else ''}: saves {named or 'no whole matrix'}, merged: {owners}")
print(f"{'; '.join(parts)}; warnings of the loads that name a base layer: {said}")
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "peft no longer saves and loads the layers below an adapter as this script says" >&2
    exit 1
fi
