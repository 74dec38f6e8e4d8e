"""Weights that try a quantizer: ordinary ones, and every kind of finite value on which two of them could part."""

import torch
from torch import Tensor

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}


def _normal(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=rng) * 0.02


def _small(rows, columns, dtype, rng):
    return _normal(rows, columns, rng) * (1e-3 if dtype == torch.float16 else 1e-30)


def _zeros(rows, columns, dtype, rng):
    return torch.zeros(rows, columns)


def _zero_rows(rows, columns, dtype, rng):
    weight = _normal(rows, columns, rng)
    weight[::3] = 0
    return weight


def _zero_blocks(rows, columns, dtype, rng):
    weight = _normal(rows, columns, rng)
    weight[:128, :128] = 0
    return weight


def _negative_zeros(rows, columns, dtype, rng):
    weight = _normal(rows, columns, rng)
    weight[torch.rand(rows, columns, generator=rng) < 0.5] = -0.0
    weight[::4] = -0.0
    return weight


def _subnormal(rows, columns, dtype, rng):
    mantissa = {torch.bfloat16: 7, torch.float16: 10, torch.float32: 23}[dtype]
    integer = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    bits = torch.randint(0, 1 << mantissa, (rows, columns), generator=rng).to(integer)
    return bits.view(dtype) * _signs(rows, columns, rng).to(dtype)


def _huge(rows, columns, dtype, rng):
    largest = torch.finfo(dtype).max
    weight = (torch.rand(rows, columns, generator=rng, dtype=torch.float64) * 2 - 1) * largest
    weight[0, 0] = largest
    return weight


def _ties(rows, columns, dtype, rng):
    # With 448 * 2^-14 as the maximum of every group the scale is exactly 2^-14, and these quotients lie exactly
    # between two neighbours of E4M3.
    codes = torch.arange(0, 0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    middles = (codes[:-1] + codes[1:]) / 2
    weight = middles[torch.randint(len(middles), (rows, columns), generator=rng)] * _signs(rows, columns, rng)
    weight[:, 0::64] = 448
    return weight * 2.0**-14


def _outlier(rows, columns, dtype, rng):
    weight = _normal(rows, columns, rng)
    weight[rows // 2, columns // 2] = -60.0
    return weight


def _wide(rows, columns, dtype, rng):
    low, high = (-24, 15) if dtype == torch.float16 else (-60, 60)
    exponents = torch.randint(low, high, (rows, columns), generator=rng).double()
    return (1 + torch.rand(rows, columns, generator=rng)) * torch.exp2(exponents) * _signs(rows, columns, rng)


def _wide_rows(rows, columns, dtype, rng):
    low, high = (-12, 12) if dtype == torch.float16 else (-100, 100)
    exponents = torch.randint(low, high, (rows, 1), generator=rng).double()
    return _normal(rows, columns, rng).double() * torch.exp2(exponents)


def _one_signed(rows, columns, dtype, rng):
    return -_normal(rows, columns, rng).abs()


def _constant(rows, columns, dtype, rng):
    return torch.full((rows, columns), 0.3)


def _single(rows, columns, dtype, rng):
    weight = torch.zeros(rows, columns)
    weight[rows - 1, columns - 1] = 1e-3
    return weight


def _octaves(rows, columns, dtype, rng):
    # The largest of each 32 lies at, before or after a place where a power of two as the scale becomes the next one, in every
    # octave; the others are within its last three.
    mantissa = {torch.bfloat16: 7, torch.float16: 10, torch.float32: 23}[dtype]
    integer = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    octaves = 31 if dtype == torch.float16 else 255
    groups = -(-columns // 32)
    exponents = torch.randint(0, octaves, (rows, groups), generator=rng)
    edges = torch.tensor([int(part * (1 << mantissa)) for part in (0, 0.5, 0.75, 0.875, 0.9375)])
    near = edges[torch.randint(len(edges), (rows, groups), generator=rng)]
    near += torch.randint(-1, 2, (rows, groups), generator=rng)
    largest = (exponents << mantissa) + near.clamp(0, (1 << mantissa) - 1)
    lower = torch.randint(0, 3 << mantissa, (rows, columns), generator=rng)
    lower[:, ::32] = 0
    bits = (largest.repeat_interleave(32, 1)[:, :columns] - lower).clamp(min=0)
    return bits.to(integer).view(dtype) * _signs(rows, columns, rng).to(dtype)


def _bits(rows, columns, dtype, rng):
    integer = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    span = 1 << (8 * dtype.itemsize)
    weight = torch.randint(-span // 2, span // 2, (rows, columns), generator=rng).to(integer).view(dtype)
    return torch.where(weight.isfinite(), weight, 0)


def _mixed(rows, columns, dtype, rng):
    kinds = [kind for kind in KINDS if kind != "mixed"]
    return torch.cat([fill(kinds[row % len(kinds)], 1, columns, dtype, rng) for row in range(rows)])


def _signs(rows, columns, rng):
    return torch.randint(0, 2, (rows, columns), generator=rng) * 2 - 1


KINDS = {"normal": lambda rows, columns, dtype, rng: _normal(rows, columns, rng), "small": _small, "zeros": _zeros,
         "zero_rows": _zero_rows, "zero_blocks": _zero_blocks, "negative_zeros": _negative_zeros,
         "subnormal": _subnormal, "huge": _huge, "ties": _ties, "outlier": _outlier, "wide": _wide,
         "wide_rows": _wide_rows, "one_signed": _one_signed, "constant": _constant, "single": _single,
         "octaves": _octaves, "bits": _bits, "mixed": _mixed}


def fill(kind: str, rows: int, columns: int, dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    """A `rows` x `columns` weight of this kind; always finite."""
    weight = KINDS[kind](rows, columns, dtype, rng).to(dtype)
    assert weight.shape == (rows, columns) and weight.isfinite().all(), kind
    return weight
