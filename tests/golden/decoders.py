#!/usr/bin/env python3
"""Golden vectors for decoding: stored weights of every layout, and what the tools that load them decode them to.

    decoders.py           writes decoders/*.safetensors and stacks/gpt_oss.safetensors
    decoders.py --check   compares them with what the installed tools decode to

Each file holds the tensors of one module, `m.<parameter>`, what the reference makes of them, `decoded`, and in its metadata the
`quantization_config` under which they stand. Wherever the space allows it, every code stands under every scale.
Made with compressed-tensors 0.20.0, transformers 5.24.0 and, for its own NVFP4, ModelOpt 0.47.0; compressed-tensors 0.19.0 and
transformers 5.17.0 decode to the same, but for MXFP6, which they do not know.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

HERE = Path(__file__).parent / "decoders"
E4M3 = torch.float8_e4m3fn


def bytes_of(values):
    return torch.tensor(values, dtype=torch.uint8)


def every_e4m3(rows):
    """All codes but the two NaNs, in each row."""
    codes = [code if code & 0x7F != 0x7F else 0x7E for code in range(256)]
    return bytes_of([codes] * rows).view(E4M3)


def nibbles(rows, columns):
    """Rows of E2M1 codes, all 16 of them in 16 columns, first and second in a byte."""
    pairs = [(2 * at) % 16 | ((2 * at + 1 + at // 8) % 16) << 4 for at in range(columns // 2)]
    return bytes_of([pairs] * rows)


def sixes(rows, columns):
    """Rows of E2M3 codes, all 64 of them in 64 columns, four in three bytes."""
    from compressed_tensors.compressors.mxfp6.helpers import pack_fp6_to_uint8, unpack_fp6_from_uint8

    words = [sum((4 * at + place) % 64 << 6 * place for place in range(4)) for at in range(columns // 4)]
    packed = bytes_of([[word >> shift & 0xFF for word in words for shift in (0, 8, 16)]] * rows)
    assert torch.equal(pack_fp6_to_uint8(unpack_fp6_from_uint8(packed, rows, columns)), packed)
    return packed


def transformers_fp8(weight, scales, dtype=torch.bfloat16):
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    return Fp8Dequantize(None)._dequantize_one(weight, scales, output_dtype=dtype)


def official(method="fp8", **keys):
    return {"quant_method": method, "fmt": "e4m3", "activation_scheme": "dynamic", **keys}


def group(fmt, weights, inputs=None):
    weights = {"symmetric": True, "dynamic": False, **weights}
    return {
        "quant_method": "compressed-tensors", "format": fmt, "quantization_status": "compressed", "ignore": [],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "format": fmt}},
    }


def compressed_tensors(config, tensors):
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationScheme

    group = {key: value for key, value in config["config_groups"]["group_0"].items() if key != "format"}
    compressor = BaseCompressor.get_value_from_registry(config["format"])
    state = compressor.decompress(dict(tensors), QuantizationScheme(**group))
    return state["weight"]


def packed(bits, strategy, symmetric, columns, dtype=torch.bfloat16):
    """Integers as compressed-tensors packs them, with every integer and every zero point."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    rows, half = 37, 1 << (bits - 1)
    size = 32 if strategy == "group" else columns
    codes = torch.tensor([[(row * 5 + at * 3) % (2 * half) - half for at in range(columns)] for row in range(rows)], dtype=torch.int8)
    across = columns // size if strategy == "group" else 1
    scale = torch.tensor([[(1 + (row * across + at) % 127 / 128) * 2.0 ** ((row % 20) - 12) for at in range(across)] for row in range(rows)])
    tensors = {"weight_packed": pack_to_int32(codes, bits), "weight_scale": scale.to(dtype), "weight_shape": torch.tensor([rows, columns])}
    if not symmetric:
        zeros = torch.tensor([[(row + at) % (2 * half) - half for at in range(across)] for row in range(rows)], dtype=torch.int8)
        tensors["weight_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0).contiguous()
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": strategy, "group_size": 32 if strategy == "group" else None}
    config = group("pack-quantized", weights)
    return config, tensors, compressed_tensors(config, tensors)


def vectors():
    """(name, quantization_config, tensors, decoded)"""
    exponents = list(range(0, 253))
    # Blocks of a row: every code of E4M3 under every power of two that leaves BF16 finite.
    finite = [byte for byte in range(0, 245)]
    weight, scales = every_e4m3(len(finite)), bytes_of([[byte, byte] for byte in finite])
    for name, dtype, parameter, extra in [
        ("fp8_e8m0", torch.float8_e8m0fnu, "weight_scale_inv", {}),
        ("fp8_e8m0_scale", torch.float8_e8m0fnu, "scale", {"scale_fmt": "ue8m0"}),
        ("fp8_ue8m0_uint8", torch.uint8, "weight_scale_inv", {"scale_fmt": "ue8m0"}),
    ]:
        scale = scales.view(dtype)
        config = official(weight_block_size=[1, 128], **extra)
        yield name, config, {"weight": weight, parameter: scale}, transformers_fp8(weight, scale)
    floats = torch.tensor([[1.0 + row / 256, 2.0 ** -(row % 60) * 1.7] for row in range(len(finite))])
    config = official(weight_block_size=[1, 128])
    yield "fp8_f32", config, {"weight": weight, "weight_scale_inv": floats}, transformers_fp8(weight, floats)
    scalar, activations = torch.tensor(0.0123, dtype=torch.bfloat16), torch.tensor(0.5, dtype=torch.bfloat16)
    config = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None, "dequantize": False}
    yield "fp8_static", config, {"weight": weight[:4], "weight_scale_inv": scalar, "activation_scale": activations}, transformers_fp8(weight[:4], scalar.reshape(1, 1))
    # MXFP8 of MiniMax.
    groups = bytes_of([[byte] * 8 for byte in finite])
    yield "mxfp8", official("mxfp8", weight_block_size=[1, 32]), {"weight": weight, "weight_scale_inv": groups}, transformers_fp8(weight, groups)
    # Experts of DeepSeek-V4, with every byte of E8M0 that leaves BF16 finite.
    fp4, of32 = nibbles(len(exponents), 64), bytes_of([[byte, 252 - byte] for byte in exponents])
    config = official(weight_block_size=[128, 128], scale_fmt="ue8m0", expert_dtype="fp4")
    yield "fp4_experts", config, {"weight": fp4.view(torch.int8), "scale": of32.view(torch.float8_e8m0fnu)}, transformers_fp8(fp4.view(torch.int8), of32.view(torch.float8_e8m0fnu))
    # compressed-tensors.
    mx = {"type": "float", "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}
    config = group("mxfp4-pack-quantized", {"num_bits": 4, **mx})
    tensors = {"weight_packed": fp4, "weight_scale": of32}
    yield "ct_mxfp4", config, tensors, compressed_tensors(config, tensors)
    config = group("mxfp6-pack-quantized", {"num_bits": 6, **mx})
    tensors = {"weight_packed": sixes(len(exponents), 64), "weight_scale": of32}
    yield "ct_mxfp6", config, tensors, compressed_tensors(config, tensors)
    config = group("mxfp8-quantized", {"num_bits": 8, **mx})
    tensors = {"weight": weight, "weight_scale": groups}
    yield "ct_mxfp8", config, tensors, compressed_tensors(config, tensors)
    config = group("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16})
    positive = bytes_of([[code] for code in range(1, 127)]).view(E4M3)
    for name, factor in [("ct_nvfp4", 2688.0 / 0.7), ("ct_nvfp4_small", 3.3e-3)]:
        tensors = {"weight_packed": nibbles(126, 16), "weight_scale": positive, "weight_global_scale": torch.tensor([factor])}
        yield name, config, tensors, compressed_tensors(config, tensors)
    for bits in range(2, 9):
        for strategy, symmetric, columns in [("group", True, 96), ("group", False, 96), ("channel", True, 77), ("channel", False, 77)]:
            kind = "sym" if symmetric else "asym"
            yield f"ct_int{bits}_{strategy}_{kind}", *packed(bits, strategy, symmetric, columns)
    yield "modelopt_nvfp4", *modelopt()


def modelopt():
    from modelopt.torch.quantization.qtensor.nvfp4_tensor import NVFP4QTensor

    codes, scales = nibbles(126, 16), bytes_of([[code] for code in range(1, 127)]).view(E4M3)
    factor = torch.tensor(0.7 / 2688.0)
    stored = NVFP4QTensor(torch.Size([126, 16]), torch.bfloat16, codes)
    decoded = stored.dequantize(dtype=torch.bfloat16, scale=scales, double_scale=factor, block_sizes={-1: 16})
    config = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": []}
    tensors = {"weight": codes, "weight_scale": scales, "weight_scale_2": factor, "input_scale": torch.tensor(0.01)}
    return config, tensors, decoded


def gpt_oss():
    """Experts of a layer as gpt-oss stores them, with every code under every scale that leaves BF16 finite; decoded as
    transformers loads them without kernels for MXFP4."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    experts, hidden, inner = 2, 64, 96
    tensors, decoded = {}, {}
    for name, rows, columns in [("gate_up_proj", 2 * inner, hidden), ("down_proj", hidden, inner)]:
        across = columns // 32
        numbers = torch.arange(experts * rows * across).reshape(experts, rows, across)
        scales = (numbers % 255).to(torch.uint8)
        at = torch.arange(32)
        codes = (numbers[..., None] * 7 + at * 5 + at // 16) % 16
        # Under the two largest scales the larger codes are infinite.
        largest = torch.where(scales == 254, 3, torch.where(scales == 253, 5, 7))[..., None]
        codes = (codes & 8) | torch.minimum(codes & 7, largest)
        tensors[f"{name}_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        tensors[f"{name}_scales"] = scales
        decoded[name] = convert_moe_packed_tensors(tensors[f"{name}_blocks"], scales)
        assert decoded[name].isfinite().all() and decoded[name].shape == (experts, columns, rows)
        tensors[f"{name}_bias"] = torch.arange(experts * rows).reshape(experts, rows).to(torch.bfloat16)
    pairs = {(int(scale), int(nibble)) for name in ("gate_up_proj", "down_proj") for block, scale in zip(tensors[f"{name}_blocks"].reshape(-1, 16), tensors[f"{name}_scales"].reshape(-1)) for byte in block for nibble in (byte & 15, byte >> 4)}
    assert len(pairs) == 253 * 16 + 12 + 8, len(pairs)
    config = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    return config, tensors, decoded


def stacks(check):
    config, tensors, decoded = gpt_oss()
    path = HERE.parent / "stacks" / "gpt_oss.safetensors"
    if check:
        with safe_open(path, "pt") as file:
            for name, values in decoded.items():
                before = file.get_tensor(f"decoded.{name}")
                assert before.dtype == values.dtype and torch.equal(before.view(torch.uint8), values.view(torch.uint8)), name
    else:
        path.parent.mkdir(exist_ok=True)
        stored = {f"m.{key}": value.contiguous() for key, value in tensors.items()}
        metadata = {"quantization_config": json.dumps(config, sort_keys=True)}
        save_file({**stored, **{f"decoded.{name}": values for name, values in decoded.items()}}, path, metadata)


def keep(vectors, check):
    """Writes vectors, or compares what they decode to."""
    HERE.mkdir(exist_ok=True)
    for name, config, tensors, decoded in vectors:
        path = HERE / f"{name}.safetensors"
        if check:
            with safe_open(path, "pt") as file:
                before = file.get_tensor("decoded")
            assert before.dtype == decoded.dtype and torch.equal(before.view(torch.uint8), decoded.contiguous().view(torch.uint8)), name
        else:
            stored = {f"m.{key}": value.contiguous() for key, value in tensors.items()}
            metadata = {"quantization_config": json.dumps(config, sort_keys=True)}
            save_file({**stored, "decoded": decoded.contiguous()}, path, metadata)
    print("checked" if check else "written", HERE)


def main():
    check = "--check" in sys.argv
    keep(vectors(), check)
    stacks(check)


if __name__ == "__main__":
    main()
