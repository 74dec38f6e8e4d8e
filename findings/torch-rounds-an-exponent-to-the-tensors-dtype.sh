#!/usr/bin/env bash
# Version:   torch 2.14.0 and numpy 2.3.5 (PyPI), on the CPU.
# Input:     every positive finite BF16 and F16, and the Python number 2.4.
# Behaviour: a Python number beside a tensor of BF16 or F16 takes part in the arithmetic as it is where it is a factor: 100 * 2.4 is 240.
#            As an exponent it is rounded to the dtype of the tensor first, so that a power of 2.4 is one of 2.40625 in BF16 and of
#            2.400390625 in F16: 10 ** 2.4 is 255 where 251 is the nearest. Who repeats such a sum elsewhere (observers that
#            search for a scale weigh errors by `abs().pow(2.4)`) and takes 2.4 at its word has other errors, and so other scales.
# Seen:      2026-11-30
seen="bfloat16: 100 * 2.4 is 240, 10 ** 2.4 is 255; powers: 42 % are not the nearest to 2.4's, all are to 2.40625's; "
seen+="float16: 100 * 2.4 is 240, 10 ** 2.4 is 251.375; powers: 35 % are not the nearest to 2.4's, all are to 2.400390625's"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check torch==2.14.0 numpy==2.3.5

found=$("$python" - <<'PYTHON'
import torch

parts = []
for dtype, infinity in ((torch.bfloat16, 0x7F80), (torch.float16, 0x7C00)):
    numbers = torch.arange(1, infinity, dtype=torch.int16).view(dtype)
    powers = numbers.pow(2.4)
    exponent = torch.tensor(2.4, dtype=dtype).item()

    def others(of):
        return (powers != numbers.double().pow(of).to(dtype)).double().mean().item()

    hundred, ten = torch.tensor([100.0], dtype=dtype), torch.tensor([10.0], dtype=dtype)
    rest = "all are" if others(exponent) == 0 else "not all are"
    parts.append(
        f"{str(dtype).removeprefix('torch.')}: 100 * 2.4 is {(hundred * 2.4).item():g}, 10 ** 2.4 is {(ten ** 2.4).item():g}; "
        f"powers: {100 * others(2.4):.0f} % are not the nearest to 2.4's, {rest} to {exponent}'s"
    )
print("; ".join(parts))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "torch no longer takes powers of BF16 and F16 as this script says" >&2
    exit 1
fi
