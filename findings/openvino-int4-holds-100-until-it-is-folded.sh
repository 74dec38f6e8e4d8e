#!/usr/bin/env bash
# Version:   openvino 2026.4.1 and numpy 2.2.6 (PyPI). The CPU's plugin.
# Input:     seven float32 integers, through `Convert` to a type of four bits and back to float32. Once they are the input of
#            the model, once a constant in it; nothing else differs.
# Behaviour: a value between two operators that the model gives four bits has eight: as an input, 9 and 100 come back from i4
#            as they were, and -9 comes back from u4 as 247. As a constant the same numbers are folded while the model is
#            compiled, and wrap round to four bits: 9 is -7, 100 is 4. So codes that were not clamped are right while they
#            are computed, and wrong once they are weights. Types of eight and of two bits do the same in both places.
# Seen:      2026-11-29
seen="numbers -9 -8 7 8 9 17 100; i4: computed -9 -8 7 8 9 17 100, folded 7 -8 7 -8 -7 1 4; "
seen+="u4: computed 247 248 7 8 9 17 100, folded 7 8 7 8 9 1 4; "
seen+="i8: computed -9 -8 7 8 9 17 100, folded -9 -8 7 8 9 17 100; u2: computed 3 0 3 0 1 1 0, folded 3 0 3 0 1 1 0"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile openvino==2026.4.1 numpy==2.2.6

found=$("$python" -W ignore - <<'PYTHON'
import numpy
import openvino
from openvino import opset13 as operators

numbers = numpy.array([-9, -8, 7, 8, 9, 17, 100], numpy.float32)
core = openvino.Core()


def there_and_back(source, narrow):
    return operators.convert(operators.convert(source, narrow), "f32")


def computed(narrow):
    source = operators.parameter([len(numbers)], openvino.Type.f32)
    model = openvino.Model([there_and_back(source, narrow)], [source], "computed")
    return core.compile_model(model, "CPU")(numbers)[0]


def folded(narrow):
    source = operators.constant(numbers, openvino.Type.f32)
    return core.compile_model(openvino.Model([there_and_back(source, narrow)], [], "folded"), "CPU")()[0]


def listed(values):
    return " ".join(f"{value:g}" for value in values)


kinds = "; ".join(
    f"{narrow}: computed {listed(computed(narrow))}, folded {listed(folded(narrow))}" for narrow in ("i4", "u4", "i8", "u2")
)
print(f"numbers {listed(numbers)}; {kinds}")
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "openvino no longer computes in four bits as this script says" >&2
    exit 1
fi
