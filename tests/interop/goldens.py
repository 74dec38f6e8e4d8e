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
from tensors import Tensor
from tool import Rule

ARCHIVE = tool.ROOT.parent / "shared" / "goldens.tar.xz"


@dataclass(frozen=True)
class Golden:
    """A result of the reference, the checkpoint it was made from, and the rule that makes the same."""

    output: str
    source: str
    rule: Rule
    # What the recipe keeps.
    keep: tuple[str, ...] = tuple(tool.KEEP)
    # What becomes of stacked experts.
    experts: str = "error"


CPU = "goldens/qwen3vl_tiny_bf16"
MOE = "goldens/qwen3vlmoe_tiny_bf16"
MOE_HUB = "goldens/qwen3vlmoe_tiny_bf16_hublayout"
H100 = "goldens-gpu/source.safetensors"

# Schemes of which the reference writes the same on every device, and which have no option for it.
EXACT = ("MXFP8", "NVFP4A16")

GOLDENS = [
    Golden("goldens/qwen3vl_modelfree_FP8_DYNAMIC", CPU, Rule("FP8_DYNAMIC", quotient_dtype="source")),
    Golden("goldens/qwen3vl_modelfree_FP8_BLOCK", CPU, Rule("FP8_BLOCK", quotient_dtype="source")),
    Golden("goldens/qwen3vl_oneshot_FP8_DYNAMIC", CPU, Rule("FP8_DYNAMIC", quotient_dtype="source")),
    Golden("goldens/qwen3vl_oneshot_FP8_BLOCK", CPU, Rule("FP8_BLOCK", quotient_dtype="source")),
    Golden("goldens-gpu/FP8_DYNAMIC.safetensors", H100, Rule("FP8_DYNAMIC")),
    # Holds a weight of 130 rows, which ends within a block.
    Golden("goldens-gpu/FP8_BLOCK.safetensors", H100, Rule("FP8_BLOCK")),
    Golden("goldens/qwen3vl_oneshot_FP8_DYNAMIC_withvisual", CPU,
           Rule("FP8_DYNAMIC", quotient_dtype="source", targets=("Linear", "re:.*visual.*")), ("lm_head",)),
    Golden("goldens/qwen3vl_oneshot_FP8_BLOCK_withvisual", CPU,
           Rule("FP8_BLOCK", quotient_dtype="source", targets=("Linear", "re:.*visual.*")), ("lm_head",)),
    *(Golden(f"goldens/qwen3vl_modelfree_{scheme}", CPU, Rule(scheme, quotient_dtype="source"))
      for scheme in ("W8A8", "W4A16", "W4A16_ASYM", "MXFP4")),
    Golden("goldens/qwen3vl_modelfree_MXFP8", CPU, Rule("MXFP8")),
    # q, k, v and gate, up share a global scale, also where they lie in different shards.
    Golden("goldens/qwen3vl_modelfree_NVFP4A16", CPU, Rule("NVFP4A16")),
    Golden("goldens/qwen3vl_oneshot_NVFP4A16", CPU, Rule("NVFP4A16")),
    Golden("goldens-gpu/W8A8.safetensors", H100, Rule("W8A8")),
    Golden("goldens-gpu/W4A16_ASYM.safetensors", H100, Rule("W4A16_ASYM")),
    # `Linear` takes embeddings in model_free_ptq when nothing ignores them; ours, as oneshot's, has to be told.
    Golden("goldens/qwen3vl_modelfree_FP8_DYNAMIC_noignore_embed", CPU,
           Rule("FP8_DYNAMIC", quotient_dtype="source", targets=("Linear", "model.language_model.embed_tokens"))),
    # Stacked experts in both layouts. What model_free_ptq makes of transposed stacks is garbage, and oneshot's is right;
    # that one alone shares a global scale between the gate and up projections of an expert.
    *(Golden(f"goldens/qwen3vlmoe_{output}", source, Rule(scheme, quotient_dtype=None if scheme in EXACT else "source"), experts="split")
      for output, source, scheme in (
          ("modelfree_FP8_DYNAMIC_v5layout", MOE, "FP8_DYNAMIC"),
          ("oneshot_FP8_DYNAMIC_v5layout", MOE, "FP8_DYNAMIC"),
          ("oneshot_FP8_BLOCK_v5layout", MOE, "FP8_BLOCK"),
          ("oneshot_NVFP4A16_v5layout", MOE, "NVFP4A16"),
          ("oneshot_FP8_DYNAMIC_hublayout", MOE_HUB, "FP8_DYNAMIC"))),
]


@dataclass(frozen=True)
class Refused:
    """A result of the reference that we refuse to make, on purpose."""

    output: str
    source: str
    rule: Rule
    keep: list[str]
    # What the refusal says, among other things.
    says: str


REFUSED = [
    # SGLang builds the vision tower unquantized and loads FP8 bytes into it without their scales, silently.
    Refused("goldens/qwen3vl_oneshot_FP8_DYNAMIC_withvisual", CPU, Rule("FP8_DYNAMIC", targets=("Linear", "re:.*visual.*")), ["lm_head"], "vision"),
    Refused("goldens/qwen3vl_oneshot_FP8_BLOCK_withvisual", CPU, Rule("FP8_BLOCK", targets=("Linear", "re:.*visual.*")), ["lm_head"], "vision"),
    # Without a word on stacked experts, most of the model would not be quantized.
    Refused("goldens/qwen3vlmoe_modelfree_FP8_DYNAMIC_v5layout", MOE, Rule("FP8_DYNAMIC"), tool.KEEP, "experts"),
    Refused("goldens/qwen3vlmoe_oneshot_FP8_BLOCK_v5layout", MOE, Rule("FP8_BLOCK"), tool.KEEP, "experts"),
]


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
                # The reference makes what no server reads, and some goldens hold it.
                recipe = tool.recipe("compressed-tensors", golden.rule, list(golden.keep), serving="warn", experts=golden.experts)
                tool.apply(arguments.tool, recipe, source, output)
                expected = tensors.read_checkpoint(as_checkpoint(scratch / golden.output, config))
                faults += tensors.differences(expected, tensors.read_checkpoint(output))
                faults += tensors.index_faults(output)
        for path in sorted((scratch / "goldens" / "ops").glob("*.safetensors")):
            # transformers' own arithmetic is another.
            if path.name.startswith("HF_"):
                continue
            with report.case(f"goldens/ops/{path.name}") as faults:
                faults += compare_operations(arguments.tool, path, scratch / "ours" / path.stem)
        for refused in REFUSED:
            output = scratch / "refused" / refused.output
            output.parent.mkdir(parents=True, exist_ok=True)
            with report.case(f"refused: {refused.output}") as faults:
                recipe = tool.recipe("compressed-tensors", refused.rule, refused.keep)
                faults += refusal_faults(arguments.tool, recipe, scratch / refused.source, output, refused.says)
    return report.close()


def refusal_faults(binary: Path, recipe: str, source: Path, output: Path, says: str) -> list[str]:
    """A refusal is exit 1, a message about the cause, and no output."""
    try:
        tool.apply(binary, recipe, source, output)
    except tool.ToolError as error:
        faults = [] if error.code == 1 and says in error.message else [str(error)]
        return faults + [f"`{output.name}` was written all the same"] * output.exists()
    return ["it was not refused"]


def has_infinity(tensor: Tensor) -> bool:
    """Whether a float tensor holds an infinity or a NaN: all bits of an exponent are set."""
    kinds = {"BF16": ("H", 0x7F80), "F16": ("H", 0x7C00), "F32": ("I", 0x7F800000)}
    if tensor.dtype not in kinds:
        return False
    code, exponent = kinds[tensor.dtype]
    return any(value & exponent == exponent for value in memoryview(tensor.data).cast(code))


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
    # Where the range of a group overflows, the reference stores an infinite scale, and we publish none such.
    for name in [name for name, tensor in expected.items() if name.endswith("weight_scale") and has_infinity(tensor)]:
        module = name.removesuffix(".weight_scale")
        del source[f"{module}.weight"]
        expected = {name: tensor for name, tensor in expected.items() if not name.startswith(f"{module}.")}
    (scratch / "source").mkdir(parents=True)
    (scratch / "source" / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}')
    tensors.write_file(scratch / "source" / "model.safetensors", source, {"format": "pt"})
    quotient = None if scheme in EXACT else "source"
    recipe = tool.recipe("compressed-tensors", Rule(scheme, quotient_dtype=quotient), serving="warn")
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
