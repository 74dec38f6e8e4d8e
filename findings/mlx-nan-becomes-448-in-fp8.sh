#!/usr/bin/env bash
# Version:   mlx 0.32.4 with its CPU backend mlx-cpu 0.32.4, and ml_dtypes 0.6.0 with numpy 2.2.6 (PyPI).
# Input:     NaN of both signs, the infinities and 1e9 as float32, to E4M3 by `mlx.core.to_fp8` and by ml_dtypes; and the bytes
#            0x7F and 0xFF back by `from_fp8`. By the OCP specification of 8 bit floating point (OFP8) these two bytes are
#            NaN, and a NaN stays NaN in both of its ways to treat what is too large, saturating and not.
# Behaviour: mlx saturates, and NaN with the rest: it becomes 448 or -448, the largest weight there is. `from_fp8` knows both
#            bytes for NaN, so that the two functions do not undo each other. A check for NaN after quantization finds nothing,
#            and a broken weight goes on as an outlier. ml_dtypes keeps NaN, and makes NaN of all that is too large.
# Seen:      2026-11-28
seen="nan -nan inf -inf 1e9: mlx 448 -448 448 -448 448, ml_dtypes nan nan nan nan nan; bytes 0x7F and 0xFF in mlx: nan nan"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile \
    mlx==0.32.4 mlx-cpu==0.32.4 ml-dtypes==0.6.0 numpy==2.2.6

found=$("$python" -W ignore - <<'PYTHON'
import ml_dtypes
import mlx.core as mx
import numpy

mx.set_default_device(mx.cpu)
# The sign of a NaN is a bit like any other, and is not printed.
numbers = numpy.array([0x7FC00000, 0xFFC00000, 0x7F800000, 0xFF800000, 0], numpy.uint32).view(numpy.float32)
numbers[-1] = 1e9

def listed(array):
    return " ".join("nan" if number != number else f"{float(number):g}" for number in array)

def from_fp8(codes):
    return numpy.asarray(mx.from_fp8(codes, dtype=mx.float32))

by_mlx = from_fp8(mx.to_fp8(mx.array(numbers)))
by_ml_dtypes = numbers.astype(ml_dtypes.float8_e4m3fn).astype(numpy.float32)
nans = from_fp8(mx.array([0x7F, 0xFF], dtype=mx.uint8))
print(
    f"nan -nan inf -inf 1e9: mlx {listed(by_mlx)}, ml_dtypes {listed(by_ml_dtypes)}; "
    f"bytes 0x7F and 0xFF in mlx: {listed(nans)}"
)
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "mlx no longer makes 448 of a NaN as this script says" >&2
    exit 1
fi
