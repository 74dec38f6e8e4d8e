#!/usr/bin/env python3
"""Makes golden.safetensors, or with `--check` says whether it is what this script makes. Needs Python 3.9, no packages.

What FP8_POW2 must write is worked out here with exact fractions, and not as the scheme does it: the scale by trying one
power of two after the other, the code by looking for the nearest of all E4M3 values.
"""

import json
import random
import struct
import sys
from fractions import Fraction
from pathlib import Path

FILE = Path(__file__).parent / "golden.safetensors"
E4M3 = [Fraction(m, 512) if e == 0 else (8 + m) * Fraction(2) ** (e - 10) for e in range(16) for m in range(8)][:127]
ROWS, COLUMNS = 6, 40


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def bf16(value):
    """Cut short, which is enough for a source."""
    return struct.unpack("<f", b"\0\0" + struct.pack("<f", value)[2:])[0]


def stored(values, dtype):
    raw = [struct.pack("<e" if dtype == "F16" else "<f", value) for value in values]
    return b"".join(one[2:] if dtype == "BF16" else one for one in raw)


def code(value, negative):
    """The nearest E4M3 value, the even code of two that are as near; its sign."""
    near = min(range(127), key=lambda code: (abs(E4M3[code] - value), code % 2))
    return near | (0x80 if negative else 0)


def quantize(row):
    largest = max(abs(Fraction(value)) for value in row)
    exponent = -126
    while Fraction(2) ** exponent * 448 < largest:
        exponent += 1
    scale = Fraction(2) ** exponent
    codes = bytes(code(abs(Fraction(value)) / scale, str(value).startswith("-")) for value in row)
    return codes, struct.pack("<f", float(scale))


def weight(dtype):
    """Rows on which two quantizers could part: ordinary ones, zeros of both signs, ties, scales at their edges."""
    chosen = random.Random(dtype)
    low, high = {"F16": (-24, 15)}.get(dtype, (-140, 120))
    middles = [float((a + b) / 2) for a, b in zip(E4M3, E4M3[1:])]
    sign = lambda: chosen.choice([-1.0, 1.0])  # noqa: E731
    rows = [
        [chosen.gauss(0, 0.02) for _ in range(COLUMNS)],
        [0.0, -0.0] * (COLUMNS // 2),
        [448 * 2.0**-10] + [chosen.choice(middles) * 2.0**-10 * sign() for _ in range(COLUMNS - 1)],
        # The least above a power of two.
        [-452.0] + [chosen.choice(middles) * sign() for _ in range(COLUMNS - 1)],
        [chosen.uniform(1, 2) * 2.0 ** chosen.randint(low, high) * sign() for _ in range(COLUMNS)],
        [2.0**low * chosen.randint(0, 9) * sign() for _ in range(COLUMNS)],
    ]
    narrow = {"BF16": bf16, "F16": lambda v: struct.unpack("<e", struct.pack("<e", v))[0], "F32": f32}[dtype]
    return [[narrow(value) for value in row] for row in rows]


def make():
    tensors = {}
    for dtype in ("BF16", "F16", "F32"):
        rows = weight(dtype)
        made = [quantize(row) for row in rows]
        name = dtype.lower()
        flat = [value for row in rows for value in row]
        tensors[f"{name}.input"] = (dtype, [ROWS, COLUMNS], stored(flat, dtype))
        tensors[f"{name}.default.weight"] = ("F8_E4M3", [ROWS, COLUMNS], b"".join(codes for codes, _ in made))
        tensors[f"{name}.default.weight_scale"] = ("F32", [ROWS, 1], b"".join(scale for _, scale in made))
    header, data = {"__metadata__": {"options": '{"default":{}}'}}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + data


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(None if FILE.read_bytes() == make() else f"{FILE} is not what {__file__} makes")
    FILE.write_bytes(make())
