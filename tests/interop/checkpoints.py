"""Fresh random checkpoints with the real names of Qwen3-VL and Qwen3, a few hundred kilobytes each."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

import tensors
import values

TORCH_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32", torch.float8_e4m3fn: "F8_E4M3",
               torch.int8: "I8", torch.uint8: "U8", torch.int32: "I32", torch.int64: "I64"}
CONFIG_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


@dataclass(frozen=True)
class Sizes:
    """The dimensions of the language model."""

    hidden: int = 128
    intermediate: int = 384
    heads: int = 4
    key_value_heads: int = 4
    head_dim: int = 32
    layers: int = 4
    vocabulary: int = 320


# Every dimension of a linear layer is a multiple of 128.
EVEN = Sizes()
# k_proj and v_proj have 64 rows: half a block.
HALF_BLOCK = Sizes(key_value_heads=2)
# Nothing but 16 divides the dimensions.
ODD = Sizes(hidden=80, intermediate=208, heads=5, key_value_heads=1, head_dim=16)

SIDE_FILES = {
    "generation_config.json": '{"do_sample":  true,\n\t"temperature": 7e-1}',
    "chat_template.jinja": "{% for message in messages %}{{ message.content }}\u00e9\r\n{% endfor %}",
    "preprocessor_config.json": '{"patch_size": 4, "image_mean": [0.5, 5e-1, 0.50]}\n',
}


def qwen3_vl(directory: Path, dtype: str, seed: int, sizes: Sizes, *, hostile: bool,
             avoid: tuple[str, ...] = ()) -> None:
    """A Qwen3-VL with a vision tower, an output head of its own, three shards and an index."""
    rng = torch.Generator().manual_seed(seed)
    weights = {"lm_head.weight": _plain(rng, sizes.vocabulary, sizes.hidden)}
    weights |= _language("model.language_model.", sizes, rng)
    weights |= _vision(sizes, rng)
    config = {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "image_token_id": 300,
        "model_type": "qwen3_vl",
        "text_config": _text_config("qwen3_vl_text", dtype, sizes)
        | {"rope_scaling": {"mrope_interleaved": True, "mrope_section": _sections(sizes), "rope_type": "default"}},
        "tie_word_embeddings": False,
        "transformers_version": "4.57.0.dev0",
        "video_token_id": 301,
        "vision_config": {
            "deepstack_visual_indexes": [0, 1], "depth": 2, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 64,
            "in_channels": 3, "initializer_range": 0.02, "intermediate_size": 136, "model_type": "qwen3_vl_vision",
            "num_heads": 4, "num_position_embeddings": 64, "out_hidden_size": sizes.hidden, "patch_size": 4,
            "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
        "vision_end_token_id": 303,
        "vision_start_token_id": 302,
    }
    _write(directory, weights, config, dtype, rng, shards=3, hostile=hostile, avoid=avoid)


def qwen3(directory: Path, dtype: str, seed: int, sizes: Sizes, *, hostile: bool,
          avoid: tuple[str, ...] = ()) -> None:
    """A text-only Qwen3 with tied embeddings, in one file without an index."""
    rng = torch.Generator().manual_seed(seed)
    config = {"architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": True} | _text_config("qwen3", dtype, sizes)
    _write(directory, _language("model.", sizes, rng), config, dtype, rng, shards=1, hostile=hostile, avoid=avoid)


def is_language_linear(name: str) -> bool:
    """Whether the tensor is the weight of a linear layer of the language model's stack."""
    return "layers." in name and "visual" not in name and name.endswith("_proj.weight")


def stored(tensor: torch.Tensor) -> tensors.Tensor:
    """The tensor as it stands in a file."""
    # A tensor with one element may count as contiguous under any strides; a clone has those of its shape.
    flat = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)
    data = flat.view(torch.uint8).numpy().tobytes()
    return tensors.Tensor(TORCH_NAMES[tensor.dtype], tuple(tensor.shape), data)


def loaded(tensor: tensors.Tensor) -> torch.Tensor:
    """The tensor of a file, as torch knows it."""
    dtype = {name: dtype for dtype, name in TORCH_NAMES.items()}[tensor.dtype]
    return torch.frombuffer(bytearray(tensor.data), dtype=dtype).reshape(tensor.shape)


def _language(prefix: str, sizes: Sizes, rng: torch.Generator) -> dict[str, torch.Tensor]:
    weights = {f"{prefix}embed_tokens.weight": _plain(rng, sizes.vocabulary, sizes.hidden),
               f"{prefix}norm.weight": _norm(rng, sizes.hidden)}
    queries, keys = sizes.heads * sizes.head_dim, sizes.key_value_heads * sizes.head_dim
    for layer in range(sizes.layers):
        here = f"{prefix}layers.{layer}."
        for norm, length in {"input_layernorm": sizes.hidden, "post_attention_layernorm": sizes.hidden,
                             "self_attn.q_norm": sizes.head_dim, "self_attn.k_norm": sizes.head_dim}.items():
            weights[f"{here}{norm}.weight"] = _norm(rng, length)
        for linear, rows, columns in [
            ("self_attn.q_proj", queries, sizes.hidden), ("self_attn.k_proj", keys, sizes.hidden),
            ("self_attn.v_proj", keys, sizes.hidden), ("self_attn.o_proj", sizes.hidden, queries),
            ("mlp.gate_proj", sizes.intermediate, sizes.hidden), ("mlp.up_proj", sizes.intermediate, sizes.hidden),
            ("mlp.down_proj", sizes.hidden, sizes.intermediate),
        ]:
            weights[f"{here}{linear}.weight"] = _plain(rng, rows, columns)
    return weights


def _vision(sizes: Sizes, rng: torch.Generator) -> dict[str, torch.Tensor]:
    weights = {"model.visual.patch_embed.proj.weight": _plain(rng, 64, 3, 2, 4, 4),
               "model.visual.patch_embed.proj.bias": _plain(rng, 64),
               "model.visual.pos_embed.weight": _plain(rng, 64, 64)}

    def linear(name: str, rows: int, columns: int) -> None:
        weights[f"model.visual.{name}.weight"] = _plain(rng, rows, columns)
        weights[f"model.visual.{name}.bias"] = _plain(rng, rows)

    def norm(name: str, length: int) -> None:
        weights[f"model.visual.{name}.weight"] = _norm(rng, length)
        weights[f"model.visual.{name}.bias"] = _plain(rng, length)

    for block in range(2):
        norm(f"blocks.{block}.norm1", 64)
        norm(f"blocks.{block}.norm2", 64)
        linear(f"blocks.{block}.attn.qkv", 192, 64)
        linear(f"blocks.{block}.attn.proj", 64, 64)
        linear(f"blocks.{block}.mlp.linear_fc1", 136, 64)
        linear(f"blocks.{block}.mlp.linear_fc2", 64, 136)
    norm("merger.norm", 64)
    norm("deepstack_merger_list.0.norm", 256)
    norm("deepstack_merger_list.1.norm", 256)
    for merger in ["merger", "deepstack_merger_list.0", "deepstack_merger_list.1"]:
        linear(f"{merger}.linear_fc1", 256, 256)
        linear(f"{merger}.linear_fc2", sizes.hidden, 256)
    return weights


def _text_config(model_type: str, dtype: str, sizes: Sizes) -> dict:
    return {
        "attention_bias": False, "attention_dropout": 0.0, "head_dim": sizes.head_dim, "hidden_act": "silu",
        "hidden_size": sizes.hidden, "initializer_range": 0.02, "intermediate_size": sizes.intermediate,
        "max_position_embeddings": 256, "model_type": model_type, "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers, "num_key_value_heads": sizes.key_value_heads, "rms_norm_eps": 1e-06,
        "use_cache": True, "vocab_size": sizes.vocabulary, "dtype": CONFIG_NAMES[dtype], "rope_theta": 5000000,
    }


def _sections(sizes: Sizes) -> list[int]:
    third = sizes.head_dim // 2 // 3
    return [sizes.head_dim // 2 - 2 * third, third, third]


def _plain(rng: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=rng) * 0.02


def _norm(rng: torch.Generator, length: int) -> torch.Tensor:
    return 1 + torch.randn(length, generator=rng) * 0.1


def _write(directory, weights, config, dtype, rng, *, shards: int, hostile: bool, avoid: tuple[str, ...]) -> None:
    directory.mkdir(parents=True)
    torch_dtype = values.DTYPES[dtype]
    weights = {name: weight.to(torch_dtype) for name, weight in weights.items()}
    if hostile:
        # Another order for each seed, so that every kind meets every shape sooner or later.
        kinds = [kind for kind in values.KINDS if kind not in avoid]
        kinds = [kinds[at] for at in torch.randperm(len(kinds), generator=rng)]
        for place, name in enumerate(name for name in weights if is_language_linear(name)):
            weights[name] = values.fill(kinds[place % len(kinds)], *weights[name].shape, torch_dtype, rng)
    names = [list(weights)[at] for at in torch.randperm(len(weights), generator=rng)]
    shard_of = {}
    for shard in range(shards):
        file = "model.safetensors" if shards == 1 else f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        tensors.write_file(directory / file, {name: stored(weights[name]) for name in part}, {"format": "pt"})
        shard_of |= dict.fromkeys(part, file)
    if shards > 1:
        total = sum(weight.nbytes for weight in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(shard_of.items()))}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name, text in SIDE_FILES.items():
        (directory / name).write_bytes(text.encode())
