#!/usr/bin/env bash
# Version:   llmcompressor 0.14.0.1, compressed-tensors 0.19.0, torch 2.14.0 and transformers 5.17.0 (PyPI), on the CPU.
# Input:     normal weights of standard deviation 0.002, in groups of 16, once in BF16 and once in F16, given to the observer
#            that is called `nvfp4_expanded_mse`.
# Behaviour: the observer tries ranges of 0.8 to 1.8 times the absolute maximum of a group and keeps the one of least error. Errors are
#            powers of 2.4, summed in the dtype of the weight; of such weights they lie below the least number of F16, so that
#            all ranges are equally good there, and the first that is tried, the widest, is kept. A search for better scales nearly
#            doubles them, for weights of a size that models have, with nothing said. The same weights in BF16 keep ranges near to
#            what they are.
# Seen:      2026-11-30
seen="bfloat16: 1.8 times the range for under 5 % of the groups; float16: for over 90 %"
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check \
    llmcompressor==0.14.0.1 compressed-tensors==0.19.0 torch==2.14.0 transformers==5.17.0

found=$("$python" - 2>"$scratch/log" <<'PYTHON'
import torch
from compressed_tensors.quantization import preset_name_to_scheme
from llmcompressor.observers.mse import NVFP4ExpandedMSEObserver

torch.manual_seed(1)
weights = torch.randn(64, 16, 16) * 0.002
options = preset_name_to_scheme("NVFP4A16", ["Linear"]).weights

parts = []
for dtype in (torch.bfloat16, torch.float16):
    groups = weights.to(dtype)
    observer = NVFP4ExpandedMSEObserver("weight", options)
    observer.update_statistics_from_observed(groups.unsqueeze(0))
    kept = torch.maximum(observer.max_vals, -observer.min_vals).float() / groups.abs().amax(-1).float()
    widest = (kept > 1.79).double().mean().item()
    if dtype == torch.bfloat16:
        share = "under 5" if widest < 0.05 else f"{100 * widest:.0f}"
        parts.append(f"bfloat16: 1.8 times the range for {share} % of the groups")
    else:
        share = "over 90" if widest > 0.9 else f"{100 * widest:.0f}"
        parts.append(f"float16: for {share} %")
print("; ".join(parts))
PYTHON
) || { tail -n 20 "$scratch/log" >&2; exit 1; }
# A warning that there is no GPU comes first.
found=${found##*$'\n'}
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "llm-compressor no longer widens the scales of small F16 weights as this script says" >&2
    exit 1
fi
