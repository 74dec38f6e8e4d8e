#!/usr/bin/env bash
# Version:   ml_dtypes 0.6.0 with numpy 2.2.6 (PyPI).
# Input:     3, NaN, 1, 2 as bfloat16, float8_e4m3fn and float16; and 10001 normally distributed bfloat16 numbers of which one
#            is NaN. All of these types have a NaN.
# Behaviour: numpy sorts NaN behind all numbers, for the types that it knows. For those of ml_dtypes a NaN is neither smaller
#            nor larger than any number, and one of them keeps the others from being sorted past it: 3, NaN, 1, 2 comes back
#            as it is. `unique` then lists numbers twice and out of order, and `searchsorted` on the result is wrong.
#            The two ends of a sorted array, by which one reads off the extremes or the quantiles of a weight, are not what
#            they seem to be. Nothing is printed. Cast to float32 first.
# Seen:      2026-11-28
seen="bfloat16: sort 3 nan 1 2, argsort 0 1 2 3, unique of 2 nan 2 1 nan 1 2 is 2 nan 1 2 nan 1 2; "
seen+="float8_e4m3fn: sort 3 nan 1 2; float16: sort 1 2 3 nan; 10001 numbers: largest 3.48438, last five of sorted "
seen+="2.875 2.96875 3.01562 3.0625 3.25, as float32 3.14062 3.14062 3.25 3.48438 nan"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check ml-dtypes==0.6.0 numpy==2.2.6

found=$("$python" -W error - <<'PYTHON'
import ml_dtypes
import numpy

nan = float("nan")
def listed(array):
    return " ".join(f"{float(number):g}" for number in array)

def sort_of(kind):
    return f"sort {listed(numpy.sort(numpy.array([3, nan, 1, 2], kind)))}"

bfloat16 = ml_dtypes.bfloat16
order = " ".join(str(index) for index in numpy.argsort(numpy.array([3, nan, 1, 2], bfloat16)))
repeated = numpy.array([2, nan, 2, 1, nan, 1, 2], bfloat16)
weights = numpy.random.default_rng(0).normal(size=10_001).astype(bfloat16)
weights[5000] = nan
print("; ".join([
    f"bfloat16: {sort_of(bfloat16)}, argsort {order}, unique of {listed(repeated)} is {listed(numpy.unique(repeated))}",
    f"float8_e4m3fn: {sort_of(ml_dtypes.float8_e4m3fn)}",
    f"float16: {sort_of(numpy.float16)}",
    f"10001 numbers: largest {float(numpy.nanmax(weights)):g}, last five of sorted {listed(numpy.sort(weights)[-5:])}, "
    f"as float32 {listed(numpy.sort(weights.astype(numpy.float32))[-5:])}",
]))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "numpy no longer sorts the types of ml_dtypes around a NaN as this script says" >&2
    exit 1
fi
