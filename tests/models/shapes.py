"""Header shapes of models at their published size: see README.md.

    shapes.py [NAME…]            write shapes/NAME.json
    shapes.py --check [NAME…]    say where fresh shapes differ from the stored ones; exit code 1 if they do

Runs in the same Python as extract.py. Models are built on the meta device, so that they take no memory."""

import argparse
import copy
import difflib
import json
import os
import re
import sys

from archs import archs
from draft_names import draft_tensors
from forms import NUMBER, form, written
from hf_facts import hub_layout, hub_names
from hub import VARIANTS
from published_hybrids import MODELS as HYBRIDS
from published_latent import MODELS as LATENT
from published_transformers import MODELS as TRANSFORMERS

import tiny
import torch
import transformers
from transformers import CONFIG_MAPPING
from transformers.core_model_loading import revert_weight_conversion

MODELS = {**HYBRIDS, **LATENT, **TRANSFORMERS}
SHAPES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shapes")
# Keys that say how many layers there are; those of towers, of which two stand for all.
TOWER_LAYERS = {"depth", "vt_num_hidden_layers", "encoder_layers", "num_hidden_layers"}
TOWERS = ("vision_config", "audio_config", "talker_config", "code2wav_config", "code_predictor_config")
EXPERT = re.compile(r"^(.*\.experts)\.(\d+)\.(gate|up|down)_proj\.weight$")


def cut(config, layers, tower=False):
    """The config with the first layers only, and two of each tower."""
    depth = config.get("num_hidden_layers")
    out = {}
    for key, value in config.items():
        if isinstance(value, dict):
            value = cut(value, layers, tower or key in TOWERS)
        elif tower and key in TOWER_LAYERS:
            value = 2
        elif key == "num_hidden_layers":
            value = layers
        elif isinstance(value, (list, str)) and depth is not None and len(value) == depth:
            value = value[:layers]
        out[key] = value
    return out


def built(kind, config):
    """The model of a config, without memory."""
    config = {key: value for key, value in config.items() if key not in ("architectures", "model_type")}
    config = CONFIG_MAPPING[VARIANTS.get(kind, kind)].from_dict(config)
    cls = getattr(transformers, archs()[kind][0])
    with torch.device("meta"):
        return cls._from_config(config, dtype=torch.bfloat16).eval()


def on_disk(model, kind):
    """The names and shapes of the published files, as far as save_pretrained and `hub.py` give them."""
    state = model.state_dict()
    left_out = set(model._keys_to_ignore_on_save or ()) | set(getattr(model, "all_tied_weights_keys", None) or {})
    state = {name: tensor for name, tensor in state.items() if name not in left_out}
    disk = {name: (list(tensor.shape), []) for name, tensor in revert_weight_conversion(model, state).items()}
    return {name: shape for name, (shape, _) in hub_layout(model, hub_names(model, kind, disk)).items()}


def stacked(disk):
    """The same with the experts of a layer in two tensors, rows of gate and up after each other."""
    out, experts = {}, {}
    for name, shape in disk.items():
        found = EXPERT.match(name)
        if found:
            experts.setdefault((found[1], found[3] == "down"), []).append(shape)
        else:
            out[name] = shape
    for (module, is_down), shapes in experts.items():
        rows, columns = shapes[0]
        count = len(shapes) if is_down else len(shapes) // 2
        name = f"{module}.down_proj" if is_down else f"{module}.gate_up_proj"
        out[name] = [count, rows if is_down else 2 * rows, columns]
    return out


def shapes_of(published):
    """Names and shapes of a published model, and the config.json that goes with them."""
    config = cut(published.config, published.layers)
    model = built(published.kind, tiny.merge(copy.deepcopy(config), published.builds))
    disk = on_disk(model, published.kind)
    drafts = draft_tensors(published.next_tokens, config, disk) if published.next_tokens else {}
    if "decoder" in published.stacked:
        disk = stacked(disk)
    if "next-tokens" in published.stacked:
        drafts = stacked(drafts)
    return {**disk, **drafts}, config


def spans(numbers):
    """Numbers as text: `0-2,4`."""
    out = []
    for number in sorted(numbers):
        if out and number == out[-1][1] + 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in out)


def products(tuples):
    """The numbers of a form's stars as products of spans, one text for each star."""
    if not tuples[0]:
        return [[]]
    behind = {}
    for first, *rest in tuples:
        behind.setdefault(first, []).append(tuple(rest))
    alike = {}
    for first, rest in behind.items():
        alike.setdefault(tuple(sorted(rest)), []).append(first)
    return [[spans(firsts), *others] for rest, firsts in alike.items() for others in products(rest)]


def tensors_of(disk):
    """One entry for each form, shape, and product of numbers."""
    kinds = {}
    for name, shape in disk.items():
        numbers = tuple(int(number) for number in NUMBER.findall(name))
        kinds.setdefault((form(name), tuple(shape)), []).append(numbers)
    for (name, shape), numbers in sorted(kinds.items()):
        for at in products(numbers):
            yield {"form": name, "shape": list(shape), **({"at": at} if at else {})}


def text_of(name):
    published = MODELS[name]
    disk, config = shapes_of(published)
    text = published.config.get("text_config") or published.config.get("thinker_config", {}).get("text_config")
    return written(
        {
            "model": name,
            "facts": published.kind,
            "source": published.source,
            "layers": (text or published.config)["num_hidden_layers"],
            "dtype": "BF16",
            "config": config,
            "tensors": list(tensors_of(disk)),
        },
        ("tensors",),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="compare with the stored shapes")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in MODELS]
    if unknown:
        raise SystemExit(f"no published model of that name: {', '.join(unknown)}; there are: {', '.join(MODELS)}")
    os.makedirs(SHAPES, exist_ok=True)
    names, differing = args.names or list(MODELS), 0
    for name in names:
        path, text = os.path.join(SHAPES, f"{name}.json"), text_of(name)
        if not args.check:
            with open(path, "w") as file:
                file.write(text)
            print(f"{name}: {text.count(chr(10))} lines", flush=True)
            continue
        stored = ""
        if os.path.exists(path):
            with open(path) as file:
                stored = file.read()
        lines = difflib.unified_diff(
            stored.splitlines(), text.splitlines(), f"shapes/{name}.json", "fresh", lineterm="", n=0
        )
        difference = list(lines)
        differing += bool(difference)
        print(*difference, sep="\n", end="\n" if difference else "")
    if args.check:
        if not args.names:
            stale = sorted({name.removesuffix(".json") for name in os.listdir(SHAPES)} - set(MODELS))
            differing += len(stale)
            print(*(f"shapes/{name}.json: no such model any more" for name in stale), sep="\n")
        print(f"{max(0, len(names) - differing)} passed, {differing} failed")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
