"""vLLM's side: which layers a model class builds, which names it asks the lists for, and where each tensor on disk goes.

The model is built on the CPU from config.json alone, once for each kind of quantization. In the first build every tensor
on disk is then loaded, each as one number of its own, by the class's own load_weights. Started by extract.py."""
import inspect
import json
import os
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import vllm_setup as setup

import torch
from vllm.config import CacheConfig, CompilationConfig, DeviceConfig, LoadConfig, ModelConfig, VllmConfig, set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.quantization import get_quantization_config
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.utils import get_model_architecture, initialize_model
from vllm.model_executor.models.registry import ModelRegistry
from vllm.utils.torch_utils import set_default_torch_dtype

from forks import serve
from forms import form, grouped

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128], "fmt": "e4m3"}
CHANNELS = {
    "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed", "ignore": [],
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False},
        "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "symmetric": True, "dynamic": True}}},
}
MARK = 12345678.0


def configured(folder, quantization=None, online=None):
    """vLLM's configuration of a folder that has a config.json and nothing else."""
    more = {"quantization": online} if online else {}
    if quantization:
        more["hf_overrides"] = {"quantization_config": quantization}
    model = ModelConfig(model=folder, tokenizer=folder, skip_tokenizer_init=True, dtype="float32", max_model_len=128, enforce_eager=True, trust_remote_code=False, **more)
    common = {"model_config": model, "device_config": DeviceConfig("cpu"), "load_config": LoadConfig(), "compilation_config": CompilationConfig(mode=0)}
    try:
        return VllmConfig(**common)
    except Exception as error:
        if "prefix-caching" not in str(error):
            raise
        return VllmConfig(**common, cache_config=CacheConfig(enable_prefix_caching=True))


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
        with set_default_torch_dtype(torch.float32), torch.device("cpu"):
            model = initialize_model(vllm_config=config)
    return model, {id(entry["layer"]): entry for entry in setup.ASKED}


def first_line(error):
    """What went wrong, on one line: of a validation error, the first thing that it holds against its input."""
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    if "validation error" in lines[0] and len(lines) > 1:
        lines[0] = f"{type(error).__name__}: " + lines[-2 if len(lines) > 2 else -1].strip().partition(" [type=")[0]
    return lines[0][:300]


def where(error):
    """The innermost place in vLLM that an error came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}vllm{os.sep}" in f.filename]
    return f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno} {frames[-1].name}" if frames else ""


def layers_of(model):
    """Every module that has weights a quantization may be asked for, with its path."""
    for path, module in model.named_modules():
        if isinstance(module, (LinearBase, RoutedExperts, VocabParallelEmbedding, torch.nn.Linear)) or type(module).__name__ == "Conv2dLayer":
            yield path, module


def loaded(model, folder):
    """Parameter name -> the tensors on disk found in it; and the parameters that nothing was written to."""
    with open(os.path.join(folder, "tensors.json")) as file:
        disk = json.load(file)
    names = list(disk)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data.fill_(MARK)

    def tensors():
        for number, name in enumerate(names, 1):
            yield name, torch.full((1,), float(number)).expand(disk[name] or (1,)).reshape(disk[name]).clone()

    model.load_weights(tensors())
    found, never = {}, []
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point():
            continue
        values = parameter.detach().float().unique().tolist()
        found[name] = [names[int(v) - 1] for v in values if v == int(v) and 0 < v <= len(names)]
        if MARK in values:
            never.append(name)
    return found, never


def mapper_of(cls):
    """What a class's mapper renames."""
    mapper = getattr(cls, "hf_to_vllm_mapper", None)
    if mapper is None:
        return None
    out = {}
    for kind in ("orig_to_new_regex", "orig_to_new_substr", "orig_to_new_prefix", "orig_to_new_suffix", "orig_to_new_stacked"):
        value = getattr(mapper, kind, None)
        if value:
            out[kind.removeprefix("orig_to_new_")] = {getattr(key, "pattern", key): item if isinstance(item, (str, type(None))) else list(item) if isinstance(item, tuple) else str(item) for key, item in value.items()}
    return out


def names_on_disk(folder):
    """What a list of everything kept would hold: the module of each tensor on disk."""
    with open(os.path.join(folder, "tensors.json")) as file:
        return sorted({name.removesuffix(".weight") for name in json.load(file) if not name.endswith(".bias")})


def lines(model, builds, found):
    """One entry for each layer of the model, by its path in vLLM."""
    inside = {}
    for name, origins in (found or {}).items():
        path = name.rpartition(".")[0]
        inside.setdefault(path, set()).update(form(origin) for origin in origins if not origin.endswith(".bias"))
    asked = {kind: {path: answers.get(id(module)) for path, module in layers_of(other)} for kind, (other, answers) in builds.items()}
    for path, module in layers_of(model):
        entry = {"name": path, "class": type(module).__name__}
        for kind in asked:
            answer = asked[kind].get(path)
            if answer is None:
                continue
            if kind.endswith("_listed"):
                # Every name on disk is in the list: does it reach this layer?
                if answer["quantized"] or answer["error"]:
                    entry[kind] = "mixed" if answer["error"] else "quantized"
                continue
            if kind != "online":
                entry[f"asks_{kind}"] = answer["names"]
            entry[kind] = answer["quantized"]
            if answer["prefix"] != path and kind == "fp8":
                entry["prefix"] = form(answer["prefix"])
            if answer["error"]:
                entry[f"{kind}_error"] = answer["error"][:200]
        if not any(asked[kind].get(path) for kind in asked):
            entry["never_asked"] = True
        from_disk = sorted(origin for name, origins in inside.items() if name == path or name.startswith(path + ".") for origin in origins)
        if from_disk:
            entry["from"] = from_disk
        elif found is not None:
            entry["from"] = []
        yield entry


def simplified(entries):
    """Entries with forms for names, and nothing said twice."""
    for entry in entries:
        own = form(entry.get("prefix", form(entry["name"])))
        for kind in ("fp8", "ct"):
            names = entry.pop(f"asks_{kind}", None)
            if names is not None:
                names = sorted({form(name) for name in names})
                if names != [own]:
                    entry[f"asks_{kind}"] = names
        if entry.get("prefix") == "":
            entry["nameless"] = True
        yield entry


def facts(job):
    """The facts of one model."""
    folder = job["folder"]
    with open(os.path.join(folder, "config.json")) as file:
        architectures = json.load(file).get("architectures") or []
    known = [name for name in architectures if name in ModelRegistry.get_supported_archs()]
    if not known:
        return {"class": None}
    out = {"class": None}
    try:
        config = configured(folder, FP8)
        cls, _ = get_model_architecture(config.model_config)
        out["class"] = cls.__name__
        out["file"] = cls.__module__.rpartition(".")[2]
        model, answers = built(config)
    except BaseException as error:
        traceback.print_exc()
        return {**out, "error": first_line(error), "where": where(error)}
    out["packed"] = getattr(model, "packed_modules_mapping", None) or getattr(cls, "packed_modules_mapping", None) or {}
    out["mapper"] = mapper_of(cls)
    builds = {"fp8": (model, answers)}
    kept = names_on_disk(folder)
    others = {
        "ct": {"quantization": CHANNELS},
        "online": {"online": "fp8_per_tensor"},
        "fp8_listed": {"quantization": {**FP8, "modules_to_not_convert": kept}},
        "ct_listed": {"quantization": {**CHANNELS, "ignore": kept}},
    }
    for kind, more in others.items():
        try:
            builds[kind] = built(configured(folder, **more))
        except BaseException as error:
            traceback.print_exc()
            out[f"{kind}_error"] = first_line(error)
    found = None
    try:
        found, never = loaded(model, folder)
        missing = sorted({form(name) for name in never})
        if missing:
            out["never_written"] = missing
        with open(os.path.join(folder, "tensors.json")) as file:
            unused = sorted({form(name) for name in json.load(file)} - {form(name) for names in found.values() for name in names})
        if unused:
            out["not_loaded"] = unused
    except BaseException as error:
        traceback.print_exc()
        out["load_error"] = first_line(error)
        out["load_where"] = where(error)
    out["layers"] = grouped(simplified(lines(model, builds, found)))
    return out


if __name__ == "__main__":
    serve({"facts": facts})
