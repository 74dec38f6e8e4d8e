#!/usr/bin/env bash
# Version:   mlx 0.32.4 with its CPU backend mlx-cpu 0.32.4, and numpy 2.2.6 (PyPI).
# Input:     a matrix of 256 x 1024 normally distributed weights in four sizes, quantized by `mlx.core.quantize(w, mode=...)` to
#            mxfp4, to nvfp4, and to nvfp4 with `global_scale`, the argument that may be left out. A standard deviation of
#            0.02 is what models are initialized with; 0.001 is what a deep or wide layer may have.
# Behaviour: without `global_scale` the scales of the blocks are plain E4M3 numbers, whose smallest step is 2^-9. A block whose
#            largest weight is at most 0.00586 gets the scale 0, and all its weights become zero. The call that looks the finer
#            one (16 weights to a scale) loses the whole matrix where mxfp4, with coarser blocks, has its usual error of 12%,
#            and nothing is printed. With `global_scale` the error does not depend on the size of the weights.
# Seen:      2026-11-28
seen="relative error at a deviation of 0.1: mxfp4 0.12, nvfp4 0.10, with global_scale 0.10; 0.02: 0.12, 0.10, 0.10; "
seen+="0.002: 0.12, 0.96, 0.10; 0.001: 0.12, 1.00, 0.10; largest that is lost 0.005859375, smallest that is kept 0.0058593755"
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
drawn = numpy.random.default_rng(0).normal(size=(256, 1024)).astype(numpy.float32)

def through(weights, mode, **options):
    packed, scales = mx.quantize(mx.array(weights), mode=mode, **options)[:2]
    return numpy.asarray(mx.dequantize(packed, scales, mode=mode, dtype=mx.float32, **options))

def error(weights, mode, **options):
    return float(numpy.linalg.norm(through(weights, mode, **options) - weights) / numpy.linalg.norm(weights))

parts = []
for deviation in (0.1, 0.02, 0.002, 0.001):
    weights = drawn * numpy.float32(deviation)
    errors = [
        error(weights, "mxfp4"),
        error(weights, "nvfp4"),
        error(weights, "nvfp4", global_scale=mx.array(float(numpy.abs(weights).max()))),
    ]
    names = ["mxfp4 ", "nvfp4 ", "with global_scale "] if not parts else ["", "", ""]
    lead = "relative error at a deviation of " if not parts else ""
    parts.append(f"{lead}{deviation:g}: " + ", ".join(f"{name}{number:.2f}" for name, number in zip(names, errors)))

def kept(largest):
    return through(numpy.full((1, 32), largest, numpy.float32), "nvfp4").any()

# Neighbouring float32 numbers have neighbouring bit patterns, so that halving these finds the border itself.
low, high = numpy.array([0.001, 0.1], numpy.float32).view(numpy.uint32)
while high - low > 1:
    middle = low + (high - low) // 2
    low, high = (low, middle) if kept(middle.view(numpy.float32)) else (middle, high)
lost, held = numpy.array([low, high]).view(numpy.float32)
parts.append(f"largest that is lost {lost:.8g}, smallest that is kept {held:.8g}")
print("; ".join(parts))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "mlx no longer loses small weights in nvfp4 as this script says" >&2
    exit 1
fi
