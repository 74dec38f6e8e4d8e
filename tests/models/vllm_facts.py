"""vLLM's side: which layers a class builds, which names it asks the lists for, and where each tensor on disk goes.

The model is built on the CPU from config.json alone, once for each kind of quantization, and twice more with every name
on disk in the list of kept layers. In the first build every tensor on disk is loaded, each as one number of its own, by
the class's own load_weights. Started by extract.py."""

import json
import os
import sys
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vllm_build import CHANNELS, FP8, built, configured, drafts_alone, first_line, layers_of, loaded, where

from vllm.model_executor.model_loader.utils import get_model_architecture
from vllm.model_executor.models.registry import ModelRegistry

from forks import serve
from forms import NUMBER, form, grouped
from vllm_drafts import drafts_of


def mapper_of(cls):
    """What a class's mapper renames."""
    mapper = getattr(cls, "hf_to_vllm_mapper", None)
    if mapper is None:
        return None
    out = {}
    for kind in (
        "orig_to_new_regex",
        "orig_to_new_substr",
        "orig_to_new_prefix",
        "orig_to_new_suffix",
        "orig_to_new_stacked",
    ):
        value = getattr(mapper, kind, None)
        if value:
            out[kind.removeprefix("orig_to_new_")] = {
                getattr(key, "pattern", key): item
                if isinstance(item, (str, type(None)))
                else list(item)
                if isinstance(item, tuple)
                else str(item)
                for key, item in value.items()
            }
    return out


def names_on_disk(folder):
    """What a list of everything kept would hold: the module of each tensor on disk."""
    with open(os.path.join(folder, "tensors.json")) as file:
        return sorted({name.removesuffix(".weight") for name in json.load(file) if not name.endswith(".bias")})


def names_to_list(cls, asked):
    """What a list has to hold so that the class's mapper makes of it the name that is asked for."""
    mapper = getattr(cls, "hf_to_vllm_mapper", None)
    if mapper is None:
        return [asked]
    rename = mapper.get_rename_mapper()
    tries = [asked]
    for old, new in {**rename.orig_to_new_prefix, **rename.orig_to_new_substr}.items():
        if new and new in asked:
            tries.append(old + asked[len(new) :] if asked.startswith(new) else asked.replace(new, old, 1))
        elif not new and old:
            tries.append(old + asked)
    return [name for name in tries if rename.map_name(name) == asked][:1] or tries


def reaching(cls, folder, builds):
    """For each layer that no name on disk reaches: the names that keep it, tried by one more build."""
    out = {}
    for kind, quantization, key in (("fp8", FP8, "modules_to_not_convert"), ("ct", CHANNELS, "ignore")):
        if f"{kind}_listed" not in builds:
            continue
        listed, answers = builds[f"{kind}_listed"]
        wanted = {}
        for path, module in layers_of(listed):
            answer = answers.get(id(module))
            if answer is not None and (answer["quantized"] or answer["error"]):
                wanted[path] = sorted({name for asked in answer["names"] for name in names_to_list(cls, asked)})
        if not wanted:
            continue
        names = sorted(set(names_on_disk(folder)).union(*wanted.values()))
        model, answers = built(configured(folder, {**quantization, key: names}))
        for path, module in layers_of(model):
            if path in wanted:
                answer = answers.get(id(module))
                kept = answer is not None and not answer["quantized"] and not answer["error"]
                out.setdefault(path, {})[f"list_{kind}"] = wanted[path] if kept else None
    return out


def lines(builds, found, reach):
    """One entry for each layer of the model, by its path in vLLM."""
    inside = {}
    for name, origins in (found or {}).items():
        path = name.rpartition(".")[0]
        inside.setdefault(path, set()).update(form(origin) for origin in origins if not origin.endswith("bias"))
    asked = {
        kind: {path: answers.get(id(module)) for path, module in layers_of(other)}
        for kind, (other, answers) in builds.items()
    }
    for path, module in layers_of(builds["fp8"][0]):
        entry = {"name": path, "class": type(module).__name__}
        said = {kind: asked[kind].get(path) for kind in ("fp8", "ct", "online") if kind in asked}
        if said["fp8"] is not None and said["fp8"]["prefix"] != path:
            entry["prefix"] = form(said["fp8"]["prefix"])
            if NUMBER.findall(said["fp8"]["prefix"]) != NUMBER.findall(path):
                # Its numbers are not those of the path: one form says too little.
                entry["numbered"] = f"{path} as {said['fp8']['prefix']}"
        if found is not None:
            entry["from"] = sorted(
                {
                    origin
                    for name, origins in inside.items()
                    if name == path or name.startswith(path + ".")
                    for origin in origins
                }
            )
        if all(answer is None for answer in said.values()):
            entry["never_asked"] = True
            yield entry
            continue
        answers = {kind: bool(answer and answer["quantized"]) for kind, answer in said.items()}
        entry["quantized"] = answers["fp8"] if len(set(answers.values())) == 1 else answers
        entry.update(
            {f"{kind}_error": answer["error"][:200] for kind, answer in said.items() if answer and answer["error"]}
        )
        own = entry.get("prefix", form(path))
        if own == "":
            entry["nameless"] = True
        for kind in ("fp8", "ct"):
            names = sorted({form(name) for name in said[kind]["names"]}) if said.get(kind) else []
            if names and names != [own]:
                entry[f"asks_{kind}"] = names
        for kind in ("fp8", "ct"):
            answer = asked.get(f"{kind}_listed", {}).get(path)
            if answer is not None and (answer["quantized"] or answer["error"]):
                entry[f"listed_{kind}"] = "mixed" if answer["error"] else "quantized"
                names = reach.get(path, {}).get(f"list_{kind}")
                entry[f"list_{kind}"] = sorted({form(name) for name in names}) if names else None
        yield entry


BUILDS = {
    "ct": lambda kept: {"quantization": CHANNELS},
    "online": lambda kept: {"online": "fp8_per_tensor"},
    "fp8_listed": lambda kept: {"quantization": {**FP8, "modules_to_not_convert": kept}},
    "ct_listed": lambda kept: {"quantization": {**CHANNELS, "ignore": kept}},
}


def facts(job):
    """The facts of one model."""
    folder = job["folder"]
    with open(os.path.join(folder, "config.json")) as file:
        architectures = json.load(file).get("architectures") or []
    out = {"class": None}
    if not drafts_alone(folder) and not any(name in ModelRegistry.get_supported_archs() for name in architectures):
        # vLLM then tries the class of transformers.
        out["registered"] = False
    try:
        config = configured(folder, FP8)
        cls, _ = get_model_architecture(config.model_config)
        out["class"] = cls.__name__
        out["module"] = cls.__module__.removeprefix("vllm.").removeprefix("model_executor.models.")
        model, answers = built(config)
    except BaseException as error:
        traceback.print_exc()
        return {**out, "error": first_line(error), "where": where(error)}
    out["packed"] = model.packed_when_built
    out["mapper"] = mapper_of(cls)
    builds, reach, kept = {"fp8": (model, answers)}, {}, names_on_disk(folder)
    for kind, more in BUILDS.items():
        try:
            builds[kind] = built(configured(folder, **more(kept)))
        except BaseException as error:
            traceback.print_exc()
            out[f"{kind}_error"] = first_line(error)
    try:
        reach = reaching(cls, folder, builds)
    except BaseException as error:
        traceback.print_exc()
        out["list_error"] = first_line(error)
    found = loads(model, folder, out)
    out["layers"] = grouped(lines(builds, found, reach))
    drafts = None if drafts_alone(folder) else drafts_of(folder)
    if drafts:
        out["draft"] = drafts
    return out


def loads(model, folder, out):
    """Loads every tensor on disk, puts down what was never written or went nowhere, and returns where each went."""
    with open(os.path.join(folder, "tensors.json")) as file:
        disk = json.load(file)
    try:
        found, never = loaded(model, disk)
    except BaseException as error:
        traceback.print_exc()
        out["load_error"], out["load_where"] = first_line(error), where(error)
        return None
    if never:
        out["never_written"] = sorted({form(name) for name in never})
    # A Mamba's A is loaded as -exp(A_log): a number that is no longer found.
    unused = {form(name) for name in disk if not name.endswith("A_log")} - {
        form(name) for names in found.values() for name in names
    }
    if unused:
        out["not_loaded"] = sorted(unused)
    return found


if __name__ == "__main__":
    serve({"facts": facts})
