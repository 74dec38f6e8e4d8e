"""The tool under test: its recipes as text, and one call of its command line."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = ROOT / "target" / "release" / "qwen-fp8"

KEEP = ["re:.*visual.*", "lm_head"]


@dataclass(frozen=True)
class Rule:
    """One quantizing rule; a field that is `None` is left out of the recipe, so that the tool's default holds."""

    scheme: str
    block_size: int | None = None
    scale_dtype: str | None = None
    quotient_dtype: str | None = None
    scale_search: str | None = None
    input_scale: float | None = None
    targets: tuple[str, ...] = ("Linear",)


def recipe(output_format: str, rule: Rule, keep: list[str] = KEEP, serving: str = "enforce", experts: str = "error") -> str:
    """The recipe that keeps the vision tower and the output head, and quantizes every other linear layer."""
    lines = ["version: 1", f"format: {output_format}", f"serving: {serving}", f"experts: {experts}", "rules:",
             "  - scheme: PASSTHROUGH", f"    targets: {_flow(keep)}", "    optional: true",
             f"  - scheme: {rule.scheme}", f"    targets: {_flow(rule.targets)}"]
    for option in ("block_size", "scale_dtype", "quotient_dtype", "scale_search", "input_scale"):
        value = getattr(rule, option)
        if value is not None:
            lines.append(f"    {option}: {value}")
    return "\n".join(lines) + "\n"


def llmcompressor_recipe(scheme: str) -> str:
    """The same as `recipe`, in llm-compressor's own words."""
    return (f"default_stage:\n  default_modifiers:\n    QuantizationModifier:\n      targets: [Linear]\n"
            f"      ignore: {_flow(KEEP)}\n      scheme: {scheme}\n")


def apply(tool: Path, text: str, model: Path, output: Path) -> None:
    """Runs `qwen-fp8 apply`; a refusal or a failure is a `ToolError` with what the tool said."""
    path = output.with_name(output.name + ".recipe.yaml")
    path.write_text(text)
    command = [str(tool), "apply", str(path), "--model", str(model), "--output", str(output)]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if run.returncode != 0:
        raise ToolError(run.returncode, run.stderr.strip())
    path.unlink()


def lint(tool: Path, model: Path) -> str | None:
    """What `qwen-fp8 lint` finds wrong; `None` where that is nothing."""
    command = [str(tool), "lint", str(model)]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    return None if run.returncode == 0 else run.stdout + run.stderr


class ToolError(Exception):
    """The tool ended with something else than 0."""

    def __init__(self, code: int, message: str):
        super().__init__(f"exit {code}: {message}")
        self.code = code
        self.message = message


def _flow(values: list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"
