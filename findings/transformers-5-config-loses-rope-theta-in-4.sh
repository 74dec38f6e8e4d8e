#!/usr/bin/env bash
# Version:   transformers 5.24.0 writes, transformers 4.57.3 reads (PyPI), both without torch: the configuration alone.
# Input:     configurations of Qwen3 with a rope theta of 1000000, of Llama 3 with its scaling of positions, and of Mamba 2,
#            each saved by the newer version with `save_pretrained`, as by a tool that quantizes a checkpoint by loading
#            it and saving it again.
# Behaviour: the newer version keeps theta and scaling in `rope_parameters` alone and writes no `rope_theta` and no
#            `rope_scaling`. The older one takes the new key for an unknown attribute, keeps it, and computes with the theta
#            of its own class: 10000 for both, and no scaling. Nothing is raised or printed. The weights load, and every
#            position is rotated by a wrong angle. An infinity is written as an object, and comes back as a dict.
#            A folder that is copied with the source's own `config.json` is read right by both.
# Seen:      2026-11-28
seen="qwen3: theta 1000000 -> 10000; llama: theta 500000 -> 10000, scaling llama3 -> None; "
seen+="mamba2: time_step_limit [0.0, inf] -> [0.0, {'__float__': 'Infinity'}]; printed by the reader: nothing"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv --without-pip "$scratch/venv"
python=$scratch/venv/bin/python
install() {
    python3 -m pip --python "$python" install --quiet --disable-pip-version-check --no-compile "$@"
}
install transformers==5.24.0 requests==2.34.2
# The older one shares what both need, and lies before the newer one on the path where it is meant.
install --no-deps --target "$scratch/older" transformers==4.57.3 huggingface-hub==0.36.2 tokenizers==0.22.2

export HF_HUB_OFFLINE=1 TRANSFORMERS_NO_ADVISORY_WARNINGS=1
"$python" - "$scratch" >"$scratch/written" 2>"$scratch/log" <<'PYTHON'
import sys
from transformers import LlamaConfig, Mamba2Config, Qwen3Config, __version__

assert __version__ == "5.24.0"
folder = sys.argv[1]
scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
qwen3 = Qwen3Config(rope_theta=1_000_000.0)
llama = LlamaConfig(
    rope_theta=500_000.0,
    max_position_embeddings=131_072,
    rope_scaling=scaling | {"original_max_position_embeddings": 8192},
)
mamba2 = Mamba2Config()
for name, config in (("qwen3", qwen3), ("llama", llama), ("mamba2", mamba2)):
    config.save_pretrained(f"{folder}/{name}")
print(f"{qwen3.rope_parameters['rope_theta']:.0f}")
print(f"{llama.rope_parameters['rope_theta']:.0f}")
print(llama.rope_parameters["rope_type"])
print(list(mamba2.time_step_limit))
PYTHON
# The import says that torch is missing; that line is the only one that may be there.
PYTHONPATH=$scratch/older "$python" - "$scratch" >"$scratch/read" 2>"$scratch/log" <<'PYTHON'
import sys
from transformers import AutoConfig, __version__

assert __version__ == "4.57.3"
qwen3, llama, mamba2 = (AutoConfig.from_pretrained(f"{sys.argv[1]}/{name}") for name in ("qwen3", "llama", "mamba2"))
print(f"{qwen3.rope_theta:.0f}")
print(f"{llama.rope_theta:.0f}")
print(llama.rope_scaling)
print(list(mamba2.time_step_limit))
PYTHON

mapfile -t written <"$scratch/written"
mapfile -t read_back <"$scratch/read"
printed=$(grep -v -e PyTorch -e '^$' "$scratch/log" || true)
found="qwen3: theta ${written[0]} -> ${read_back[0]}; "
found+="llama: theta ${written[1]} -> ${read_back[1]}, scaling ${written[2]} -> ${read_back[2]}; "
found+="mamba2: time_step_limit ${written[3]} -> ${read_back[3]}; printed by the reader: ${printed:-nothing}"
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "transformers 4 no longer reads a configuration of transformers 5 as this script says" >&2
    exit 1
fi
