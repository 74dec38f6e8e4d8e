"""What SGLang's model classes say in their source: read, never imported, so that nothing of what it requires is needed."""

import ast
import os

MODELS = os.path.join("sglang", "srt", "models")
LOADERS = ("load_weights", "_legacy_load_weights")


class Module:
    """A file: its classes, where its names come from, and the classes that it registers."""

    def __init__(self, path):
        self.name = os.path.splitext(os.path.basename(path))[0]
        with open(path) as file:
            body = ast.parse(file.read()).body
        self.classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
        self.aliases, self.origins, self.entries = {}, {}, []
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module:
                module = node.module.rpartition(".")[2]
                self.origins.update({name.asname or name.name: (module, name.name) for name in node.names})
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                if node.targets[0].id == "EntryClass":
                    several = isinstance(node.value, (ast.List, ast.Tuple))
                    entries = node.value.elts if several else [node.value]
                    self.entries = [entry.id for entry in entries if isinstance(entry, ast.Name)]
                elif isinstance(node.value, ast.Name):
                    self.aliases[node.targets[0].id] = node.value.id


class Sources:
    def __init__(self, root):
        folder = os.path.join(root, MODELS)
        files = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".py")]
        self.modules = {module.name: module for module in map(Module, files)}

    def found(self, module, name):
        """The class of this name as the module sees it, and the module that has it."""
        for _ in range(8):
            if name in module.classes:
                return module, module.classes[name]
            if name in module.aliases:
                name = module.aliases[name]
            elif name in module.origins and module.origins[name][0] in self.modules:
                origin, name = module.origins[name]
                module = self.modules[origin]
            else:
                return None
        return None

    def line(self, module, name):
        """The class and those that it derives from, nearest first."""
        here = self.found(module, name)
        if here is None:
            return []
        bases = [base.id for base in here[1].bases if isinstance(base, ast.Name)]
        return [here, *(one for base in bases for one in self.line(here[0], base))]

    def method(self, module, name, method):
        """The nearest definition of a method, with its module and class."""
        for where, cls in self.line(module, name):
            for node in cls.body:
                if isinstance(node, ast.FunctionDef) and node.name == method:
                    return where, cls, node
        return None


def strings(node):
    return [part.value for part in node.elts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def fused_by(function):
    """The layers that a loader puts together, with the names of their parts in the order of the list that it goes through."""
    layers = {}
    for node in ast.walk(function):
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not isinstance(node.value, ast.List):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if not isinstance(target, ast.Name) or "stacked_params_mapping" not in target.id:
            continue
        for row in node.value.elts:
            names = strings(row) if isinstance(row, ast.Tuple) else []
            if len(names) >= 2:
                layer, part = (name.strip(".") for name in names[:2])
                if part not in layers.setdefault(layer, []):
                    layers[layer].append(part)
    return {layer: parts for layer, parts in layers.items() if len(parts) > 1}


def renames_scales(function):
    """Whether `weight_scale_inv` becomes `weight_scale`, which is no parameter of layers in blocks."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "replace"
        and [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        == [".weight_scale_inv", ".weight_scale"]
        for node in ast.walk(function)
    )


def hands_on(function):
    """The classes whose loader a loader calls by name, with the whole model in its hand."""
    return {
        node.func.value.id
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOADERS
        and isinstance(node.func.value, ast.Name)
    }


def parts_loaded(function):
    """The attributes whose own loader a loader hands tensors to: `self.language_model.load_weights(…)`."""
    return {
        node.func.value.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOADERS
        and isinstance(node.func.value, ast.Attribute)
    }


def picks_by_config(function):
    """Whether a loader hands tensors to a part that it knows by a name alone: `getattr(self, part).load_weights(…)`."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOADERS
        and isinstance(node.func.value, ast.Call)
        and isinstance(node.func.value.func, ast.Name)
        and node.func.value.func.id == "getattr"
        for node in ast.walk(function)
    )


def built_as(function, attribute):
    """The classes that a constructor gives an attribute: `self.language_model = LlamaForCausalLM(…)`."""
    return {
        node.value.func.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and any(isinstance(target, ast.Attribute) and target.attr == attribute for target in node.targets)
    }


def loading(sources, module, name, seen):
    """What happens to tensors on their way: the layers put together, and whether scales of blocks are lost."""
    fused, lost = {}, False
    if (module.name, name) in seen:
        return fused, lost
    seen.add((module.name, name))
    for method in LOADERS:
        found = sources.method(module, name, method)
        if found is None:
            continue
        where, _, function = found
        fused.update(fused_by(function))
        lost = lost or renames_scales(function)
        others = {("", other) for other in hands_on(function) if other not in ("super",)}
        init = sources.method(module, name, "__init__")
        for attribute in parts_loaded(function) if init else ():
            others |= {(attribute, other) for other in built_as(init[2], attribute)}
        for attribute, other in sorted(others):
            origin = init[0] if attribute else where
            if sources.found(origin, other) is not None:
                more, also = loading(sources, origin, other, seen)
                fused, lost = {**more, **fused}, lost or also
    return fused, lost


def unquantized_in(module):
    """Last names of linear layers that a file builds without a quantization, and never with one."""
    without, with_one = set(), set()
    for cls in module.classes.values():
        for node in ast.walk(cls):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
                continue
            target, made = node.targets[0], node.value.func
            if not isinstance(target, ast.Attribute) or not isinstance(made, ast.Name) or "Linear" not in made.id:
                continue
            given = [keyword.value for keyword in node.value.keywords if keyword.arg == "quant_config"]
            is_without = all(isinstance(value, ast.Constant) and value.value is None for value in given)
            (without if is_without else with_one).add(target.attr)
    return sorted(without - with_one)


def loaders_above(sources, module, name):
    """The loaders of a class and of those that it derives from: one that calls `super()` is no more than the next one is."""
    for _, cls in sources.line(module, name):
        yield from (node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name in LOADERS)


def facts_of(root):
    """Class name -> what its source says."""
    sources, facts = Sources(root), {}
    for module in sources.modules.values():
        for name in module.entries:
            found = sources.found(module, name)
            if found is None:
                continue
            fused, lost = loading(sources, module, name, set())
            entry = {"module": module.name}
            if fused:
                entry["fused"] = dict(sorted(fused.items()))
            if lost:
                entry["loses_scales_of_blocks"] = True
            if any(picks_by_config(one) for one in loaders_above(sources, module, name)):
                entry["loads_by_config"] = True
            if unquantized := unquantized_in(found[0]):
                entry["unquantized"] = unquantized
            facts[name] = entry
    return dict(sorted(facts.items()))
