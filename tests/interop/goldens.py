"""Holds `qwen-fp8 apply` to outputs of the reference tools that were made elsewhere, some of them on an H100.

They come as an archive beside the repository; without it there is nothing to do and that is no failure. Needs no
package. It ends with `N passed, N failed` and is 0 only if nothing failed.
"""

import argparse
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tensors
import tool
from report import Report
from tool import Rule

ARCHIVE = tool.ROOT.parent / "shared" / "goldens.tar.xz"


@dataclass(frozen=True)
class Golden:
    """A result of the reference, the checkpoint it was made from, and the rule that makes the same."""

    output: str
    source: str
    rule: Rule


CPU = "goldens/qwen3vl_tiny_bf16"
H100 = "goldens-gpu/source.safetensors"

GOLDENS = [
    Golden("goldens/qwen3vl_modelfree_FP8_DYNAMIC", CPU, Rule("FP8_DYNAMIC", quotient_dtype="source")),
    Golden("goldens/qwen3vl_modelfree_FP8_BLOCK", CPU, Rule("FP8_BLOCK", quotient_dtype="source")),
    Golden("goldens/qwen3vl_oneshot_FP8_DYNAMIC", CPU, Rule("FP8_DYNAMIC", quotient_dtype="source")),
    Golden("goldens/qwen3vl_oneshot_FP8_BLOCK", CPU, Rule("FP8_BLOCK", quotient_dtype="source")),
    Golden("goldens-gpu/FP8_DYNAMIC.safetensors", H100, Rule("FP8_DYNAMIC")),
    Golden("goldens-gpu/FP8_BLOCK.safetensors", H100, Rule("FP8_BLOCK")),
]

# Goldens that we do not make, on purpose: what the reference did there, no server loads or no one wants.
INTENDED = {
    "goldens/qwen3vl_modelfree_FP8_DYNAMIC_noignore_embed":
        "`Linear` takes embeddings in model_free_ptq; ours, as oneshot's, does not",
    "goldens/qwen3vl_oneshot_FP8_{DYNAMIC,BLOCK}_withvisual":
        "a vision tower in FP8 is refused: SGLang loads it without its scales, silently",
    "goldens/qwen3vlmoe_{modelfree,oneshot}_FP8_{DYNAMIC,BLOCK}_*":
        "experts stored as one three-dimensional tensor are not split yet",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=Path, default=tool.DEFAULT, help="the binary under test")
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="goldens.tar.xz")
    arguments = parser.parse_args()
    if not arguments.archive.exists():
        print(f"goldens: skipped, there is no {arguments.archive}")
        return 0
    print(f"goldens: {arguments.tool} against {arguments.archive}")
    report = Report()
    with tempfile.TemporaryDirectory(prefix="qwen-fp8-goldens-") as scratch:
        scratch = Path(scratch)
        with tarfile.open(arguments.archive) as archive:
            archive.extractall(scratch, filter="data")
        config = scratch / CPU / "config.json"
        for golden in GOLDENS:
            output = scratch / "ours" / golden.output
            output.parent.mkdir(parents=True, exist_ok=True)
            with report.case(golden.output) as faults:
                source = as_checkpoint(scratch / golden.source, config)
                tool.apply(arguments.tool, tool.recipe("compressed-tensors", golden.rule), source, output)
                expected = tensors.read_checkpoint(as_checkpoint(scratch / golden.output, config))
                faults += tensors.differences(expected, tensors.read_checkpoint(output))
                faults += tensors.index_faults(output)
        for path in sorted((scratch / "goldens" / "ops").glob("FP8*.safetensors")):
            with report.case(f"goldens/ops/{path.name}") as faults:
                faults += compare_operations(arguments.tool, path, scratch / "ours" / path.stem)
    for name, reason in INTENDED.items():
        print(f"  not ours: {name}: {reason}")
    return report.close()


def compare_operations(binary: Path, path: Path, scratch: Path) -> list[str]:
    """A file of `KIND.input` and what the reference made of it, tried as the layers of one checkpoint."""
    scheme, _, _ = path.stem.rpartition("_")
    source, expected = {}, {}
    for name, tensor in tensors.read_file(path)[0].items():
        kind, _, part = name.rpartition(".")
        # Random bits, NaN among them: the reference stores poison, we refuse.
        if kind == "bits":
            continue
        if part == "input":
            source[f"model.layers.0.{kind}_proj.weight"] = tensor
        else:
            expected[f"model.layers.0.{kind}_proj.{part}"] = tensor
    (scratch / "source").mkdir(parents=True)
    (scratch / "source" / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}')
    tensors.write_file(scratch / "source" / "model.safetensors", source, {"format": "pt"})
    recipe = tool.recipe("compressed-tensors", Rule(scheme, quotient_dtype="source"))
    tool.apply(binary, recipe, scratch / "source", scratch / "output")
    return tensors.differences(expected, tensors.read_checkpoint(scratch / "output"))


def as_checkpoint(path: Path, config: Path) -> Path:
    """The path, or for a bare file of tensors a model directory that holds it."""
    if path.is_dir():
        return path
    directory = path.with_suffix("")
    if not directory.exists():
        directory.mkdir()
        shutil.copyfile(path, directory / "model.safetensors")
        shutil.copyfile(config, directory / "config.json")
    return directory


if __name__ == "__main__":
    sys.exit(main())
