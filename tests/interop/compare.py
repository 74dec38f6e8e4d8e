"""Holds `qwen-fp8 apply` against the reference tools on fresh random checkpoints, byte for byte.

Run it with the Python that `setup.sh` prints. It ends with `N passed, N failed` and is 0 only if nothing failed.
"""

import argparse
import random
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import checkpoints
import configs
import reference
import tensors
import tool
from report import Report
from tensors import Tensor


@dataclass(frozen=True)
class Model:
    """One kind of checkpoint to make."""

    make: Callable
    dtype: str
    sizes: checkpoints.Sizes

    def __str__(self) -> str:
        sizes = {checkpoints.EVEN: "even", checkpoints.HALF_BLOCK: "half block", checkpoints.ODD: "odd"}[self.sizes]
        return f"{self.make.__name__} {self.dtype} {sizes}"


MODELS = [
    Model(checkpoints.qwen3_vl, "bf16", checkpoints.EVEN),
    Model(checkpoints.qwen3_vl, "f16", checkpoints.EVEN),
    Model(checkpoints.qwen3_vl, "f32", checkpoints.EVEN),
    Model(checkpoints.qwen3_vl, "bf16", checkpoints.HALF_BLOCK),
    Model(checkpoints.qwen3, "bf16", checkpoints.EVEN),
    Model(checkpoints.qwen3, "f32", checkpoints.EVEN),
    Model(checkpoints.qwen3_vl, "bf16", checkpoints.ODD),
    Model(checkpoints.qwen3, "f16", checkpoints.ODD),
]

# Schemes whose arithmetic has no quotient that a GPU rounds otherwise, and which have no option for it.
EXACT = ("MXFP8", "MXFP8A16", "MXFP6A8", "MXFP6A16", "NVFP4A16")

# Schemes of the same storage and arithmetic as W4A16, W3A16 or W4A8, but for their width.
WIDTHS = ("W2A16", "W5A16", "W6A16", "W7A16", "W2A8", "W3A8", "W5A8", "W6A8", "W7A8", "W2A4", "W3A4", "W4A4")

# The columns that share a scale, which have to divide those of a layer. Blocks of 128 x 128 ask for the same, since the
# reference cannot save others.
GROUPS = {"FP8_BLOCK": 128, "NVFP4A16": 16} | dict.fromkeys(
    ("MXFP8", "MXFP8A16", "MXFP6A8", "MXFP6A16", "MXFP4", "MXFP4A16", "MXFP4XFP8"), 32) | dict.fromkeys(
    ("W8A16", "W4A16", "W4A16_ASYM", "W4AFP8", *(f"W{bits}A16" for bits in (2, 3, 5, 6, 7)),
     *(f"W{bits}A8" for bits in range(2, 8)), *(f"W{bits}A4" for bits in (2, 3, 4))), 128)


@dataclass(frozen=True)
class Case:
    """One recipe, and what of the reference it must equal."""

    format: str
    rule: tool.Rule
    # The preset of the reference.
    scheme: str
    # The arithmetic of the reference: see `reference.quantize`.
    quotient: str
    scale: str = "source"

    @property
    def search(self) -> bool:
        """Whether scales are searched for."""
        return self.rule.scale_search == "mse"

    @property
    def made(self) -> str:
        """The name of the reference's output."""
        return self.scheme + "-searched" * self.search

    @property
    def avoid(self) -> tuple[str, ...]:
        """Kinds of weights whose spread overflows: the reference stores an infinite scale, and we publish none such."""
        return ("huge", "bits", "wide", "octaves", "mixed") if self.scheme.endswith("ASYM") else ()

    def __str__(self) -> str:
        options = {"block": self.rule.block_size, "scale": self.rule.scale_dtype, "quotient": self.rule.quotient_dtype,
                   "search": self.rule.scale_search}
        given = " ".join(f"{name} {value}" for name, value in options.items() if value is not None)
        return f"{self.format:18} {self.rule.scheme:11} {given:24}"


CASES = [
    Case("compressed-tensors", tool.Rule("FP8_DYNAMIC", quotient_dtype="source"), "FP8_DYNAMIC", "source"),
    Case("compressed-tensors", tool.Rule("FP8_BLOCK", quotient_dtype="source"), "FP8_BLOCK", "source"),
    Case(
        "compressed-tensors", tool.Rule("FP8_DYNAMIC", block_size=128, quotient_dtype="source"), "FP8_BLOCK", "source"
    ),
    Case("compressed-tensors", tool.Rule("FP8", quotient_dtype="source"), "FP8", "source"),
    Case("compressed-tensors", tool.Rule("FP8_DYNAMIC", quotient_dtype="f32"), "FP8_DYNAMIC", "f32"),
    Case("compressed-tensors", tool.Rule("FP8_BLOCK"), "FP8_BLOCK", "f32"),
    Case("compressed-tensors", tool.Rule("FP8"), "FP8", "f32"),
    Case("compressed-tensors", tool.Rule("FP8_DYNAMIC", scale_dtype="f32"), "FP8_DYNAMIC", "f32", "f32"),
    Case("fp8", tool.Rule("FP8_BLOCK", scale_dtype="source", quotient_dtype="source"), "FP8_BLOCK", "source"),
    Case("fp8", tool.Rule("FP8_DYNAMIC", block_size=128), "FP8_BLOCK", "f32", "bf16"),
    Case("fp8", tool.Rule("FP8_BLOCK", scale_dtype="bf16"), "FP8_BLOCK", "f32", "bf16"),
    Case("fp8", tool.Rule("FP8_BLOCK", scale_dtype="f32"), "FP8_BLOCK", "f32", "f32"),
]


CASES += [
    Case("compressed-tensors", tool.Rule(name, quotient_dtype=None if name in EXACT else "source"), name, "source")
    for name in ("W8A8", *GROUPS) if name != "FP8_BLOCK" and reference.has(name)
] + [
    # As on a GPU: integers of each kind of storage.
    Case("compressed-tensors", tool.Rule(name), name, "f32") for name in ("W8A8", "W8A16", "W4A16", "W4A16_ASYM", "W3A16", "W4A8")
] + [
    Case("compressed-tensors", tool.Rule(name, quotient_dtype="source", scale_search="mse"), name, "source")
    for name in ("W8A8", "W4A16_ASYM", "MXFP4")
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=Path, default=tool.DEFAULT, help="the binary under test")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31), help="repeats a run")
    parser.add_argument("--rounds", type=int, default=1, help="how many checkpoints of each kind")
    parser.add_argument("--only", type=re.compile, default=re.compile(""), help="presets whose names begin so, a regex")
    arguments = parser.parse_args()
    print(f"compare: {arguments.tool} against {reference.versions()}, --seed {arguments.seed} --rounds {arguments.rounds}")
    report = Report()
    with tempfile.TemporaryDirectory(prefix="qwen-fp8-compare-") as scratch:
        for turn in range(arguments.rounds):
            for place, model in enumerate(MODELS):
                seed = arguments.seed + turn * len(MODELS) + place
                compare_model(arguments, Path(scratch) / f"{turn}-{place}", model, seed, report)
        compare_oneshot(arguments.tool, Path(scratch) / "oneshot", arguments.seed, report)
        compare_calibrated(arguments.tool, Path(scratch) / "calibrated", arguments.seed, report)
        lint_mtp(arguments.tool, Path(scratch) / "mtp", arguments.seed, report)
    return report.close()


def compare_model(arguments: argparse.Namespace, scratch: Path, model: Model, seed: int, report: Report) -> None:
    """All cases that are asked for and that a kind of checkpoint can take."""
    columns = (model.sizes.hidden, model.sizes.intermediate, model.sizes.heads * model.sizes.head_dim)
    fits = lambda case: all(size % GROUPS.get(case.scheme, 1) == 0 for size in columns)  # noqa: E731
    cases = [case for case in CASES if arguments.only.match(case.scheme) and fits(case)]
    if model.sizes is checkpoints.EVEN and model.make is checkpoints.qwen3 or model.sizes is checkpoints.HALF_BLOCK:
        # Bit widths that differ in nothing but the width met every dtype above.
        cases = [case for case in cases if case.scheme not in WIDTHS]
    if model.make is checkpoints.qwen3:
        # A search knows nothing of names, and the reference takes seconds for each.
        cases = [case for case in cases if not case.search]
    else:
        # The reference finds the parts of a merged layer in one file alone; tests/run/fused.rs has them in several.
        cases = [case for case in cases if case.scheme != "NVFP4A16"]
    if model.dtype == "f32":
        # F32 holds no power of 2.4 of the largest and the least weights: there every candidate leaves infinity, or nothing.
        # Of others it adds up rounded sums, whose last digits decide between candidates that are nearly as good.
        cases = [case for case in cases if not case.search]
    sources, before = {}, {}
    for avoid in dict.fromkeys(case.avoid for case in cases):
        sources[avoid] = scratch / f"source-{len(sources)}"
        model.make(sources[avoid], model.dtype, seed, model.sizes, hostile=True, avoid=avoid)
        before[avoid] = tensors.read_checkpoint(sources[avoid])
    for case in {case.made: case for case in cases}.values():
        reference.run_model_free(sources[case.avoid], scratch / case.made, case.scheme, case.search)
    for place, case in enumerate(cases):
        source, output = sources[case.avoid], scratch / f"output-{place}"
        with report.case(f"{str(model):24} {case}") as faults:
            # Some of the shapes are there for the arithmetic, and a server would not take them.
            tool.apply(arguments.tool, tool.recipe(case.format, case.rule, serving="warn"), source, output)
            found = tensors.read_checkpoint(output)
            # The reference's own output where it can make one; its functions and one division where it cannot.
            expected = tensors.read_checkpoint(scratch / case.made)
            if (case.quotient, case.scale) != ("source", "source"):
                expected = recompute(before[case.avoid], expected, case)
            if case.format == "fp8":
                official = lambda name: name.replace(".weight_scale", ".weight_scale_inv")  # noqa: E731
                expected = {official(name): tensor for name, tensor in expected.items()}
                faults += configs.fp8_faults(output, found)
            else:
                faults += configs.compressed_tensors_faults(output, scratch / case.made, found)
            faults += tensors.differences(expected, found)
            faults += configs.carried_over_faults(source, output)
            faults += tensors.index_faults(output)


def compare_oneshot(binary: Path, scratch: Path, seed: int, report: Report) -> None:
    """The reference's other entry, through transformers, and its own recipe files read by the tool."""
    source = scratch / "source"
    checkpoints.qwen3_vl(source, "bf16", seed, checkpoints.EVEN, hostile=True)
    before = tensors.read_checkpoint(source)
    for name in ("FP8_DYNAMIC", "FP8_BLOCK"):
        recipe = scratch / f"{name}.yaml"
        recipe.write_text(tool.llmcompressor_recipe(name))
        reference.run_oneshot(source, scratch / name, recipe)
        expected = tensors.read_checkpoint(scratch / name)
        for text, quotient in ((tool.recipe("compressed-tensors", tool.Rule(name, quotient_dtype="source")), "source"),
                               (recipe.read_text(), "f32")):
            output = scratch / f"output-{name}-{quotient}"
            origin = "its recipe file, unchanged" if quotient == "f32" else "quotient source"
            with report.case(f"qwen3_vl bf16 oneshot    compressed-tensors {name:11} {origin}") as faults:
                tool.apply(binary, text, source, output)
                found = tensors.read_checkpoint(output)
                case = Case("compressed-tensors", tool.Rule(name), name, quotient)
                if quotient == "source":
                    found_like_oneshot = without_negative_zeros(before, found, name)
                    faults += tensors.differences(expected, found_like_oneshot)
                else:
                    faults += tensors.differences(recompute(before, expected, case), found)
                faults += configs.compressed_tensors_faults(output, scratch / name, found)


def compare_calibrated(binary: Path, scratch: Path, seed: int, report: Report) -> None:
    """The preset whose scales of activations the reference measures on data: all else is the same."""
    for dtype in ("bf16", "f16", "f32"):
        source, output, made = (scratch / f"{name}-{dtype}" for name in ("source", "output", "made"))
        checkpoints.qwen3(source, dtype, seed, checkpoints.EVEN, hostile=False)
        with report.case(f"qwen3 {dtype:4} even          compressed-tensors NVFP4       input_scale 1.0") as faults:
            reference.run_calibrated(source, made, "NVFP4", seed)
            rule = tool.Rule("NVFP4", input_scale=1.0)
            tool.apply(binary, tool.recipe("compressed-tensors", rule), source, output)
            expected, found = tensors.read_checkpoint(made), tensors.read_checkpoint(output)
            one = checkpoints.stored(torch.ones(1))
            of_inputs = [name for name in expected if name.endswith(".input_global_scale")]
            if not of_inputs or all(expected[name] == one for name in of_inputs):
                faults.append("the reference measured nothing")
            faults += tensors.differences(expected | dict.fromkeys(of_inputs, one), found)
            faults += configs.compressed_tensors_faults(output, made, found)


def lint_mtp(binary: Path, scratch: Path, seed: int, report: Report) -> None:
    """A result of the reference to which it added the layers that predict further tokens, in a file of their own. The new
    release renames the file that was alone before; where that keeps its name, some loaders do not look into the index."""
    source, plain, output = scratch / "source", scratch / "plain", scratch / "output"
    checkpoints.qwen3(plain, "bf16", seed, checkpoints.EVEN, hostile=False)
    reference.run_model_free(plain, output, "FP8_DYNAMIC")
    weight = tensors.read_checkpoint(plain)["model.layers.0.mlp.down_proj.weight"]
    source.mkdir()
    tensors.write_file(source / "model.safetensors", {"mtp.layers.0.mlp.down_proj.weight": weight}, {"format": "pt"})
    with report.case("qwen3 bf16 even          MTP layers beside a result of the reference") as faults:
        reference.add_mtp(source, output)
        backbone = "model.safetensors" if reference.RELEASE == "0.19" else "model_backbone.safetensors"
        named = {path.name for path in output.glob("*.safetensors")}
        if named != {backbone, "model_mtp.safetensors"}:
            faults.append(f"the reference named its files {sorted(named)}")
        if said := tool.lint(binary, output):
            faults.append(f"lint said: {said}")


def recompute(before: dict[str, Tensor], reference_output: dict[str, Tensor], case: Case) -> dict[str, Tensor]:
    """The reference's output again, with the arithmetic that it has on a GPU, or with another dtype of scale."""
    expected = dict(reference_output)
    for name, tensor in before.items():
        module = name.removesuffix(".weight")
        if f"{module}.weight_scale" in reference_output:
            weight = checkpoints.loaded(tensor)
            made = reference.quantize(weight, case.scheme, quotient=case.quotient, scale=case.scale)
            expected |= {f"{module}.{suffix}": checkpoints.stored(value) for suffix, value in made.items()}
    return expected


def without_negative_zeros(before: dict[str, Tensor], found: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Intended difference: `oneshot` adds a zero point of 0 to every quotient, which makes a quotient of exactly -0.0 a
    +0.0; `model_free_ptq`, which we follow, adds none. What merely rounds to zero keeps its sign in both."""
    changed = dict(found)
    for source_name, tensor in before.items():
        scale = found.get(source_name.replace(".weight", ".weight_scale"))
        if scale is not None and source_name.endswith(".weight"):
            weight = checkpoints.loaded(tensor)
            spread = reference.spread(checkpoints.loaded(scale), weight.shape, reference.scheme(name).weights)
            quotient = weight / spread
            codes = checkpoints.loaded(found[source_name]).view(torch.uint8)
            codes = codes.masked_fill((quotient == 0) & quotient.signbit(), 0)
            changed[source_name] = checkpoints.stored(codes.view(torch.float8_e4m3fn))
    return changed


if __name__ == "__main__":
    sys.exit(main())
