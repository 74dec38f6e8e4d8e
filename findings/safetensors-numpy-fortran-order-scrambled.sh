#!/usr/bin/env bash
# Version:   safetensors 0.8.0 with numpy 2.2.6 (PyPI), the functions of `safetensors.numpy`.
# Input:     a matrix of 2 x 3 in Fortran order, as `numpy.asfortranarray`, `.T` or a reader of column-major files give it.
#            The function asks for arrays that are "contiguous and dense". This one is both: numpy's flag `forc` says so, and
#            its 24 bytes have no gap.
# Behaviour: `save` writes the bytes as they lie in memory below the shape of the array, and never looks at the strides. The
#            file is a valid one of the right shape with its values in wrong places, and nothing is raised or printed.
#            (`safetensors.torch` raises where it meets a tensor that is not in row order.) A script that transposes
#            weights with numpy has to call `numpy.ascontiguousarray` before it saves them.
# Seen:      2026-11-28
seen="contiguous: True; saved [[0, 1, 2], [3, 4, 5]]; "
seen+="read back [[0, 3, 1], [4, 2, 5]]; after ascontiguousarray [[0, 1, 2], [3, 4, 5]]"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.2.6

found=$("$python" - <<'PYTHON'
import numpy
from safetensors.numpy import load, save

def through_file(array):
    return load(save({"weight": array}))["weight"].tolist()

weight = numpy.asfortranarray(numpy.arange(6, dtype=numpy.int32).reshape(2, 3))
repaired = numpy.ascontiguousarray(weight)
print(
    f"contiguous: {weight.flags.forc}; saved {weight.tolist()}; read back {through_file(weight)}; "
    f"after ascontiguousarray {through_file(repaired)}"
)
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "safetensors.numpy no longer scrambles an array in Fortran order as this script says" >&2
    exit 1
fi
