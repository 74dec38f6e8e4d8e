#!/usr/bin/env bash
# Version:   ml_dtypes 0.6.0 with numpy 2.2.6 (PyPI).
# Input:     float64 numbers that lie 2^-40 above the middle between two numbers of a small format, so close that the nearest
#            float32 is that middle. Any float64 may be cast.
# Behaviour: one library rounds one number in two ways. `float8_e4m3fn(x)`, and `array[0] = x`, go from float64 to the small
#            format in one step, upwards. `numpy.array([x]).astype(float8_e4m3fn)` goes by way of float32, which lands on the
#            middle and then goes to the even neighbour. At the end of the range the scalar is NaN where the array has 448.
#            A reference that is written number by number differs from the same one written with arrays. Both agree on
#            what was cast to float32 before.
# Seen:      2026-11-28
seen="float8_e4m3fn 1.0625+: array 1, scalar 1.125, by way of float32 1; "
seen+="float4_e2m1fn 1.25+: array 1, scalar 1.5, by way of float32 1; "
seen+="float8_e4m3fn 464+: array 448, scalar nan, by way of float32 448"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check ml-dtypes==0.6.0 numpy==2.2.6

found=$("$python" - <<'PYTHON'
import ml_dtypes
import numpy

def shown(kind, middle):
    above = numpy.float64(middle) + numpy.float64(2.0**-40)
    assert above > middle and numpy.float32(above) == middle
    array = numpy.array([above]).astype(kind)[0]
    scalar = kind(above)
    narrowed = kind(numpy.float32(above))
    return (
        f"{kind.__name__} {middle:g}+: array {float(array):g}, scalar {float(scalar):g}, "
        f"by way of float32 {float(narrowed):g}"
    )

print("; ".join([
    shown(ml_dtypes.float8_e4m3fn, 1.0625),
    shown(ml_dtypes.float4_e2m1fn, 1.25),
    shown(ml_dtypes.float8_e4m3fn, 464.0),
]))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "ml_dtypes no longer rounds arrays and scalars of float64 apart as this script says" >&2
    exit 1
fi
