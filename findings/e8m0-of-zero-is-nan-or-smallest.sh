#!/usr/bin/env bash
# Version:   ml_dtypes 0.6.0 and onnx 1.23.2 with numpy 2.2.6 (PyPI). onnx returns an array of ml_dtypes' own type.
# Input:     every positive bfloat16 number and zero, as float32, rounded to the nearest E8M0. The OCP specification of
#            microscaling formats (MX) gives E8M0 the powers of two from 2^-127 to 2^127 and one NaN: it has no zero, so that
#            a converter has to choose one of them. Zero is what a scale of amax / 448 is for a block of zeros.
# Behaviour: the two agree on all 32639 positive numbers, ties and subnormals included, and part on zero: ml_dtypes gives NaN,
#            onnx gives 2^-127. A block of zeros, as padding leaves it, is then decoded as NaN by the first and as zeros by the
#            second, and a test with random weights never sees it.
# Seen:      2026-11-28
seen="positive numbers 32639, apart 0; zero: ml_dtypes byte 255, onnx byte 0; a zero times its scale: nan and 0"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check ml-dtypes==0.6.0 onnx==1.23.2 numpy==2.2.6

found=$("$python" - <<'PYTHON'
import ml_dtypes
import numpy
from onnx.numpy_helper import to_float8e8m0

# The bit patterns up to and without infinity, in the order of the numbers; the first is zero.
numbers = numpy.arange(0x7F80, dtype=numpy.uint16).view(ml_dtypes.bfloat16).astype(numpy.float32)
by_ml_dtypes = numbers.astype(ml_dtypes.float8_e8m0fnu)
by_onnx = to_float8e8m0(numbers, saturate=False, round_mode="nearest")
left, right = by_ml_dtypes.view(numpy.uint8), by_onnx.view(numpy.uint8)
decoded = [float(numbers[0] * scales[0].astype(numpy.float32)) for scales in (by_ml_dtypes, by_onnx)]
print(
    f"positive numbers {len(numbers) - 1}, apart {int((left[1:] != right[1:]).sum())}; "
    f"zero: ml_dtypes byte {left[0]}, onnx byte {right[0]}; a zero times its scale: {decoded[0]:g} and {decoded[1]:g}"
)
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "ml_dtypes and onnx no longer part on the E8M0 of zero, and on it alone, as this script says" >&2
    exit 1
fi
