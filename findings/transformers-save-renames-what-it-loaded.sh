#!/usr/bin/env bash
# Version:   transformers 5.24.0 with torch 2.14.0 (PyPI), on the CPU.
# Input:     two tiny random checkpoints: Kimi Linear, whose dense first layer is called `mlp.*`, and DeepSeek-V4, whose
#            attention has a `kv_norm`, the names that vLLM's loaders for these classes know. transformers loads both without a
#            missing and without an unexpected key.
# Behaviour: saved again unchanged, they have other names: `mlp.down_proj` is `block_sparse_moe.down_proj`, and `attn.kv_norm`
#            is `attn.norm`. The renaming from published names is a list of patterns that saving applies backwards, also to what
#            loading never renamed. transformers reads both spellings, so that its own round trip shows nothing; a tool that
#            knows published names alone, as vLLM, finds names that no such model has.
# Seen:      2026-11-28
seen="kimi_linear: missing 0, unexpected 0, values kept; lost 3 names such as layers.0.mlp.down_proj, new layers.0.block_sparse_moe.down_proj; deepseek_v4: missing 0, unexpected 0, values kept; lost 1 names such as layers.0.attn.kv_norm, new layers.0.attn.norm"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.14.0 safetensors==0.8.0 numpy==2.3.5

found=$("$python" - "$scratch" 2>"$scratch/log" <<'PYTHON'
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

common = {"vocab_size": 64, "hidden_size": 64, "moe_intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
          "tie_word_embeddings": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
models = {
    "kimi_linear": ({**common, "num_hidden_layers": 2, "intermediate_size": 64, "num_key_value_heads": 2, "kv_lora_rank": 16, "qk_rope_head_dim": 16,
                     "v_head_dim": 16, "qk_nope_head_dim": 16, "num_experts": 2, "num_experts_per_token": 1,
                     "mlp_layer_types": ["dense", "sparse"], "layer_types": ["linear_attention"] * 2, "linear_head_dim": 16,
                     "linear_num_heads": 2, "head_dim": 16, "qk_head_dim": 32},
                    "layers.0.block_sparse_moe.", "layers.0.mlp."),
    "deepseek_v4": ({**common, "num_key_value_heads": 1, "head_dim": 128, "q_lora_rank": 32, "num_experts_per_tok": 1,
                     "n_routed_experts": 2, "o_groups": 2, "o_lora_rank": 32, "index_n_heads": 2, "index_head_dim": 32,
                     "layer_types": ["heavily_compressed_attention"], "mlp_layer_types": ["moe"], "num_nextn_predict_layers": 0},
                    "layers.0.attn.norm.", "layers.0.attn.kv_norm."),
}
said = []
for kind, (config, saved, published) in models.items():
    torch.manual_seed(0)
    first, second = Path(sys.argv[1]) / f"{kind}-a", Path(sys.argv[1]) / f"{kind}-b"
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config)).save_pretrained(first)
    # The published spelling of the names.
    file = first / "model.safetensors"
    tensors = {name.replace(saved, published): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, metadata={"format": "pt"})
    model, info = AutoModelForCausalLM.from_pretrained(first, output_loading_info=True, dtype=torch.float32)
    model.save_pretrained(second)
    again = load_file(second / "model.safetensors")
    lost, new = sorted(set(tensors) - set(again)), sorted(set(again) - set(tensors))
    by_value = {tensor.numpy().tobytes() for tensor in again.values()}
    kept = all(tensor.numpy().tobytes() in by_value for tensor in tensors.values())
    short = lambda name: name.removeprefix("model.").removesuffix(".weight")
    said.append(f"{kind}: missing {len(info['missing_keys'])}, unexpected {len(info['unexpected_keys'])}, values "
                f"{'kept' if kept else 'changed'}; lost {len(lost)} names such as {short(lost[0])}, new {short(new[0])}")
print("; ".join(said))
PYTHON
) || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "transformers no longer renames on saving as this script says" >&2
    exit 1
fi
