"""Tries a recipe schema in real editor servers: the checked-in one, or another's. Run it through `tests/editor/run`.

    check.py YAML-LANGUAGE-SERVER TOMBI TAPLO QWEN-FP8 [SCHEMA]

What is expected of a scheme is read from the schema, so that a new scheme needs no change here. With the checked-in
schema, the recipes that people have are opened too, as they are: copies of ready ones, and what `init` writes.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from lsp import Server, cursor

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
MODELS = ROOT / "models"
OWN = ROOT / "schemas/recipe.schema.json"
PATH = pathlib.Path(sys.argv[5]).resolve() if len(sys.argv) > 5 else OWN
HEAD = f"# yaml-language-server: $schema={'../schemas/recipe.schema.json' if PATH == OWN else PATH.as_uri()}\n"
SETTINGS = {"yaml": {"validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False}}}
# Ready recipes name no schema: this repository's settings do.
SETTINGS["yaml"]["schemas"] = json.loads((ROOT / ".vscode/settings.json").read_text())["yaml.schemas"]
RULE_KEYS = {"scheme", "targets", "ignore", "optional"}


def schemes(path):
    """The branch of each scheme in a schema."""
    forms = json.loads(path.read_text())["oneOf"]
    rules = next(form for form in forms if form["title"] == "rules")["properties"]["rules"]["items"]["oneOf"]
    return {branch["title"]: branch for branch in rules}


SCHEMES = schemes(PATH)
# Of another's schema, what the checked-in one has in the same words is tried there.
OWN_SCHEMES = {} if PATH == OWN else schemes(OWN)
TRIED = {name: branch for name, branch in SCHEMES.items() if OWN_SCHEMES.get(name) != branch}


class Yaml:
    def __init__(self, server):
        self.server = Server(["node", server, "--stdio"], ROOT, SETTINGS, "yaml")
        self.opened = 0

    def open(self, body):
        self.opened += 1
        text, line, column = cursor(HEAD + body) if "‸" in body else (HEAD + body, 0, 0)
        uri = self.server.open(RECIPES / f"unsaved-{self.opened}.yaml", text)
        return uri, line, column

    def complaints_about(self, path, text):
        """What the server says of a text as it stands, under this path."""
        return self.complaints_about_all({path: text})[path]

    def complaints_about_all(self, texts):
        """The same of many: the server waits before it looks at a text, and so for all of them at once."""
        uris = {path: self.server.open(path, text) for path, text in texts.items()}
        lines = lambda found: [(one["range"]["start"]["line"], one["message"]) for one in found]
        return {path: lines(self.server.diagnostics(uri)) for path, uri in uris.items()}

    def complete(self, body):
        uri, line, column = self.open(body)
        completed = {item["label"]: item for item in self.server.complete(uri, line, column)}
        self.server.close(uri)
        return completed

    def hover(self, body):
        uri, line, column = self.open(body)
        shown = self.server.hover(uri, line, column)
        self.server.close(uri)
        return shown

    def complaints(self, body):
        found = self.server.diagnostics(self.open(body)[0])
        return sorted((one["range"]["start"]["line"], one["range"]["start"]["character"], one["message"]) for one in found)


def documentation(item):
    text = item.get("documentation") or ""
    return text["value"] if isinstance(text, dict) else text


def inserted(item):
    return item.get("insertText") or item["textEdit"]["newText"]


def rule(scheme, more=""):
    return f"rules:\n  - scheme: {scheme}\n    targets: Linear\n{more}"


def check_completion(yaml):
    values = yaml.complete("rules:\n  - scheme: ‸\n")
    assert set(values) == set(SCHEMES), values.keys()
    for name, item in values.items():
        assert SCHEMES[name]["description"] in documentation(item), name
    assert set(yaml.complete("rules:\n  - scheme: FP8_B‸\n")) >= {"FP8_BLOCK"}
    for name, branch in TRIED.items():
        offered = set(yaml.complete(rule(name, "    ‸\n")))
        # While completing, the server takes `FP8` for the beginning of `FP8_BLOCK` too, and goes by the one that lacks nothing: what
        # `NVFP4` requires it underlines, and offers in the whole rule alone.
        longer = [other["properties"] for title, other in SCHEMES.items() if title.startswith(name)]
        expected = set(branch["properties"]) - {"scheme", "targets"}
        if len(longer) > 1:
            expected -= set(branch["required"])
        assert expected <= offered <= set().union(*longer), (name, offered, expected)
    ready = yaml.complete("rules:\n  - ‸\n")
    for name in SCHEMES:
        text = inserted(ready[name])
        assert f"scheme: {name}" in text and all(key in text for key in {"targets", *SCHEMES[name]["required"]}), text
    patterns = yaml.complete("rules:\n  - scheme: FP8_BLOCK\n    targets:\n      - ‸\n")
    assert "Linear" in patterns and "re:.*visual.*" in patterns, patterns.keys()
    for place in ["targets: ‸\n", "targets:\n      - ‸\n", "targets: [‸]\n", "targets: Linear\n    ignore: ‸\n"]:
        offered = yaml.complete("rules:\n  - scheme: FP8_BLOCK\n    " + place)
        assert inserted(offered["*norm*"]) == "'*norm*'", (place, offered["*norm*"])
        for label, item in offered.items():
            # YAML would take the star for an alias.
            assert not re.search(r"(^|- )(\$\{\d:)?\*", inserted(item)), (place, label, item)
    assert set(yaml.complete("format: ‸\n")) == {"fp8", "compressed-tensors"}
    assert {"rules", "scheme", "FP8Modifier", "model", "output", "format"} <= set(yaml.complete("‸\n"))
    nested = "a_stage:\n  b_modifiers:\n    QuantizationModifier:\n      "
    assert {"targets", "ignore", "scheme", "config_groups"} <= set(yaml.complete(nested + "‸\n"))
    assert set(yaml.complete(nested + "scheme: ‸\n")) == set(SCHEMES)
    weights = nested + "config_groups:\n        group_0:\n          weights:\n            "
    assert {"num_bits", "type", "strategy"} <= set(yaml.complete(weights + "‸\n"))
    assert {"channel", "block"} <= set(yaml.complete(weights + "strategy: ‸\n"))


def check_hover(yaml):
    assert SCHEMES["FP8_BLOCK"]["description"] in yaml.hover(rule("FP8_B‸LOCK"))
    for name, branch in TRIED.items():
        for option in set(branch["properties"]) - RULE_KEYS:
            if "anyOf" in branch["properties"][option]:
                schema = branch["properties"][option]
                example = schema["examples"][0]
                # The words of a choice have a description of their own, which is then the one that is shown.
                chosen = [one["description"] for one in schema["anyOf"] if one.get("const") == example and "description" in one]
                first = (chosen or [schema["description"]])[0].split("`")[0]
                shown = yaml.hover(rule(name, f"    {option[0]}‸{option[1:]}: {json.dumps(example)}\n"))
                assert first in shown, (name, option, shown)


def check_complaints(yaml):
    line = 2  # of `scheme`, under the head and `rules:`
    known = " | ".join(json.dumps(name) for name in SCHEMES)
    for body, expected in [
        (rule("FP8_BLOK"), [(line, 12, f"Value must be {known}.")]),
        (rule("PASSTHROUGH", "    block_size: 128\n"), [(line + 2, 4, "Property block_size is not allowed.")]),
        (rule("FP8_BLOCK", "    block_size: 0\n"), [(line + 2, 16, "Value is below the minimum of 1.")]),
        (rule("FP8_BLOCK", "    block_size: large\n"), [(line + 2, 16, 'Incorrect type. Expected "integer | array".')]),
        (rule("FP8_BLOCK", "    blok_size: 128\n"), [(line + 2, 4, "Property blok_size is not allowed.")]),
        (rule("FP8_BLOCK", "format: gguf\n"), [(line + 2, 8, 'Value must be "fp8" | "compressed-tensors".')]),
        ("rules:\n  - scheme: FP8_BLOCK\n", [(line, 4, 'Missing property "targets".')]),
        ("a_stage:\n  b_modifiers:\n    GPTQModifier: {}\n", [(3, 4, "Property GPTQModifier is not allowed.")]),
    ]:
        found = yaml.complaints(body)
        assert found == expected, (body, found)
    for path in sorted(RECIPES.glob("*.yaml")):
        found = yaml.complaints(path.read_text())
        assert found == [], (path, found)


def lint(linter, path):
    done = subprocess.run([*linter, path], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def check_toml(linters):
    bad = '[[rules]]\nscheme = "FP8_BLOK"\ntargets = "Linear"\n'
    scratch = RECIPES / "unsaved.toml"
    for linter in linters:
        for path in sorted(RECIPES.glob("*.toml")):
            code, said = lint(linter, path)
            assert code == 0, (linter, path, said)
        scratch.write_text(bad)
        try:
            code, said = lint(linter, scratch)
        finally:
            scratch.unlink()
        assert code == 1 and "FP8_BLOK" in said, (linter, said)


def check_ready(yaml, linters, elsewhere):
    """Ready recipes and the examples of the guides: right where they are, and copied to where no schema is near."""
    right, wrong = {}, {}
    for path in sorted(RECIPES.glob("**/*.yaml")):
        text = path.read_text()
        right[path.with_stem(path.stem + "-unsaved")] = right[elsewhere / path.name] = text
        wrong[path.with_stem(path.stem + "-wrong")] = "formt: fp8\n" + text
    for guide in [ROOT / "README.md", ROOT / "docs/recipes.md"]:
        for number, example in enumerate(re.findall(r"^```yaml\n(.*?)^```", guide.read_text(), re.M | re.S)):
            right[elsewhere / f"{guide.stem}-{number}.yaml"] = example
    for path, found in yaml.complaints_about_all(right).items():
        assert found == [], (path, found)
    for path, found in yaml.complaints_about_all(wrong).items():
        assert [line for line, _ in found] == [0], (path, found)
    for path in sorted(RECIPES.glob("**/*.toml")):
        copy = elsewhere / path.name
        copy.write_text(path.read_text())
        for linter in linters:
            code, said = lint(linter, copy)
            assert code == 0 and not re.search("warn", said, re.I), (linter, path, said)


def check_models(yaml):
    """Files of families, by this repository's settings: what they hold is right, completed and explained."""

    def opened(body):
        yaml.opened += 1
        text, line, column = cursor(body)
        return yaml.server.open(MODELS / f"unsaved-{yaml.opened}.yaml", text), line, column

    def completed(body):
        uri, line, column = opened(body)
        return {item["label"] for item in yaml.server.complete(uri, line, column)}

    schema = json.loads((ROOT / "schemas/model.schema.json").read_text())
    assert set(schema["properties"]) <= completed("‸\n")
    for key in ["parts", "layers"]:
        words = schema["properties"][key]["properties"]
        assert set(words) <= completed(f"name: X\n{key}:\n  ‸\n"), key
    assert {"on_disk", "asked", "counted_on_by", "format"} <= completed("name: X\nasked:\n  - ‸\n")
    uri, line, column = opened("name: X\nunpro‸ven: nobody tried\n")
    assert "nobody has seen vLLM load" in yaml.server.hover(uri, line, column)
    right = {path.with_stem(path.stem + "-unsaved"): path.read_text() for path in sorted(MODELS.glob("*.yaml"))}
    for path, found in yaml.complaints_about_all(right).items():
        assert found == [], (path, found)
    found = yaml.complaints_about(MODELS / "wrong-unsaved.yaml", "name: X\nparts:\n  visoin: []\n")
    assert [line for line, _ in found] == [2], found


def check_written(yaml, linters, program, elsewhere):
    """What `init` and `schema` write for editors finds its schema from anywhere, under a path with a blank in it."""
    data = elsewhere / "data of mine"
    environment = {**os.environ, "XDG_DATA_HOME": str(data)}

    def run(*arguments):
        done = subprocess.run([program, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init", "tests/fixtures/tiny-qwen3-vl", "--output", str(elsewhere / "first.yaml"))
    text = (elsewhere / "first.yaml").read_text()
    assert yaml.complaints_about(elsewhere / "first.yaml", text) == [], text
    misspelt = text.replace("FP8_DYNAMIC", "FP8_DYNAMI")
    wrong = next(number for number, line in enumerate(misspelt.splitlines()) if "FP8_DYNAMI" in line)
    found = yaml.complaints_about(elsewhere / "deeper/misspelt.yaml", misspelt)
    assert [line for line, _ in found] == [wrong], found

    text = run("models", "--draft", "tests/fixtures/tiny-qwen3-vl")
    assert yaml.complaints_about(elsewhere / "family.yaml", text) == [], text
    found = yaml.complaints_about(elsewhere / "misspelt-family.yaml", text.replace("architectures:", "architecture:"))
    assert found, text

    line = next(line for line in run("schema", "--install").splitlines() if line.startswith("#:schema"))
    body = (RECIPES / "fp8_dynamic.toml").read_text()
    for linter in linters:
        for name, text, expected in [("right", body, 0), ("misspelt", body.replace("FP8_DYNAMIC", "FP8_DYNAMI"), 1)]:
            path = elsewhere / f"{name}.toml"
            path.write_text(f"{line}\n{text}")
            code, said = lint(linter, path)
            assert code == expected and (code == 0 or "FP8_DYNAMI" in said), (linter, name, said)

    theirs = elsewhere / "a repository of theirs"
    theirs.mkdir()
    for ending in ["yaml", "toml"]:
        path = theirs / f"recipe.{ending}"
        path.write_text((RECIPES / f"fp8_dynamic.{ending}").read_text())
        run("schema", "--for", str(path), "--add")
        right = path.read_text()
        assert "./recipe.schema.json" in right.splitlines()[0], right
        for text, is_right in [(right, True), (right.replace("FP8_DYNAMIC", "FP8_DYNAMI"), False)]:
            if ending == "yaml":
                found = yaml.complaints_about(theirs / f"unsaved-{is_right}.yaml", text)
                assert (found == []) == is_right, (text, found)
                continue
            path.write_text(text)
            for linter in linters:
                code, said = lint(linter, path)
                assert code == (0 if is_right else 1), (linter, said)
                assert is_right or "FP8_DYNAMI" in said, (linter, said)


def main():
    yaml_server, tombi, taplo, program = sys.argv[1:5]
    linters = [[tombi, "lint", "--offline"], [taplo, "lint"]]
    yaml = Yaml(yaml_server)
    try:
        check_completion(yaml)
        check_hover(yaml)
        check_complaints(yaml)
        if PATH == OWN:
            check_toml(linters)
            check_models(yaml)
            with tempfile.TemporaryDirectory() as elsewhere:
                elsewhere = pathlib.Path(elsewhere).resolve()
                check_ready(yaml, linters, elsewhere)
                check_written(yaml, linters, program, elsewhere)
    finally:
        yaml.server.stop()
    assert TRIED, "a schema without a scheme of its own"
    print(f"editors: {len(TRIED)} of {len(SCHEMES)} schemes complete, hover and complain as they should")


if __name__ == "__main__":
    main()
