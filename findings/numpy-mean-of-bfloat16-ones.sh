#!/usr/bin/env bash
# Version:   ml_dtypes 0.6.0 with numpy 2.2.6 (PyPI).
# Input:     10000 ones as bfloat16, as float8_e4m3fn and as float16. One is exact in all three.
# Behaviour: numpy adds float16 numbers pairwise, and takes their mean, in a wider type. For the types of ml_dtypes it adds
#            one number after the other in the type itself, and the sum stands still as soon as one more is no more than half a
#            step: at 256 in bfloat16, at 16 in E4M3. The mean of ones is then 0.0256 and 0.00195, without a warning.
#            A mean error or a count over weights that were loaded as bfloat16 is wrong by any factor; `dtype=numpy.float32`
#            sets it right.
# Seen:      2026-11-28
seen="bfloat16: sum 256, mean 0.0256348, mean in float32 1; "
seen+="float8_e4m3fn: sum 16, mean 0.00195312, mean in float32 1; "
seen+="float16: sum 10000, mean 1, mean in float32 1"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check ml-dtypes==0.6.0 numpy==2.2.6

found=$("$python" -W error - <<'PYTHON'
import ml_dtypes
import numpy

def shown(kind):
    ones = numpy.ones(10_000, kind)
    assert (ones == 1).all()
    return (
        f"{kind.__name__}: sum {float(ones.sum()):g}, mean {float(ones.mean()):g}, "
        f"mean in float32 {float(ones.mean(dtype=numpy.float32)):g}"
    )

print("; ".join(shown(kind) for kind in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, numpy.float16)))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "numpy no longer adds the types of ml_dtypes in the type itself as this script says" >&2
    exit 1
fi
