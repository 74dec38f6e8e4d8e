#!/usr/bin/env bash
# Version:   torch 2.12.1 and 2.15.0 with numpy 2.3.5 (PyPI), on the CPU; and ml_dtypes 0.6.0.
# Input:     F32 numbers beyond 464, the middle between 448, the largest of E4M3, and the 480 that would follow, and an infinity, cast by
#            `Tensor.to` to E4M3; and numbers beyond the largest of E5M2, cast to that.
# Behaviour: 2.12.1 makes NaN of what does not fit into E4M3, as ml_dtypes does; 2.15.0 makes 448 of it, and of an infinity too. E5M2 is
#            infinite in both. Weights that were divided by too small a scale used to answer NaN, and now answer something
#            plausible: a check for NaN after the cast finds nothing any more, and code that leaves the clamp to 448 out
#            writes one checkpoint by one version and another by the other.
# Seen:      2026-12-01
seen="448 464 500 1e+09 inf -500 nan in E4M3: 2.12.1 448 448 nan nan nan nan nan, 2.15.0 448 448 448 448 448 -448 nan, "
seen+="ml_dtypes 448 448 nan nan nan nan nan; 57344 65536 inf in E5M2: 2.12.1 57344 inf inf, 2.15.0 57344 inf inf, ml_dtypes 57344 inf inf"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cat >"$scratch/shows.py" <<'PYTHON'
import sys

import ml_dtypes
import numpy

by_torch, kind = sys.argv[1] == "torch", sys.argv[2]
values = {"E4M3": [448, 464, 500, 1e9, float("inf"), -500, float("nan")], "E5M2": [57344, 65536, float("inf")]}[kind]
if by_torch:
    import torch

    dtype = {"E4M3": torch.float8_e4m3fn, "E5M2": torch.float8_e5m2}[kind]
    cast = torch.tensor(values, dtype=torch.float32).to(dtype).float().tolist()
    title = torch.__version__.partition("+")[0]
else:
    dtype = {"E4M3": ml_dtypes.float8_e4m3fn, "E5M2": ml_dtypes.float8_e5m2}[kind]
    cast = numpy.array(values, numpy.float32).astype(dtype).astype(float).tolist()
    title = "ml_dtypes"
print(title, *(f"{value:g}" for value in cast))
PYTHON
for version in 2.12.1 2.15.0; do
    python3 -m venv "$scratch/venv"
    "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
        "torch==$version" ml-dtypes==0.6.0 numpy==2.3.5
    for kind in E4M3 E5M2; do
        "$scratch/venv/bin/python" -W ignore "$scratch/shows.py" torch "$kind" >"$scratch/$version-$kind"
        "$scratch/venv/bin/python" -W ignore "$scratch/shows.py" ml_dtypes "$kind" >"$scratch/other-$kind"
    done
    rm -rf "$scratch/venv"
done
of() { printf '%s, %s, %s' "$(cat "$scratch/2.12.1-$1")" "$(cat "$scratch/2.15.0-$1")" "$(cat "$scratch/other-$1")"; }
found="448 464 500 1e+09 inf -500 nan in E4M3: $(of E4M3); 57344 65536 inf in E5M2: $(of E5M2)"
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "torch no longer casts what does not fit into E4M3 as this script says" >&2
    exit 1
fi
