#!/usr/bin/env bash
# Version:   numpy 2.3.5 and, for comparison, 2.4.6 (PyPI).
# Input:     1000, 60000 and 70000 normally distributed numbers in F16, as F16 weights and activations are, and their median and 99.99th
#            percentile by `numpy.percentile`, with the percentile as a number, as a list of one number, and of the same numbers in F32.
# Behaviour: 2.3.5 computes the place in the sorted array in the dtype of the array where the percentile is a plain number: 99.99 %
#            is 1 in F16, so that the "percentile" which should leave outliers out is the largest number itself; and
#            beyond 65520 numbers the place is infinite in F16 and the median is NaN. A list of one percentile, or
#            the same array in F32, gives the right number, and so does 2.4.6. A scale that is clipped by percentile of an F16 layer is
#            that of no clipping, or NaN, by the size of the layer.
# Seen:      2026-12-01
seen="2.3.5: 1000 numbers, 99.99 %: 3.066, listed 3.035, F32 3.035, largest 3.066; 60000: 4.73, listed 3.822, F32 3.822, largest 4.73; "
seen+="70000: nan, listed 3.766, F32 3.766, largest 4.266; median nan, listed -0.002487, F32 -0.002487 | "
seen+="2.4.6: 1000 numbers, 99.99 %: 3.035, listed 3.035, F32 3.035, largest 3.066; 60000: 3.822, listed 3.822, F32 3.822, largest 4.73; "
seen+="70000: 3.766, listed 3.766, F32 3.766, largest 4.266; median -0.002487, listed -0.002487, F32 -0.002487"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/shows.py" <<'PYTHON'
import numpy

drawn = numpy.random.default_rng(0)

def thrice(numbers, percent):
    plain = numpy.percentile(numbers, percent)
    (listed,) = numpy.percentile(numbers, [percent])
    return f"{plain:.4g}, listed {listed:.4g}, F32 {numpy.percentile(numbers.astype(numpy.float32), percent):.4g}"

parts = []
for count in (1000, 60000, 70000):
    numbers = drawn.normal(size=count).astype(numpy.float16)
    title = f"{count} numbers, 99.99 %" if not parts else count
    parts.append(f"{title}: {thrice(numbers, 99.99)}, largest {numbers.max():.4g}")
print(f"{numpy.__version__}: {'; '.join(parts)}; median {thrice(numbers, 50)}")
PYTHON
found=""
for version in 2.3.5 2.4.6; do
    python3 -m venv "$scratch/$version"
    "$scratch/$version/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile "numpy==$version"
    found+="${found:+ | }$("$scratch/$version/bin/python" -W ignore "$scratch/shows.py")"
done
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "numpy no longer takes percentiles of F16 as this script says" >&2
    exit 1
fi
