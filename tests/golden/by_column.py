#!/usr/bin/env python3
"""Golden vectors of AWQ and GPTQ: every code under every zero point and a wide set of scales, as AutoAWQ 0.2.9 and GPTQModel 7.7.0
decode them on a CPU.

    by_column.py           writes decoders/awq_*.safetensors and decoders/gptq_*.safetensors
    by_column.py --check   compares them with what the installed tools decode to

The packages want more of the machine than these functions do: install their source archives with `pip install --no-deps`, or
unpack them and put both folders on PYTHONPATH.
"""
import importlib.util
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from decoders import keep


def autoawq():
    """AutoAWQ's functions for packed weights, without the imports of its package."""
    folders = importlib.util.find_spec("awq").submodule_search_locations
    spec = importlib.util.spec_from_file_location("packing_utils", Path(folders[0]) / "utils" / "packing_utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(integers, bits, order=None):
    """Integers of the last dimension packed into 32-bit words, from the definition."""
    per = 32 // bits
    order = order or list(range(per))
    fields = integers.reshape(*integers.shape[:-1], -1, per).to(torch.int64)
    packed = sum(fields[..., row] << (bits * place) for place, row in enumerate(order))
    return (packed & 0xFFFFFFFF).where(packed < 2**31, packed - 2**32).to(torch.int32)


def scales_of(groups, rows, dtype):
    """Positive scales over the range of a dtype, subnormal ones of F16 among them, under which no product overflows."""
    least, largest = (-24, 7) if dtype == torch.float16 else (-40, 20)
    number = torch.arange(groups * rows).reshape(groups, rows)
    exponent = least + number * 7 % (largest - least)
    return ((1 + (number * 37 % 1021) / 1024) * 2.0**exponent.to(torch.float64)).to(dtype)


def codes_and_zeros(bits, groups, rows, size):
    """Codes [columns, rows] of all values in each group, and zero points [groups, rows], every pair of both."""
    group, row = torch.arange(groups)[:, None], torch.arange(rows)[None, :]
    column = torch.arange(groups * size)[:, None]
    codes = (column * (1 if size >= 1 << bits else 7) + row * 3) % (1 << bits)
    return codes, (row + group * 5) % (1 << bits)


def pairs(codes, zeros, size):
    zeros = zeros.repeat_interleave(size, dim=0)
    return len({(int(code), int(zero)) for code, zero in zip(codes.reshape(-1), zeros.reshape(-1))})


def awq(dtype):
    groups, size, rows = 3, 32, 64
    codes, zeros = codes_and_zeros(4, groups, rows, size)
    assert pairs(codes, zeros, size) == 256
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    tensors = {"qweight": words(codes, 4, order), "qzeros": words(zeros, 4, order), "scales": scales_of(groups, rows, dtype)}
    decoded = autoawq().dequantize_gemm(tensors["qweight"], tensors["qzeros"], tensors["scales"], 4, size)
    assert torch.equal(decoded, ((codes - zeros.repeat_interleave(size, 0)) * tensors["scales"].repeat_interleave(size, 0)))
    config = {"quant_method": "awq", "bits": 4, "group_size": size, "zero_point": True, "version": "gemm", "modules_to_not_convert": None}
    return config, tensors, decoded.T


def gptq(bits, dtype, ordered=False, v2=False, size=32, carried=False):
    """Stored zero points of all ones are left out: the two decoders of GPTQModel differ on them. With `carried`, they are there,
    as GPTQModel writes them, and its module for serving is the reference."""
    from gptqmodel.utils.model_dequant import convert_gptq_file

    rows, groups = (64, 3) if bits < 8 else (256, 2)
    size = size if bits < 8 or size < 0 else 128
    columns = groups * size if size > 0 else 96
    groups = groups if size > 0 else 1
    codes, zeros = codes_and_zeros(bits, groups, rows, columns // groups)
    ones = (1 << bits) - 1
    stored = zeros if v2 else zeros.clamp(min=0 if carried else 1) - 1
    if carried:
        # One is taken from every field of a word at once, as GPTQModel does when it saves.
        field = sum(1 << (bits * place) for place in range(32 // bits))
        packed = words(stored + 1, bits).to(torch.int64) - field
        zeros = ((packed + 2**31) % 2**32 - 2**31).to(torch.int32)
    else:
        zeros = words(stored, bits)
    column = torch.arange(columns, dtype=torch.int32)
    groups_of = column * 5 % columns // (columns // groups) if ordered else column // (columns // groups)
    tensors = {"qweight": words(codes.T.contiguous(), bits).T.contiguous(), "qzeros": zeros, "scales": scales_of(groups, rows, dtype), "g_idx": groups_of.to(torch.int32)}
    config = {"quant_method": "gptq", "bits": bits, "group_size": size, "desc_act": ordered, "sym": False, "checkpoint_format": "gptq_v2" if v2 else "gptq", "lm_head": False}
    served = torch_module(bits, tensors, v2)
    if carried:
        return config, tensors, served
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_file({f"m.{name}": tensor.contiguous() for name, tensor in tensors.items()}, path)
        decoded = convert_gptq_file(path, dtype, config, "cpu")["m.weight"]
    assert torch.equal(decoded.view(torch.int16), served.contiguous().view(torch.int16))
    return config, tensors, decoded


def torch_module(bits, tensors, v2):
    """The weight that GPTQModel's module for serving computes."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module

    columns, rows = len(tensors["g_idx"]), tensors["scales"].shape[1]
    module = TorchLinear(bits=bits, group_size=columns // len(tensors["scales"]), sym=False, desc_act=True, in_features=columns, out_features=rows, bias=False)
    for name, tensor in tensors.items():
        setattr(module, name, tensor.clone())
    if not v2:
        convert_gptq_v1_to_v2_format_module(module, bits=bits, pack_dtype=torch.int32)
    module.eval()
    module._triton_dequant_enabled = False
    return module.dequantize_weight().T


def vectors():
    for dtype, name in [(torch.float16, "f16"), (torch.bfloat16, "bf16")]:
        yield f"awq_{name}", *awq(dtype)
        for bits in (4, 8):
            yield f"gptq_int{bits}_{name}", *gptq(bits, dtype)
    yield "gptq_int2_f16", *gptq(2, torch.float16)
    yield "gptq_int4_order", *gptq(4, torch.float16, ordered=True)
    yield "gptq_int8_order_v2", *gptq(8, torch.float16, ordered=True, v2=True)
    yield "gptq_int4_v2", *gptq(4, torch.bfloat16, v2=True)
    yield "gptq_int4_carried", *gptq(4, torch.float16, carried=True)
    yield "gptq_int4_rows", *gptq(4, torch.float16, size=-1)


if __name__ == "__main__":
    keep(vectors(), "--check" in sys.argv)
