#!/usr/bin/env bash
# Version:   mlx 0.32.4 with its CPU backend mlx-cpu 0.32.4 (PyPI).
# Input:     safetensors files of one tensor each, in the types F8_E4M3, F8_E8M0 and F8_E5M2 of the format's list; the four
#            E4M3 bytes are 1, 2, 448 and -1.
# Behaviour: `mlx.core.load` gives an E4M3 or E8M0 tensor as uint8, without a warning: 1, 2, 448 and -1 are 56, 64, 126 and 184,
#            and arithmetic goes on with those. Its sibling E5M2 is refused. What was loaded is saved as U8, so that a file
#            which was only opened and saved no longer says that it holds FP8. `from_fp8` makes the numbers of the bytes, but
#            the array does not say that it needs it.
# Seen:      2026-11-28
seen="F8_E4M3: uint8 [56, 64, 126, 184], times 0.5 [28.0, 32.0, 63.0, 92.0], from_fp8 [1.0, 2.0, 448.0, -1.0], saved as U8; "
seen+="F8_E8M0: uint8 [127, 128, 126, 0], saved as U8; F8_E5M2: [safetensor] unsupported dtype F8_E5M2"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile mlx==0.32.4 mlx-cpu==0.32.4

found=$("$python" - "$scratch" <<'PYTHON'
import json
import pathlib
import sys
import mlx.core as mx

mx.set_default_device(mx.cpu)
folder = pathlib.Path(sys.argv[1])

def written(kind, data):
    header = json.dumps({"weight": {"dtype": kind, "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    path = folder / f"{kind}.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path

def type_in(path):
    raw = path.read_bytes()
    return json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["weight"]["dtype"]

def shown(kind, data, more=lambda weight: ""):
    try:
        weight = mx.load(str(written(kind, bytes(data))))["weight"]
        mx.eval(weight)
    except RuntimeError as error:
        return f"{kind}: {error}"
    again = folder / "again.safetensors"
    mx.save_safetensors(str(again), {"weight": weight})
    name = str(weight.dtype).removeprefix("mlx.core.")
    return f"{kind}: {name} {weight.tolist()}, {more(weight)}saved as {type_in(again)}"

def computed(weight):
    return f"times 0.5 {(weight * 0.5).tolist()}, from_fp8 {mx.from_fp8(weight, dtype=mx.float32).tolist()}, "

print("; ".join([
    shown("F8_E4M3", [0x38, 0x40, 0x7E, 0xB8], computed),
    shown("F8_E8M0", [127, 128, 126, 0]),
    shown("F8_E5M2", [0x3C, 0x40, 0x7B, 0xBC]),
]))
PYTHON
)
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "mlx no longer loads FP8 tensors as this script says" >&2
    exit 1
fi
