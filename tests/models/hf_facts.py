"""transformers' side: what a tiny model of each type has on disk, and which module each tensor belongs to.

The model is built on the meta device. Each parameter then gets a number of its own, as one value at every place of its
shape, and goes through the renaming and splitting that save_pretrained does; the numbers in what comes out say which
parameters each tensor on disk was made of. Started by extract.py."""

import json
import os
import re
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
warnings.filterwarnings("ignore")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import torch
import transformers
import transformers.modeling_utils, transformers.integrations, transformers.quantizers.auto  # noqa: F401
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import Transpose, WeightConverter, revert_weight_conversion

import tiny
from forks import serve
from forms import grouped
from hub import FLAT, HUB_KEYS, HUB_NAMES, VARIANTS
from overrides import OVERRIDES

torch.set_num_threads(1)
MAX_PARAMS = 400_000_000


def dotted(patch):
    """Keys `a.b` as nested keys."""
    out = {}
    for key, value in patch.items():
        parts, place = key.split("."), out
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    return out


def config_of(kind):
    """The default config of a type, shrunk."""
    base = CONFIG_MAPPING[VARIANTS.get(kind, kind)]()
    raw = base.to_dict()
    raw.pop("transformers_version", None)
    raw.pop("architectures", None)
    small = tiny.tame_tokens(tiny.shrink(raw))
    return type(base).from_dict(tiny.merge(small, dotted(OVERRIDES.get(kind, {}))))


def owners(model):
    """For each parameter's name: its module, and the part of the model that it belongs to.

    The part is the class of the outermost submodel below the bare model (a tower, the language model), or of the child
    that holds it (a projector); the model's own class for what hangs on the model itself (a head).
    """
    out = {}
    for path, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            out[f"{path}.{name}" if path else name] = (module, part_of(model, path))
    return out


def part_of(model, path):
    """The class of the submodel at or above a module's path."""
    bare = getattr(model, model.base_model_prefix, None) if model.base_model_prefix else None
    place, below = model, False
    for part in path.split(".") if path else ():
        place = getattr(place, part)
        if place is bare:
            below = True
        elif isinstance(place, PreTrainedModel) or (below or bare is None) and has_submodels(bare or model):
            return type(place).__name__
        elif not below and bare is not None:
            break
        else:
            return type(bare or model).__name__
    return type(model).__name__ if not below else type(bare).__name__


def has_submodels(model):
    """A model made of several: one of its children is a model of its own."""
    return any(isinstance(child, PreTrainedModel) for child in model.children())


def numbered_state(model):
    """The state dict, each parameter as its own number at every place, and the names by number."""
    names, state, seen = [], {}, {}
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in parameters and id(tensor) in seen:
            # A second name of a tied parameter is not saved.
            continue
        seen[id(tensor)] = name
        names.append(name)
        state[name] = torch.full((1,), float(len(names)), dtype=torch.float32).expand(
            tensor.shape if tensor.dim() else (1,)
        )
        if not tensor.dim():
            state[name] = torch.tensor(float(len(names)))
    return names, state


def on_disk(model):
    """Each tensor that save_pretrained writes: its shape and the parameters it was made of."""
    tied = set((getattr(model, "all_tied_weights_keys", None) or {}).keys())
    names, state = numbered_state(model)
    for name in model._keys_to_ignore_on_save or ():
        state.pop(name, None)
    for name in tied:
        state.pop(name, None)
    out = {}
    for name, tensor in revert_weight_conversion(model, state).items():
        values = sorted({int(value) for value in values_of(tensor) if value == int(value) and 0 < value <= len(names)})
        out[name] = (list(tensor.shape), [names[value - 1] for value in values])
    return out


def values_of(tensor):
    """The distinct values of a tensor whose parts are constants."""
    if not tensor.numel():
        return []
    if all(step == 0 or size == 1 for step, size in zip(tensor.stride(), tensor.shape)):
        return [float(tensor.flatten()[0])]
    return tensor.unique().tolist()


TOWER = (
    r"^((?:.+\.)?(?:vision_tower|vision_model|image_encoder))"
    r"\.((?:embeddings|encoder|post_layernorm|pre_layrnorm|head)\..*)$",
    r"\1.vision_model.\2",
)


def hub_names(model, kind, disk):
    """The names of the published files where transformers 5 reads those and writes others.

    The towers of SigLIP and CLIP have a `vision_model` in theirs.
    """
    rules = list(HUB_NAMES.get(kind, ()))
    if any(
        type(module).__name__ in ("SiglipVisionModel", "Siglip2VisionModel", "CLIPVisionModel")
        for module in model.modules()
    ):
        rules.append(TOWER)
    out = {}
    for name, entry in disk.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        out[name] = entry
    return out


def hub_layout(model, disk):
    """The published shape of stacked experts that transformers turns round on loading and leaves so on saving."""
    turned = [
        conversion.source_patterns[0]
        for conversion in get_model_conversion_mapping(model, add_legacy=False)
        if isinstance(conversion, WeightConverter)
        and all(isinstance(step, Transpose) for step in conversion.operations)
    ]
    return {
        name: (shape[:-2] + shape[:-3:-1], origins)
        if any(pattern in name for pattern in turned) and len(shape) == 3
        else (shape, origins)
        for name, (shape, origins) in disk.items()
    }


def saved_config(model, kind, folder):
    """Writes config.json as save_pretrained and the hub have it."""
    config = model.config
    config.architectures = [type(model).__name__]
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        raw = json.load(file)
    raw = tiny.merge(raw, HUB_KEYS.get(kind, {}))
    if kind in FLAT:
        raw = {**raw["text_config"], **raw}
    with open(path, "w") as file:
        json.dump(raw, file, indent=2)
    return raw


def module_name(parameter):
    return parameter.rpartition(".")[0]


def lines(model, disk):
    """One entry for each tensor on disk."""
    modules = owners(model)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for name, (shape, origins) in disk.items():
        entry = {"name": name}
        found = [modules[origin] for origin in origins if origin in modules]
        if not found:
            entry["class"] = "buffer"
        else:
            entry["class"] = "+".join(sorted({type(module).__name__ for module, _ in found}))
            base = {base_of(module, origin) for (module, _), origin in zip(found, [o for o in origins if o in modules])}
            if base != {entry["class"]}:
                entry["is"] = "+".join(sorted(base))
            entry["part"] = "+".join(sorted({part for _, part in found}))
            if head is not None and all(module is head for module, _ in found):
                entry["head"] = True
        entry["shape"] = shape
        if origins and origins != [name]:
            entry["in_transformers"] = sorted(set(origins))
        yield entry


def base_of(module, name):
    """The kind of module to a quantizer: the class of torch that it derives from, else a parameter of its own."""
    for kind in (
        torch.nn.Linear,
        torch.nn.Embedding,
        torch.nn.Conv1d,
        torch.nn.Conv2d,
        torch.nn.Conv3d,
        torch.nn.ConvTranspose1d,
        torch.nn.LayerNorm,
        torch.nn.BatchNorm2d,
    ):
        if isinstance(module, kind):
            return kind.__name__
    if type(module).__name__ == "Conv1D":
        return "Conv1D"
    return "Parameter"


def facts(job):
    """The facts of one type, its config.json written to a folder, and its tensors for the servers' side."""
    kind, folder = job["type"], job["folder"]
    config = config_of(kind)
    cls = getattr(transformers, job["cls"])
    with torch.device("meta"):
        model = cls._from_config(config, dtype=torch.bfloat16).eval()
    total = sum(parameter.numel() for parameter in model.parameters())
    if total > MAX_PARAMS:
        worst = sorted(((p.numel(), n, list(p.shape)) for n, p in model.named_parameters()), reverse=True)[:4]
        return {"error": f"too big: {total / 1e6:.0f} M parameters {worst}"}
    disk = hub_layout(model, hub_names(model, kind, on_disk(model)))
    raw = saved_config(model, kind, folder)
    tensors = []
    for line in grouped(starred(lines(model, disk))):
        tensors.append(line)
    with open(os.path.join(folder, "tensors.json"), "w") as file:
        json.dump({name: shape for name, (shape, _) in disk.items()}, file)
    return {
        "architecture": raw["architectures"][0],
        "parameters": total,
        "tensors": tensors,
        "tied": bool(getattr(config, "tie_word_embeddings", False)),
    }


def starred(entries):
    """Names of transformers inside an entry as forms, and none where it is the form on disk itself."""
    from forms import form

    for entry in entries:
        if "in_transformers" in entry:
            names = sorted({form(name) for name in entry["in_transformers"]})
            entry["in_transformers"] = names[0] if len(names) == 1 else names
            if entry["in_transformers"] == form(entry["name"]):
                del entry["in_transformers"]
        yield entry


if __name__ == "__main__":
    serve({"facts": facts})
