#!/usr/bin/env bash
# Version:   gguf 0.19.0, the Python package of llama.cpp, and ml_dtypes 0.6.0 with numpy 2.2.6 (PyPI).
# Input:     the seven middles between two FP4 numbers, in a block whose largest number is 6, so that its scale is 1; and
#            256 x 1024 normally distributed bfloat16 weights. The OCP specification of microscaling formats, which the
#            package's source names for this type, asks for ties to even when weights become MXFP4.
# Behaviour: `gguf.quants.quantize` takes the first of the nearest numbers in the order of their codes, and that is the one
#            nearer to zero: 0.75 becomes 0.5, 1.75 becomes 1.5 and 3.5 becomes 3, where ties to even give 1, 2 and 4. With the
#            same scales 0.48% of the weights differ from those of ml_dtypes, each of them toward zero, so that the whole
#            tensor shrinks: bfloat16 has few enough digits that ties are common, and no rounding error averages this out.
# Seen:      2026-11-28
seen="middles 0.25 0.75 1.25 1.75 2.5 3.5 5: gguf 0 0.5 1 1.5 2 3 4, ml_dtypes 0 1 1 2 2 4 4; "
seen+="of 262144 weights apart 1253, nearer to zero 1253, sum of magnitudes 0.9983 of theirs"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check gguf==0.19.0 ml-dtypes==0.6.0 numpy==2.2.6

found=$("$python" - <<'PYTHON'
import gguf
import ml_dtypes
import numpy

MXFP4 = gguf.GGMLQuantizationType.MXFP4

def by_gguf(weights):
    return gguf.quants.dequantize(gguf.quants.quantize(weights, MXFP4), MXFP4)

def by_ml_dtypes(weights):
    blocks = weights.reshape(-1, 32)
    # The rule of the specification, which gguf follows: the power of two of the largest number, over that of 4.
    scales = numpy.exp2(numpy.floor(numpy.log2(numpy.abs(blocks).max(axis=1, keepdims=True))) - 2)
    codes = (blocks / scales).astype(ml_dtypes.float4_e2m1fn)
    return (codes.astype(numpy.float32) * scales).reshape(weights.shape)

def listed(numbers):
    return " ".join(f"{number:g}" for number in numbers)

middles = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]
block = numpy.zeros((1, 32), numpy.float32)
block[0, :8] = [*middles, 6]
drawn = numpy.random.default_rng(0).normal(0, 0.02, (256, 1024))
weights = drawn.astype(ml_dtypes.bfloat16).astype(numpy.float32)
left, right = by_gguf(weights), by_ml_dtypes(weights)
print(
    f"middles {listed(middles)}: gguf {listed(by_gguf(block)[0, :7])}, ml_dtypes {listed(by_ml_dtypes(block)[0, :7])}; "
    f"of {weights.size} weights apart {(left != right).sum()}, nearer to zero {(numpy.abs(left) < numpy.abs(right)).sum()}, "
    f"sum of magnitudes {numpy.abs(left).sum() / numpy.abs(right).sum():.4f} of theirs"
)
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "gguf no longer moves ties toward zero in MXFP4 as this script says" >&2
    exit 1
fi
