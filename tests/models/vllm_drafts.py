"""Draft (MTP) layers: which class vLLM builds for a model type, and what it asks and loads."""

import copy
import json
import os
import tempfile
import traceback

import vllm_setup  # noqa: F401
from vllm.config import SpeculativeConfig
from vllm.model_executor.model_loader.utils import get_model_architecture
from vllm.model_executor.models.registry import _SPECULATIVE_DECODING_MODELS

from draft_names import NEXT_LAYER, OWN_STACK, draft_tensors
from forms import form, grouped
from vllm_build import CHANNELS, FP8, built, configured, first_line, layers_of, loaded, speculative, where

# Tells how many draft layers there are; a model type reads one of them.
COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")


def with_draft(raw):
    """config.json of a model that has one draft layer."""
    out = copy.deepcopy(raw)
    for place in (out, out.get("text_config")):
        if isinstance(place, dict):
            place.update({key: 1 for key in COUNTS})
    return out


def class_for(raw):
    """The architecture that vLLM rewrites config.json to when it drafts with the model itself, or None."""
    from transformers import AutoConfig

    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(with_draft(raw), file)
        config = SpeculativeConfig.hf_config_override(AutoConfig.from_pretrained(folder))
    found = (getattr(config, "architectures", None) or [None])[0]
    return found if found in _SPECULATIVE_DECODING_MODELS and found not in (raw.get("architectures") or []) else None


def drafts_of(folder):
    """The facts of the draft class, or None where there is none."""
    with open(os.path.join(folder, "config.json")) as file:
        raw = json.load(file)
    with open(os.path.join(folder, "tensors.json")) as file:
        disk = json.load(file)
    try:
        architecture = class_for(raw)
    except Exception:
        traceback.print_exc()
        return None
    if architecture is None:
        return None
    out = {"architecture": architecture, "class": _SPECULATIVE_DECODING_MODELS[architecture][1]}
    builds = {}
    with tempfile.TemporaryDirectory() as place:
        with open(os.path.join(place, "config.json"), "w") as file:
            json.dump(with_draft(raw), file)
        try:
            for kind, quantization in (("fp8", FP8), ("ct", CHANNELS)):
                config = speculative(configured(place, quantization, draft=SpeculativeConfig.hf_config_override))
                cls, _ = get_model_architecture(config.model_config)
                builds[kind] = built(config)
        except BaseException as error:
            traceback.print_exc()
            return {**out, "error": first_line(error), "where": where(error)}
    model = builds["fp8"][0]
    out["packed"] = dict(getattr(model, "packed_modules_mapping", None) or {})
    found, tensors = None, draft_tensors(out["class"], raw, disk) if out["class"] in NEXT_LAYER | OWN_STACK else {}
    if tensors:
        try:
            found, never = loaded(
                model,
                {
                    **tensors,
                    **{
                        name: disk[name]
                        for name in (
                            "lm_head.weight",
                            "model.embed_tokens.weight",
                            "model.language_model.embed_tokens.weight",
                        )
                        if name in disk
                    },
                },
            )
            if never:
                out["never_written"] = sorted({form(name) for name in never})
            unused = {form(name) for name in tensors} - {form(name) for names in found.values() for name in names}
            if unused:
                out["not_loaded"] = sorted(unused)
        except BaseException as error:
            traceback.print_exc()
            out["load_error"], out["load_where"] = first_line(error), where(error)
    out["layers"] = grouped(draft_lines(builds, found))
    return out


def draft_lines(builds, found):
    """One entry for each layer of the draft."""
    answers = {
        kind: {path: said.get(id(module)) for path, module in layers_of(model)}
        for kind, (model, said) in builds.items()
    }
    for path, module in layers_of(builds["fp8"][0]):
        entry = {"name": path, "class": type(module).__name__}
        said = answers["fp8"].get(path)
        if found is not None:
            entry["from"] = sorted(
                {
                    form(origin)
                    for name, origins in found.items()
                    if name.startswith(path + ".")
                    for origin in origins
                    if not origin.endswith("bias")
                }
            )
        if said is None:
            entry["never_asked"] = True
        else:
            entry["quantized"] = said["quantized"]
            entry["asks_fp8"] = sorted({form(name) for name in said["names"]})
            other = answers["ct"].get(path)
            if other is not None:
                entry["asks_ct"] = sorted({form(name) for name in other["names"]})
            if said["prefix"] == "":
                entry["nameless"] = True
        yield entry
