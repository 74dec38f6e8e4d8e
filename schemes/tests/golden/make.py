#!/usr/bin/env python3
"""Remakes the golden files beside this script: `python3 make.py` (numpy only; the same bytes each time).

The arithmetic is that of compressed-tensors, written down a second time in other terms than the kernels use: E4M3 by a
search in the table of its values, BF16 by rounding the significand in float64.
"""

import json
import struct
from pathlib import Path

import numpy as np

np.seterr(all="ignore")
F32, F64 = np.float32, np.float64

ROWS, COLUMNS = 13, 37
BLOCK = (4, 8)  # neither side divides
SAFETENSORS = {"bf16": "BF16", "f16": "F16", "f32": "F32"}
LARGEST = {"bf16": 0x7F7F, "f16": 0x7BFF, "f32": 0x7F7FFFFF}
EPSILON = {"bf16": 2.0**-7, "f16": 2.0**-10, "f32": 2.0**-23}


def bf16(x):
    """Rounds to BF16: 8 significant bits, and no step finer than 2^-133."""
    x = np.asarray(x, F32).astype(F64)
    _, exponent = np.frexp(x)
    step = np.ldexp(1.0, np.maximum(exponent - 8, -133))
    rounded = np.rint(x / step) * step
    return np.where(np.isfinite(x), rounded, x).astype(F32)


def rounded(x, dtype):
    if dtype == "bf16":
        return bf16(x)
    return np.asarray(x, F32).astype(np.float16).astype(F32) if dtype == "f16" else np.asarray(x, F32)


def bits(x, dtype):
    """The stored bytes of values that `dtype` holds exactly."""
    x = np.ascontiguousarray(x, F32)
    if dtype == "bf16":
        assert not (x.view(np.uint32) & 0xFFFF).any()
        return (x.view(np.uint32) >> 16).astype("<u2").tobytes()
    return x.astype("<f2" if dtype == "f16" else "<f4").tobytes()


def from_bits(u, dtype):
    if dtype == "bf16":
        return (u.astype(np.uint32) << 16).view(F32)
    return u.astype(np.uint16).view(np.float16).astype(F32) if dtype == "f16" else u.astype(np.uint32).view(F32)


E4M3 = np.array([m / 512 if e == 0 else (8 + m) * 2.0 ** (e - 10) for e in range(16) for m in range(8)][:127], F64)


def e4m3(x):
    """The codes of the nearest E4M3 values; a tie goes to the even code."""
    magnitude = np.minimum(np.abs(x.astype(F64)), 448.0)
    middles = (E4M3[:-1] + E4M3[1:]) / 2
    code = np.searchsorted(middles, magnitude, side="left")  # a tie stays below
    tie = (code < 126) & (magnitude == middles[np.minimum(code, 125)])
    code = code + (tie & (code % 2 == 1))
    return (code | np.signbit(x) * 0x80).astype(np.uint8)


def groups(grouping):
    """For each element the number of its group, and the shape in which scales are stored."""
    row, column = np.indices((ROWS, COLUMNS))
    if grouping == "tensor":
        return 0 * row, (1,)
    if grouping == "channel":
        return row, (ROWS, 1)
    height, width = BLOCK
    shape = -(-ROWS // height), -(-COLUMNS // width)
    return row // height * shape[1] + column // width, shape


def quantize(w, dtype, grouping, quotient, scale_dtype):
    group, shape = groups(grouping)
    amax = np.zeros(np.prod(shape), F32)
    np.maximum.at(amax, group, np.abs(w))
    scale = rounded(amax / F32(448), scale_dtype)
    scale = np.where(scale == 0, F32(EPSILON[scale_dtype]), scale)
    q = (w / scale[group]).astype(F32)
    if quotient == "source":
        q = rounded(q, dtype)
    return e4m3(q), bits(scale, scale_dtype), shape


def weights(dtype):
    """Hostile weights, by name."""
    random = np.random.default_rng(20)
    shape = ROWS, COLUMNS
    signs = np.where(random.random(shape) < 0.5, F32(-1), F32(1))
    normal = (random.standard_normal(shape) * 0.02).astype(F32)
    yield "normal", rounded(normal, dtype)

    # Scale 2^-5 in every group (its first element is 14): quotients on E4M3 values, between them, and next to that.
    ties = np.concatenate([E4M3, (E4M3[:-1] + E4M3[1:]) / 2])
    chosen = ties[random.integers(0, ties.size, shape)] * random.choice([1, 1, 1 + 2.0**-7, 1 - 2.0**-8], shape)
    w = (chosen / 32 * signs).astype(F32)
    w[:, ::8] = 14
    yield "ties", rounded(np.clip(w, -14, 14), dtype)

    # Scale 144 * 2^-12: one of the few other significands under which ties exist.
    w = (chosen * (144 * 2.0**-12) * signs).astype(F32)
    w[:, ::8] = 448 * 144 * 2.0**-12
    yield "ties_144", rounded(np.clip(w, -15.75, 15.75), dtype)

    yield "subnormal", from_bits(random.integers(0, 200, shape), dtype) * signs

    w = normal.copy()
    w[::3] = 0
    w[4:8, 8:24] = 0
    w[1, :] = -0.0
    yield "zeros", rounded(w, dtype)

    yield "negative_zero", np.full(shape, -0.0, F32)

    yield "huge", from_bits(LARGEST[dtype] - random.integers(0, 60, shape), dtype) * signs

    yield "wide", rounded(normal * 10.0 ** random.integers(-9, 4, shape).astype(F32), dtype)

    yield "outlier", rounded(np.where(random.random(shape) < 0.02, F32(300), normal), dtype)

    yield "bits", from_bits(random.integers(0, LARGEST[dtype] + 1, shape), dtype) * signs


def main():
    for dtype in SAFETENSORS:
        header, data = {}, b""

        def put(name, kind, shape, content):
            nonlocal data
            header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [len(data), len(data) + len(content)]}
            data += content

        for kind, w in weights(dtype):
            put(f"{kind}.input", SAFETENSORS[dtype], w.shape, bits(w, dtype))
            cases = [(g, q, dtype) for g in ("tensor", "channel", "block") for q in ("f32", "source")]
            cases += [("block", "f32", s) for s in ("bf16", "f32") if s != dtype]
            for grouping, quotient, scale_dtype in cases:
                codes, scales, shape = quantize(w, dtype, grouping, quotient, scale_dtype)
                case = f"{kind}.{grouping}.{quotient}.{scale_dtype}"
                put(f"{case}.weight", "F8_E4M3", w.shape, codes.tobytes())
                put(f"{case}.weight_scale", SAFETENSORS[scale_dtype], shape, scales)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        path = Path(__file__).parent / f"{dtype}.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + data)


main()
