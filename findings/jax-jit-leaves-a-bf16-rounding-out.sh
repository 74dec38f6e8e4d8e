#!/usr/bin/env bash
# Version:   jax 0.10.2 with its jaxlib, ml_dtypes 0.6.0 and numpy 2.3.5 (PyPI), on the CPU.
# Input:     4096 F32 weights and 4096 small changes to them, cast to BF16, F16 or E5M2, added in that type, and cast to F32: called
#            as it is, and through `jax.jit`. numpy with ml_dtypes says what the sum in that type is.
# Behaviour: called as it is, each sum is the one of its type. Under `jit` the sum of two BF16 arrays is not rounded to BF16 where
#            a cast to F32 follows: 88 % of the numbers are others, each of them the exact sum in F32. F16 and E5M2 are
#            rounded. The flag `--xla_allow_excess_precision=false` of XLA brings the rounding back. Who simulates a merge or a quantization
#            in BF16 sees other weights than those that are stored in it, and by whether the function was compiled.
# Seen:      2026-12-01
seen="as it is: BF16 0 % others, F16 0 %, E5M2 0 %; jit: BF16 88 % others, all as in F32, F16 0 %, E5M2 0 %; "
seen+="jit with the flag: BF16 0 % others, F16 0 %, E5M2 0 %"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile jax==0.10.2 ml-dtypes==0.6.0 numpy==2.3.5
cat >"$scratch/shows.py" <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy

drawn = numpy.random.default_rng(0)
weights = (drawn.normal(size=4096) * 0.02).astype(numpy.float32)
changes = (drawn.normal(size=4096) * 0.001).astype(numpy.float32)

def by_jax(compiled, dtype):
    def added(left, right):
        return (left.astype(dtype) + right.astype(dtype)).astype(jnp.float32)
    return numpy.asarray((jax.jit(added) if compiled else added)(jnp.array(weights), jnp.array(changes)))

def shown(compiled):
    parts = []
    for title, dtype in (("BF16", ml_dtypes.bfloat16), ("F16", numpy.float16), ("E5M2", ml_dtypes.float8_e5m2)):
        left, right = weights.astype(dtype), changes.astype(dtype)
        found = by_jax(compiled, dtype)
        others = found != (left + right).astype(numpy.float32)
        part = f"{title} {100 * others.mean():.0f} %" + (" others" if not parts else "")
        if others.any():
            exact = left.astype(numpy.float32) + right.astype(numpy.float32)
            part += ", all as in F32" if (found == exact).all() else ", not as in F32"
        parts.append(part)
    return ", ".join(parts)

print("; ".join(f"{title}: {shown(title != 'as it is')}" for title in sys.argv[1:]))
PYTHON
found="$("$python" "$scratch/shows.py" "as it is" jit 2>"$scratch/log"); $(
    XLA_FLAGS=--xla_allow_excess_precision=false "$python" "$scratch/shows.py" "jit with the flag" 2>"$scratch/log"
)" || { cat "$scratch/log" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "jax no longer leaves a rounding to BF16 out as this script says" >&2
    exit 1
fi
