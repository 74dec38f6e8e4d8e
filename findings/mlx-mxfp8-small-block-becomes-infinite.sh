#!/usr/bin/env bash
# Version:   mlx 0.32.4 with its CPU backend mlx-cpu 0.32.4, and numpy 2.2.6 (PyPI).
# Input:     a group of 32 weights that are all one power of two, as float32 and bfloat16, through `mlx.core.quantize` in the
#            modes mxfp8 and mxfp4, and back. All these powers are normal numbers of both types. E8M0, the type of the scale,
#            begins at 2^-127, and its byte 255 is NaN (OCP specification of microscaling formats).
# Behaviour: the exponent of a small group's scale lies below -127. It is not clamped: it wraps round in its byte. In mxfp8
#            this begins at 2^-120 (7.5e-37), where the byte is 255, and 254, 253 and so on below it: the weights, all but
#            zero, come back as infinity, and one such group makes a row of a product infinite. Nothing is printed. In mxfp4
#            it begins at 2^-126. A row that training never touched may hold such numbers; exact zeros are handled apart.
# Seen:      2026-11-28
seen="mxfp8: 2^-119 scale 0 back 1.50463e-36, 2^-120 scale 255 back inf, 2^-121 scale 254 back inf, 0 scale 127 back 0; "
seen+="mxfp4: 2^-125 scale 0 back 2.35099e-38, 2^-126 scale 255 back inf; bfloat16 alike; ones times two rows: inf 32"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile mlx==0.32.4 mlx-cpu==0.32.4 numpy==2.2.6

found=$("$python" - <<'PYTHON'
import mlx.core as mx
import numpy

mx.set_default_device(mx.cpu)

def through(mode, weight, kind):
    group = mx.full((1, 32), weight, dtype=kind)
    packed, scales = mx.quantize(group, mode=mode)[:2]
    back = numpy.asarray(mx.dequantize(packed, scales, mode=mode, dtype=mx.float32))
    assert (back == back[0, 0]).all()
    return scales.item(), float(back[0, 0])

alike = True
def shown(mode, exponents):
    global alike
    parts = []
    for exponent in exponents:
        weight = 0.0 if exponent is None else 2.0**exponent
        scale, back = through(mode, weight, mx.float32)
        alike &= through(mode, weight, mx.bfloat16) == (scale, back)
        parts.append(f"{'0' if exponent is None else f'2^{exponent}'} scale {scale} back {back:g}")
    return f"{mode}: {', '.join(parts)}"

parts = [shown("mxfp8", [-119, -120, -121, None]), shown("mxfp4", [-125, -126])]
rows = mx.concatenate([mx.full((1, 32), 2.0**-120), mx.ones((1, 32))])
packed, scales = mx.quantize(rows, mode="mxfp8")[:2]
product = mx.quantized_matmul(mx.ones((1, 32)), packed, scales, mode="mxfp8", group_size=32, bits=8, transpose=True)
parts.append(f"bfloat16 {'alike' if alike else 'apart'}")
parts.append("ones times two rows: " + " ".join(f"{number:g}" for number in product.tolist()[0]))
print("; ".join(parts))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "mlx no longer quantizes a group of very small weights as this script says" >&2
    exit 1
fi
