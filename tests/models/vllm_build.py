"""Models of vLLM on the CPU, built from config.json alone: what their layers ask, and which tensor goes where."""

import contextlib
import json
import math
import os
import traceback
import types

import vllm_setup as setup

import torch
from vllm.config import (
    CacheConfig,
    CompilationConfig,
    DeviceConfig,
    LoadConfig,
    ModelConfig,
    SpeculativeConfig,
    VllmConfig,
    set_current_vllm_config,
)
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
from vllm.model_executor.model_loader.utils import get_model_architecture, initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "fmt": "e4m3"}
CHANNELS = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "quantization_status": "compressed",
    "ignore": [],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
            "input_activations": {
                "num_bits": 8,
                "type": "float",
                "strategy": "token",
                "symmetric": True,
                "dynamic": True,
            },
        }
    },
}
MARK = -7.0e37


def configured(folder, quantization=None, online=None, draft=None):
    """vLLM's configuration of a folder that has a config.json and nothing else; with `draft`, as of a draft model."""
    more = {"quantization": online} if online else {}
    only_drafts = drafts_alone(folder)
    if only_drafts:
        draft = SpeculativeConfig.hf_config_override
    if model_alone(folder):
        more["runner"] = "pooling"
    if draft:
        more["runner"] = "draft"
        more["hf_overrides"] = lambda config: draft(quantized_config(config, quantization))
    elif quantization:
        more["hf_overrides"] = {"quantization_config": quantization}
    model = ModelConfig(
        model=folder,
        tokenizer=folder,
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=128,
        enforce_eager=True,
        trust_remote_code=False,
        **more,
    )
    common = {
        "model_config": model,
        "device_config": DeviceConfig("cpu"),
        "load_config": LoadConfig(),
        "compilation_config": CompilationConfig(mode=0),
    }
    try:
        config = VllmConfig(**common)
    except Exception as error:
        if "prefix-caching" not in str(error):
            raise
        config = VllmConfig(**common, cache_config=CacheConfig(enable_prefix_caching=True))
    return speculative(config) if only_drafts else config


def model_alone(folder):
    """A bare model, which only embeds."""
    with open(os.path.join(folder, "config.json")) as file:
        return (json.load(file).get("architectures") or [""])[0].endswith("Model")


def drafts_alone(folder):
    """A model that only drafts for another one."""
    with open(os.path.join(folder, "config.json")) as file:
        return json.load(file).get("model_type") in ("gemma4_assistant", "gemma4_unified_assistant")


class Speculation(types.SimpleNamespace):
    """A speculative configuration that answers None to what it was not told."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def speculative(config):
    """A configuration of vLLM in which the model drafts for itself."""
    model = config.model_config
    speculation = Speculation(
        draft_model_config=model,
        target_model_config=model,
        num_speculative_tokens=1,
        method="mtp",
        use_eagle=lambda: True,
    )
    object.__setattr__(config, "speculative_config", speculation)
    return config


def quantized_config(config, quantization):
    """The config of transformers, with a quantization."""
    if quantization:
        config.quantization_config = quantization
    return config


def started(config):
    """The distributed state of one process, once."""
    if not torch.distributed.is_initialized():
        init_distributed_environment(1, 0, f"tcp://127.0.0.1:{20000 + os.getpid() % 20000}", 0, "gloo")
        initialize_model_parallel(1, 1)


def built(config):
    """The model, and what its layers asked."""
    setup.ASKED.clear()
    with set_current_vllm_config(config):
        started(config)
        with set_default_torch_dtype(torch.bfloat16), torch.device("cpu"), packed_as_at_first(config):
            model = initialize_model(vllm_config=config)
            object.__setattr__(model, "packed_when_built", dict(getattr(model, "packed_modules_mapping", None) or {}))
    return model, {id(entry["layer"]): entry for entry in setup.ASKED}


@contextlib.contextmanager
def packed_as_at_first(config):
    """Takes back what a build adds to its class's `packed_modules_mapping`, which classes without one even share.

    A quantization has it by reference, and models inside the model write theirs into it as they are built. A server builds a
    model once: what it asks before that knows nothing of them.
    """
    cls = get_model_architecture(config.model_config)[0]
    packed = getattr(cls, "packed_modules_mapping", None)
    before = dict(packed) if isinstance(packed, dict) else None
    try:
        yield
    finally:
        if before is not None:
            packed.clear()
            packed.update(before)


def first_line(error):
    """What went wrong, in one sentence: of a validation error, what it holds against its input."""
    text = str(error)
    if "validation error" in text and "\n" in text:
        text = text.partition("\n")[2].partition(" [type=")[0]
    return f"{type(error).__name__}: {' '.join(text.split()).partition('. ')[0]}"[:300].strip()


def where(error):
    """The innermost place in vLLM that an error came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}vllm{os.sep}" in f.filename]
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno} {frames[-1].name}" if frames else ""


def layers_of(model):
    """Every module that has weights a quantization may be asked for, with its path."""
    for path, module in model.named_modules():
        if (
            isinstance(module, (LinearBase, RoutedExperts, VocabParallelEmbedding, torch.nn.Linear))
            or type(module).__name__ == "Conv2dLayer"
        ):
            yield path, module


def code(number):
    """A number as a float that bfloat16 holds exactly: seven bits of it as the fraction, the rest as the exponent."""
    return (1 + number % 128 / 128) * 2.0 ** (number // 128 - 40)


def decoded(value):
    """The number behind a float, or None where it is none."""
    if not 0 < value < float("inf"):
        return None
    fraction, exponent = math.frexp(value)
    low = (2 * fraction - 1) * 128
    return (exponent + 39) * 128 + int(low) if low == int(low) else None


def loaded(model, disk):
    """Parameter name -> the tensors on disk found in it; and the parameters that something is left unwritten of.

    `disk` has the shape of each tensor by its name.
    """
    names = list(disk)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data.fill_(MARK)

    def tensors():
        for number, name in enumerate(names):
            yield name, torch.full(disk[name], code(number), dtype=torch.bfloat16)

    model.load_weights(tensors())
    found, never = {}, []
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            continue
        values = parameter.detach().float().unique().tolist()
        numbers = {decoded(value) for value in values} - {None}
        found[name] = [names[number] for number in sorted(numbers) if 0 <= number < len(names)]
        if min(values, default=0) <= 0.9 * MARK:
            never.append(name)
    return found, never
