"""Loads what `qwen-fp8 apply` writes with transformers on the CPU, dequantized, and holds it to the source.

Run it with the Python that `setup.sh` prints. It ends with `N passed, N failed` and is 0 only if nothing failed.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import warnings
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}

import torch  # noqa: E402
from huggingface_hub import ModelCard  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    CompressedTensorsConfig,
    FineGrainedFP8Config,
    PreTrainedModel,
)

import checkpoints  # noqa: E402
import tensors  # noqa: E402
import tool  # noqa: E402
from report import Report  # noqa: E402
from tensors import Tensor  # noqa: E402

FIXTURE = tool.ROOT / "tests" / "fixtures" / "tiny-qwen3-vl"
RECIPES = tool.ROOT / "recipes"

WRITTEN_HERE = {
    "compressed-tensors FP8_DYNAMIC": tool.recipe("compressed-tensors", tool.Rule("FP8_DYNAMIC")),
    "compressed-tensors FP8_BLOCK": tool.recipe("compressed-tensors", tool.Rule("FP8_BLOCK")),
    "compressed-tensors FP8": tool.recipe("compressed-tensors", tool.Rule("FP8")),
    "fp8 FP8_BLOCK": tool.recipe("fp8", tool.Rule("FP8_BLOCK")),
    "fp8 FP8_BLOCK scale f32": tool.recipe("fp8", tool.Rule("FP8_BLOCK", scale_dtype="f32")),
}

# A base model that the card names, since the sources here come from no hub.
BASE = "org/base-model"

DECODE = (RECIPES / "from_fp8" / "dequantize.yaml").read_text()

# How far the logits of a model with FP8 weights may be from the BF16 model's, relative and in the Euclidean norm: one
# tenth is usual for random weights, one whole would be another model.
LOGITS = 0.3

# The largest E4M3 value.
E4M3_MAX = 448


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=Path, default=tool.DEFAULT, help="the binary under test")
    parser.add_argument("--model", type=Path, default=FIXTURE, help="a Qwen3-VL checkpoint")
    arguments = parser.parse_args()
    print(f"load: what {arguments.tool} writes, with transformers")
    report = Report()
    ready = sorted(RECIPES.glob("*.yaml"))
    recipes = WRITTEN_HERE | {f"recipes/{path.name}": path.read_text() for path in ready}
    with tempfile.TemporaryDirectory(prefix="qwen-fp8-load-") as scratch:
        text_only = Path(scratch) / "qwen3"
        checkpoints.qwen3(text_only, "bf16", 0, checkpoints.EVEN, hostile=False)
        for model in (arguments.model, text_only):
            for place, (name, recipe) in enumerate(recipes.items()):
                output = Path(scratch) / f"{model.name}-{place}"
                with report.case(f"{model.name:14} {name}") as faults:
                    with_base = f"{recipe}\nmodel_card:\n  base_model: {BASE}\n"
                    tool.apply(arguments.tool, with_base, model, output)
                    faults += card_faults(model, output)
                    faults += compare(model, output, searched="scale_search: mse" in recipe)
                    decoded = output.with_name(output.name + "-decoded")
                    tool.apply(arguments.tool, DECODE, output, decoded)
                    faults += decoded_faults(output, decoded)
    return report.close()


def card_faults(source: Path, output: Path) -> list[str]:
    """What huggingface_hub, which publishes model cards, does not find in the output's."""
    card = ModelCard.load(output / "README.md")
    wanted = {"base_model": BASE, "base_model_relation": "quantized"}
    text = ""
    if (source / "README.md").exists():
        original = ModelCard.load(source / "README.md")
        wanted = original.data.to_dict() | wanted
        text = original.text.strip()
    faults = [] if card.data.to_dict() == wanted else [f"the card has {card.data.to_dict()}, not {wanted}"]
    return faults if card.text.strip().endswith(text) else [*faults, "the card has lost the source's text"]


def compare(source: Path, output: Path, searched: bool) -> list[str]:
    """What is wrong with a result, told by its bytes and by a model made from it.

    A searched scale may be too small for the largest weights, which then saturate.
    """
    before, after = tensors.read_checkpoint(source), tensors.read_checkpoint(output)
    original, quantized = load(source), load(output)
    weights = quantized.state_dict()
    faults = []
    count = 0
    for name, tensor in before.items():
        if after[name].dtype == tensor.dtype:
            if after[name] != tensor or not torch.equal(weights[name], checkpoints.loaded(tensor)):
                faults.append(f"`{name}` did not come through unchanged")
            continue
        count += 1
        weight = checkpoints.loaded(tensor).double()
        codes = checkpoints.loaded(after[name]).double()
        scale = spread(after, name, weight.shape)
        allowed = half_step(codes) * scale * (1 + 1e-6)
        error = (codes * scale - weight).abs()
        beyond = (error > allowed) & ~(searched & (codes.abs() == E4M3_MAX) & (weight.abs() > codes.abs() * scale))
        if beyond.any():
            faults.append(f"`{name}`: {int(beyond.sum())} elements are off by more than half a step")
        if not torch.equal(weights[name].double(), (codes * scale).to(weights[name].dtype).double()):
            faults.append(f"`{name}`: transformers dequantizes it to something else than code times scale")
    if count != sum(map(checkpoints.is_language_linear, before)):
        faults.append(f"{count} tensors are quantized, not every linear layer of the language model and no other")
    for what, inputs in prompts(original.config).items():
        with torch.no_grad():
            expected, found = original(**inputs).logits.float(), quantized(**inputs).logits.float()
        if not found.isfinite().all():
            faults.append(f"{what}: the logits are not finite")
        elif (distance := (found - expected).norm() / expected.norm()) > LOGITS:
            faults.append(f"{what}: the logits are off by {distance:.2f} of their norm")
    return faults


def decoded_faults(quantized: Path, decoded: Path) -> list[str]:
    """Whether the tool decodes an FP8 checkpoint to what transformers and compressed-tensors do, bit for bit."""
    weights, found = load(quantized).state_dict(), tensors.read_checkpoint(decoded)
    return [f"`{name}` is decoded to something else than by transformers"
            for name, tensor in found.items() if not torch.equal(weights[name], checkpoints.loaded(tensor))]


def load(directory: Path) -> PreTrainedModel:
    """The model, with weights of the dtype that computes."""
    config = AutoConfig.from_pretrained(directory)
    automatic = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    options = {}
    if described := getattr(config, "quantization_config", None):
        kind = {"fp8": FineGrainedFP8Config, "compressed-tensors": CompressedTensorsConfig}[described["quant_method"]]
        options["quantization_config"] = kind(dequantize=True)
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        return automatic.from_pretrained(directory, dtype="auto", **options).eval()


def spread(stored: dict[str, Tensor], name: str, shape: torch.Size) -> torch.Tensor:
    """The scale of every element of a quantized weight, from the shapes alone."""
    scale = stored.get(f"{name}_scale") or stored[f"{name}_scale_inv"]
    scale = checkpoints.loaded(scale).double()
    rows, columns = shape
    if scale.dim() == 1:
        return scale.reshape(1, 1).expand(rows, columns)
    height, width = (1, columns) if scale.shape == (rows, 1) else (128, 128)
    return scale.repeat_interleave(height, 0)[:rows].repeat_interleave(width, 1)[:, :columns]


def half_step(codes: torch.Tensor) -> torch.Tensor:
    """Half the distance from an E4M3 value to its neighbour of larger magnitude."""
    exponents = torch.frexp(codes).exponent.double() - 1
    return torch.exp2(exponents.clamp(min=-6) - 3) / 2


def prompts(config) -> dict[str, dict[str, torch.Tensor]]:
    """Inputs to try: text, and for a model with a vision tower an image of 4 x 4 patches."""
    rng = torch.Generator().manual_seed(0)
    words = torch.randint(0, 256, (1, 16), generator=rng)
    inputs = {"text": {"input_ids": words}}
    if hasattr(config, "vision_config"):
        vision = config.vision_config
        patches = torch.tensor([[1, 2 * vision.spatial_merge_size, 2 * vision.spatial_merge_size]])
        pixels = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
        image = torch.full((1, 4), config.image_token_id)
        start, end = (torch.full((1, 1), token) for token in (config.vision_start_token_id, config.vision_end_token_id))
        tokens = torch.cat([words[:, :4], start, image, end, words], dim=1)
        inputs["image"] = {
            "input_ids": tokens,
            "mm_token_type_ids": (tokens == config.image_token_id).int(),
            "pixel_values": torch.randn(int(patches.prod()), pixels, generator=rng),
            "image_grid_thw": patches,
        }
    return inputs


if __name__ == "__main__":
    sys.exit(main())
