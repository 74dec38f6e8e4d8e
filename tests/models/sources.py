"""What is read from the source of servers alone: vLLM's registry of classes, and SGLang's model classes."""

import ast
import difflib
import json
import os

import transformers
import yaml
from sglang_facts import facts_of
from wheel import SGLANG, VERSION, unpacked

HERE = os.path.dirname(os.path.abspath(__file__))
CATALOGUE = os.path.join(HERE, "..", "..", "models")
# Draft models and the classes that stand for any of transformers are no models of their own.
NO_MODELS = ("SPECULATIVE_DECODING", "TRANSFORMERS_BACKEND", "PREVIOUSLY_SUPPORTED", "OOT_SUPPORTED")


def registry_of(root):
    """Class of config.json -> the module of vLLM that serves it, and whether transformers has a class of this name."""
    with open(os.path.join(root, "vllm", "model_executor", "models", "registry.py")) as file:
        body = ast.parse(file.read()).body
    found = {}
    for node in body:
        target = getattr(node, "target", None) or (node.targets[0] if isinstance(node, ast.Assign) else None)
        name = getattr(target, "id", "")
        if not name.endswith("_MODELS") or not isinstance(getattr(node, "value", None), ast.Dict):
            continue
        if any(group in name for group in NO_MODELS):
            continue
        for key, value in zip(node.value.keys, node.value.values):
            if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple):
                module = ast.literal_eval(value)[0]
                found[key.value] = {"module": module, "in_transformers": hasattr(transformers, key.value)}
    return dict(sorted(found.items()))


def general(classes, served):
    """Class of config.json -> whether transformers' class of this name takes the attention that SGLang's general class gives it.

    Of the classes that the catalogue names or vLLM serves, those are meant that SGLang has none of and transformers has.
    """
    named = set(served)
    for name in os.listdir(CATALOGUE):
        with open(os.path.join(CATALOGUE, name)) as file:
            named.update(yaml.safe_load(file).get("architectures", ()))
    found = {}
    for name in sorted(named - set(classes)):
        model = getattr(transformers, name, None)
        if model is not None:
            found[name] = {"takes_attention": bool(model.is_backend_compatible())}
    return found


def text_of(version, classes):
    lines = (f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in classes.items())
    return '{\n  "version": %s,\n  "classes": {\n%s\n  }\n}\n' % (json.dumps(version), ",\n".join(lines))


def fresh(vllm=None):
    """The files, by name, and the text that each should have."""
    served, classes = registry_of(vllm or unpacked()), facts_of(unpacked("sglang", SGLANG))
    return {
        "vllm_registry.json": text_of(f"vLLM {VERSION}", served),
        "sglang.json": text_of(f"SGLang {SGLANG}", classes),
        "sglang_general.json": text_of(f"SGLang {SGLANG}", general(classes, served)),
    }


def write(vllm=None):
    for name, text in fresh(vllm).items():
        with open(os.path.join(HERE, name), "w") as file:
            file.write(text)


def differences(vllm=None):
    """Lines that say where the stored files differ from what the sources say, by file."""
    found = {}
    for name, text in fresh(vllm).items():
        path = os.path.join(HERE, name)
        stored = ""
        if os.path.exists(path):
            with open(path) as file:
                stored = file.read()
        lines = difflib.unified_diff(stored.splitlines(), text.splitlines(), name, "fresh", lineterm="", n=0)
        if lines := list(lines):
            found[name] = lines
    return found
