"""The reference: llm-compressor and compressed-tensors, called as their users call them or one function at a time."""

import contextlib
import io
import os
import sys
from importlib.metadata import version
from pathlib import Path

# Nothing here may ask a hub for anything, and the table is all there is to read.
os.environ |= {"HF_HUB_OFFLINE": "1", "LLM_COMPRESSOR_LOG_DISABLED": "true", "TOKENIZERS_PARALLELISM": "false"}

import torch  # noqa: E402
from compressed_tensors.compressors import compress_module  # noqa: E402
from compressed_tensors.quantization import (  # noqa: E402
    QuantizationArgs,
    QuantizationScheme,
    QuantizationStrategy,
    is_preset_scheme,
    preset_name_to_scheme,
)
from compressed_tensors.utils.mtp import save_mtp_tensors_to_checkpoint  # noqa: E402
from datasets import Dataset  # noqa: E402
from llmcompressor import model_free_ptq, oneshot  # noqa: E402
from llmcompressor.entrypoints import model_free  # noqa: E402
from llmcompressor.entrypoints.model_free.lifecycle import (  # noqa: E402
    calibrate_weight,
    initialize_quantized_linear,
)
from llmcompressor.modifiers.quantization import QuantizationModifier  # noqa: E402
from loguru import logger  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText  # noqa: E402
from transformers.utils import logging as transformers_logging  # noqa: E402

import tool  # noqa: E402
import values  # noqa: E402

logger.remove()
transformers_logging.set_verbosity_error()

# The dry run that foretells the memory of each shard takes twice the time of the run itself, and on a CPU decides nothing.
model_free._validate_shard = lambda *_: 0


# The release of compressed-tensors: it has the presets, the arithmetic and the form of the config.
RELEASE = ".".join(version("compressed-tensors").split(".")[:2])


def versions() -> str:
    """What is held against, in words."""
    packages = ("llmcompressor", "compressed-tensors", "transformers", "torch")
    return ", ".join(f"{package} {version(package)}" for package in packages)


def has(name: str) -> bool:
    """Whether this release has such a preset."""
    return is_preset_scheme(name)


# The search of llm-compressor, which looks at every candidate: by itself it ends where five in a row are better for no group of
# a weight, as with the few groups of the checkpoints here.
SEARCH = {"observer": "memoryless_mse", "observer_kwargs": {"patience": 1000}}


def scheme(name: str, search: bool = False) -> QuantizationScheme:
    """The preset, with dynamic activations where the preset asks for calibration data; scales may be searched for."""
    preset = preset_name_to_scheme(name, ["Linear"])
    if search:
        preset.weights = preset.weights.model_copy(update=SEARCH)
    if preset.input_activations is not None and preset.input_activations.dynamic is False:
        preset.input_activations = QuantizationArgs(
            num_bits=8, type="float", strategy="token", symmetric=True, dynamic=True)
    return preset


def run_model_free(model: Path, output: Path, name: str, search: bool = False) -> None:
    """Quantizes a checkpoint as the reference's command for large models does."""
    with quiet():
        model_free_ptq(str(model), str(output), scheme=scheme(name, search), ignore=[*tool.KEEP, "re:.*embed_tokens"],
                       device="cpu")


def run_oneshot(model: Path, output: Path, recipe: Path) -> None:
    """Quantizes a Qwen3-VL through transformers, with a recipe file."""
    with quiet():
        loaded = AutoModelForImageTextToText.from_pretrained(str(model), dtype="auto")
        oneshot(model=loaded, recipe=str(recipe))
        loaded.save_pretrained(str(output))


def run_calibrated(model: Path, output: Path, name: str, seed: int) -> None:
    """Quantizes a text model by a preset that measures activations, on random tokens."""
    with quiet():
        loaded = AutoModelForCausalLM.from_pretrained(str(model), dtype="auto")
        tokens = torch.randint(loaded.config.vocab_size, (4, 32), generator=torch.Generator().manual_seed(seed))
        data = Dataset.from_dict({"input_ids": tokens.tolist(), "attention_mask": torch.ones_like(tokens).tolist()})
        recipe = QuantizationModifier(targets=["Linear"], scheme=name, ignore=list(tool.KEEP))
        oneshot(model=loaded, dataset=data, recipe=recipe, num_calibration_samples=len(data), max_seq_length=32)
        loaded.save_pretrained(str(output))


def add_mtp(source: Path, output: Path) -> None:
    """Puts the layers that predict further tokens into a result that was made without them, as the reference's users do."""
    with quiet():
        save_mtp_tensors_to_checkpoint(str(source), str(output))


def quantize(
    weight: torch.Tensor, name: str, *, quotient: str = "source", scale: str = "source", symmetric: bool | None = None
) -> dict[str, torch.Tensor]:
    """One weight under one scheme: what is stored, by what follows `<module>.`.

    With everything at `source` this is the reference as it runs on a CPU, which rounds the quotient to the dtype of
    the weight before it rounds it to the narrow one. `quotient="f32"` is the reference as it runs on a GPU: the scale
    is the reference's, the division is done here in f32 and rounded once. `scale` is the dtype of the stored scale,
    `symmetric` whether integers have no zero point, where the preset is not to decide.
    """
    arguments = scheme(name)
    if symmetric is not None:
        update = {"symmetric": symmetric, "zp_dtype": None if symmetric else torch.int8}
        arguments.weights = arguments.weights.model_copy(update=update)
    observed = weight
    if scale != "source":
        arguments.weights = arguments.weights.model_copy(update={"scale_dtype": values.DTYPES[scale]})
        observed = weight.float()
    module = initialize_quantized_linear(observed, arguments, "cpu")
    calibrate_weight(module)
    if hasattr(module, "input_global_scale"):
        # What it measures on data; with none of it, nothing was written there.
        module.input_global_scale.data.fill_(1.0)
    if quotient == "source" and scale == "source":
        compress_module(module)
        return {suffix: tensor.detach().contiguous() for suffix, tensor in module.state_dict().items()}
    if arguments.weights.type == "int" or arguments.weights.strategy == QuantizationStrategy.GROUP:
        # In f32, but under the scale of the weight's own dtype.
        module.weight.data = weight.float()
        module.weight_scale.data = module.weight_scale.data.float()
        compress_module(module)
        made = {suffix: tensor.detach().contiguous() for suffix, tensor in module.state_dict().items()}
        if made["weight_scale"].is_floating_point():
            made["weight_scale"] = made["weight_scale"].to(weight.dtype)
        return made
    stored_scale = module.weight_scale.detach()
    if scale != "source":
        stored_scale = stored_scale.to(values.DTYPES[scale])
    divided = weight.float() / spread(stored_scale.float(), weight.shape, arguments.weights)
    if quotient == "source":
        divided = divided.to(weight.dtype).float()
    return {"weight": divided.clamp(-448, 448).to(torch.float8_e4m3fn), "weight_scale": stored_scale}


def spread(scale: torch.Tensor, shape: torch.Size, arguments: QuantizationArgs) -> torch.Tensor:
    """The scale of every element of a weight."""
    rows, columns = shape
    if arguments.strategy == QuantizationStrategy.TENSOR:
        return scale.reshape(1, 1).expand(rows, columns)
    if arguments.strategy == QuantizationStrategy.CHANNEL:
        return scale.reshape(rows, 1).expand(rows, columns)
    if arguments.strategy == QuantizationStrategy.BLOCK:
        height, width = arguments.block_structure
        return scale.repeat_interleave(height, 0)[:rows].repeat_interleave(width, 1)[:, :columns]
    raise ValueError(f"no layout of scales is known for the strategy `{arguments.strategy}`")


@contextlib.contextmanager
def quiet():
    """Keeps the reference's progress bars from the screen, and shows them after all when it fails."""
    noise = io.StringIO()
    try:
        with contextlib.redirect_stderr(noise), contextlib.redirect_stdout(noise):
            yield
    except BaseException:
        sys.stderr.write(noise.getvalue())
        raise
