"""Forms of names: `model.layers.3.mlp` is one of `model.layers.*.mlp`; and how facts are written, one form a line."""

import collections
import json
import re

NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


def form(name):
    """The name with a star for each part that is a number."""
    return NUMBER.sub("*", name)


def first_number(name):
    """The first number of the name: the layer, where there is one."""
    found = NUMBER.search(name)
    return int(found.group()) if found else None


def grouped(entries):
    """Entries `{name, …}` by form: those alike in all else but the name are one, with their count.

    `at` is there where a form, or one kind of it, is not in every layer of its stack: the layers that have it.
    """
    kinds = collections.OrderedDict()
    stacks = collections.defaultdict(set)
    for entry in entries:
        name = entry["name"]
        rest = {key: value for key, value in entry.items() if key != "name"}
        key = (form(name), json.dumps(rest))
        kinds.setdefault(key, []).append(name)
        number = first_number(name)
        if number is not None:
            stacks[stack_of(name)].add(number)
    out = []
    for (shape_of_name, rest), names in kinds.items():
        line = {"form": shape_of_name, **json.loads(rest), "count": len(names)}
        numbers = sorted({first_number(name) for name in names} - {None})
        if numbers and set(numbers) != stacks[stack_of(names[0])]:
            line["at"] = numbers
        out.append(line)
    return sorted(out, key=lambda line: (line["form"], json.dumps(line, sort_keys=True)))


def stack_of(name):
    """What stands before the first number of a name."""
    return name[: NUMBER.search(name).start()]


def written(facts, lists):
    """The JSON text of facts: keys in order, each entry of the named lists on a line of its own."""
    return dump(facts, "", set(lists)) + "\n"


def dump(value, indent, lists, key=None):
    if isinstance(value, dict) and (key is None or key in ("vllm", "draft")) and value:
        inner = indent + "  "
        lines = [f"{inner}{json.dumps(name)}: {dump(item, inner, lists, name)}" for name, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + indent + "}"
    if isinstance(value, list) and key in lists and value:
        inner = indent + "  "
        return "[\n" + ",\n".join(inner + dump_line(item, inner, lists) for item in value) + "\n" + indent + "]"
    return json.dumps(value, ensure_ascii=False, sort_keys=isinstance(value, dict))


def dump_line(item, indent, lists):
    """An entry of a list: on one line, in the order that its maker gave it."""
    return json.dumps(item, ensure_ascii=False)
