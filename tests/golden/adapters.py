#!/usr/bin/env python3
"""Adapters and what PEFT makes of a model with them: `PeftModel.from_pretrained` and `merge_and_unload`, as they are, on a CPU.

    adapters.py           writes adapters/
    adapters.py --check   compares it with what the installed PEFT does

Made with peft 0.21.2, transformers 5.24.0 and torch 2.14.0. `merged.safetensors` of a case has the tensors that the merge
changed; all others are the base's. A case with several adapters merges one after the other.
"""
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent / "adapters"
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

# Name, dtype of the base, dtype of each saved adapter, and the options of each adapter.
CASES = [
    ("plain", "bf16", ["bf16"], [dict(r=3, lora_alpha=8, target_modules=ALL)]),
    ("wide", "bf16", ["f32"], [dict(r=4, lora_alpha=7, target_modules=["q_proj", "down_proj"])]),
    ("half", "f16", ["f16"], [dict(r=4, lora_alpha=16, target_modules=["v_proj", "up_proj"])]),
    ("single", "f32", ["bf16"], [dict(r=3, lora_alpha=5, target_modules=["k_proj", "gate_proj"])]),
    ("rslora", "bf16", ["bf16"], [dict(r=6, lora_alpha=5, use_rslora=True, target_modules=["q_proj"])]),
    ("patterns", "bf16", ["f32"], [dict(
        r=4, lora_alpha=8, target_modules=["q_proj", "o_proj", "up_proj"],
        rank_pattern={"o_proj": 2, r"layers\.1\.mlp\.up_proj": 5},
        alpha_pattern={r".*\.self_attn\.q_proj": 3, "1.self_attn.o_proj": 11})]),
    ("dora", "bf16", ["f32"], [dict(r=4, lora_alpha=8, use_dora=True, target_modules=["o_proj", "down_proj"])]),
    ("dora_single", "f32", ["bf16"], [dict(r=4, lora_alpha=8, use_dora=True, target_modules=["gate_proj", "k_proj"])]),
    ("saved", "bf16", ["f32"], [dict(r=2, lora_alpha=4, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"])]),
    ("biases", "bf16", ["f32"], [dict(r=2, lora_alpha=3, lora_bias=True, target_modules=["q_proj", "o_proj"])]),
    ("bias_only", "bf16", ["f32"], [dict(r=2, lora_alpha=3, bias="lora_only", target_modules=["v_proj"])]),
    ("embedding", "bf16", ["f32"], [dict(r=3, lora_alpha=5, target_modules=["embed_tokens", "lm_head"])]),
    ("two", "bf16", ["bf16", "f32"], [
        dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
        dict(r=2, lora_alpha=6, use_dora=True, target_modules=["q_proj", "up_proj"], modules_to_save=["norm"])]),
]


def model(dtype):
    """A model of one layer, or of two in BF16."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=32, hidden_size=24, intermediate_size=44, num_hidden_layers=2 if dtype == torch.bfloat16 else 1,
        num_attention_heads=3, num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
        attention_bias=True, tie_word_embeddings=False)
    made = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.05 + (1.0 if parameter.dim() == 1 else 0.0))
    return made.to(dtype)


def adapter(base, options, dtype, directory, seed):
    """Writes an adapter with drawn numbers, as PEFT saves it."""
    made = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **options))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.requires_grad:
                around = parameter if "magnitude" in name or "modules_to_save" in name else torch.zeros_like(parameter)
                parameter.copy_(around + torch.randn_like(parameter, dtype=torch.float32) * 0.2)
    made.save_pretrained(directory)
    (directory / "README.md").unlink(missing_ok=True)
    file = directory / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype).contiguous() for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})


def make(out):
    for name, dtype in DTYPES.items():
        model(dtype).save_pretrained(out / f"base_{name}")
        (out / f"base_{name}" / "generation_config.json").unlink(missing_ok=True)
    for case, base, dtypes, options in CASES:
        directory = out / case
        adapters = []
        for number, (dtype, option) in enumerate(zip(dtypes, options)):
            adapters.append(directory / ("adapter" if len(options) == 1 else f"adapter_{number}"))
            adapter(model(DTYPES[base]), option, DTYPES[dtype], adapters[-1], 100 * number + len(case))
        merged = LlamaForCausalLM.from_pretrained(out / f"base_{base}", dtype=DTYPES[base])
        before = {name: tensor.clone() for name, tensor in merged.state_dict().items()}
        for path in adapters:
            merged = PeftModel.from_pretrained(merged, path).merge_and_unload()
        after = merged.state_dict()
        assert before.keys() == after.keys(), case
        changed = {name: tensor.contiguous() for name, tensor in after.items()
                   if tensor.dtype != before[name].dtype or not torch.equal(tensor, before[name])}
        print(case, len(changed), sorted({str(tensor.dtype) for tensor in changed.values()}))
        save_file(changed, directory / "merged.safetensors")


def main():
    check = sys.argv[1:] == ["--check"]
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "adapters"
        made.mkdir()
        make(made)
        if not check:
            shutil.rmtree(HERE, ignore_errors=True)
            shutil.copytree(made, HERE)
            return
        differ = []
        for file in sorted(path for path in HERE.rglob("*.safetensors")):
            here, there = load_file(file), load_file(made / file.relative_to(HERE))
            same = here.keys() == there.keys() and all(
                here[name].dtype == there[name].dtype and torch.equal(here[name], there[name]) for name in here)
            if not same:
                differ.append(str(file.relative_to(HERE)))
    if differ:
        sys.exit(f"PEFT makes something else of: {', '.join(differ)}")
    print("all as PEFT makes them")


if __name__ == "__main__":
    main()
