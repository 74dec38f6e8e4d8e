"""What a result says about itself: `config.json` as the reference and the servers read it, and the files beside it."""

import json
import re
from pathlib import Path

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig
from compressed_tensors.utils import match_name
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.quantizers.quantizers_utils import should_convert_module

import checkpoints
import reference
from tensors import Tensor

# How vLLM renames the modules of a Qwen3-VL checkpoint before it holds them against an ignore list.
VLLM_PREFIXES = {"model.visual.": "visual.", "model.language_model.": "language_model.model.",
                 "lm_head.": "language_model.lm_head."}
# What decides how a server reads the numbers; observers and their arguments are history by then.
MEANINGFUL = ["num_bits", "type", "symmetric", "strategy", "group_size", "block_structure", "dynamic", "actorder",
              "scale_dtype", "zp_dtype"]


# Keys of `quantization_config` that a release has and we do not, and the other way round; they say nothing.
OTHER_KEYS = {"0.19": {"sparsity_config"}, "0.20": {"moe_sparsity_config", "sparsity_config"}}
# Keys of arguments that a release leaves out, where they are null, empty or follow from the others.
LEFT_OUT = {"0.19": set(),
            "0.20": {"actorder", "block_structure", "observer", "observer_kwargs", "scale_dtype", "zp_dtype"}}


def compressed_tensors_faults(output: Path, made: Path, found: dict[str, Tensor]) -> list[str]:
    """Holds a compressed-tensors config to the reference's, and its ignore list to the tensors."""
    ours, theirs = _quantization_config(output), _quantization_config(made)
    keys = ["quant_method", "format", "quantization_status", "kv_cache_scheme"]
    faults = [f"quantization_config.{key}: expected {theirs[key]!r}, found {ours.get(key)!r}"
              for key in keys if ours.get(key) != theirs[key]]
    faults += _key_faults(ours, theirs)
    groups = list(QuantizationConfig.model_validate(ours).config_groups.values())
    (expected,) = QuantizationConfig.model_validate(theirs).config_groups.values()
    if len(groups) != 1:
        return [*faults, f"quantization_config: expected one config group, found {len(groups)}"]
    (group,) = groups
    if group.targets != expected.targets or group.format != expected.format:
        faults.append(f"config group: expected targets {expected.targets} and format {expected.format}, "
                      f"found {group.targets} and {group.format}")
    faults += _argument_faults("weights", expected.weights, group.weights)
    faults += _argument_faults("input_activations", expected.input_activations, group.input_activations)
    for module, is_quantized in _linear_layers(output, found, "weight_scale"):
        by_reference = any(match_name(module, entry) for entry in ours["ignore"])
        by_vllm = any(_vllm_ignores(entry, module) for entry in ours["ignore"])
        faults += _list_faults("ignore", module, is_quantized, {"compressed-tensors": by_reference, "vLLM": by_vllm})
    return faults


def fp8_faults(output: Path, found: dict[str, Tensor]) -> list[str]:
    """Holds a config of the official layout to what vLLM, SGLang and transformers read."""
    ours = _quantization_config(output)
    expected = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "fmt": "e4m3"}
    faults = [f"quantization_config.{key}: expected {value!r}, found {ours.get(key)!r}"
              for key, value in expected.items() if ours.get(key) != value]
    listed = ours.get("ignored_layers")
    if listed is None or listed != ours.get("modules_to_not_convert"):
        return [*faults, "`ignored_layers` and `modules_to_not_convert` must both be there, and equal"]
    for module, is_quantized in _linear_layers(output, found, "weight_scale_inv"):
        by_vllm = any(_vllm_name(entry) == _vllm_name(module) for entry in listed)
        by_transformers = not should_convert_module(module, listed)
        readers = {"vLLM": by_vllm, "transformers": by_transformers}
        faults += _list_faults("ignored_layers", module, is_quantized, readers)
    return faults


def carried_over_faults(model: Path, output: Path) -> list[str]:
    """Everything of the source but the weights must have come along unchanged."""
    source, result = (json.loads((place / "config.json").read_text()) for place in (model, output))
    result.pop("quantization_config", None)
    faults = []
    if json.dumps(source) != json.dumps(result):
        faults.append("config.json: something beside `quantization_config` changed, if only the order of the keys")
    for name, text in checkpoints.SIDE_FILES.items():
        copy = output / name
        if not copy.exists() or copy.read_bytes() != text.encode():
            faults.append(f"`{name}` was not copied byte for byte")
    return faults


def _quantization_config(directory: Path) -> dict:
    return json.loads((directory / "config.json").read_text())["quantization_config"]


def _key_faults(ours: dict, theirs: dict) -> list[str]:
    """Keys that only one of the two has, but for those that are known of the reference's release."""
    odd = (ours.keys() ^ theirs.keys()) - OTHER_KEYS[reference.RELEASE]
    faults = [f"quantization_config: only one of the two has {key!r}" for key in sorted(odd)]
    (our_group,), (their_group,) = (config["config_groups"].values() for config in (ours, theirs))
    for which in ("weights", "input_activations"):
        our_keys, their_keys = (set(group[which] or ()) for group in (our_group, their_group))
        odd = (their_keys - our_keys) | (our_keys - their_keys - LEFT_OUT[reference.RELEASE])
        faults += [f"{which}: only one of the two has {key!r}" for key in sorted(odd)]
    return faults


def _argument_faults(which: str, expected: QuantizationArgs | None, found: QuantizationArgs | None) -> list[str]:
    if expected is None or found is None:
        return [f"{which}: expected {expected!r}, found {found!r}"] * (expected is not found)
    return [f"{which}.{field}: expected {getattr(expected, field)!r}, found {getattr(found, field)!r}"
            for field in MEANINGFUL if getattr(expected, field) != getattr(found, field)]


def _list_faults(key: str, module: str, is_quantized: bool, ignored_by: dict[str, bool]) -> list[str]:
    return [f"{key}: {reader} takes `{module}` for {'un' * ignored}quantized, which it is not"
            for reader, ignored in ignored_by.items() if ignored == is_quantized]


def _linear_layers(output: Path, found: dict[str, Tensor], scale: str) -> list[tuple[str, bool]]:
    """Every linear layer that a server builds, and whether the file holds it quantized; the output head apart, which
    servers treat in their own ways."""
    config = AutoConfig.from_pretrained(output)
    del config.quantization_config
    automatic = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    with torch.device("meta"):
        model = automatic.from_config(config)
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    layers = [name for name in linear if name != "lm_head"]
    missing = [name for name in layers if f"{name}.weight" not in found and f"{name}.weight_packed" not in found]
    assert layers and not missing, f"no weight is stored for {missing}"
    return [(name, f"{name}.{scale}" in found) for name in layers]


def _vllm_ignores(entry: str, module: str) -> bool:
    if entry.startswith("re:"):
        return re.match(entry[3:], _vllm_name(module)) is not None
    return _vllm_name(entry) == _vllm_name(module)


def _vllm_name(module: str) -> str:
    for prefix, new in VLLM_PREFIXES.items():
        if module.startswith(prefix):
            return new + module.removeprefix(prefix)
    return module
