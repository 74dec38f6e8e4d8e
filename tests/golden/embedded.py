"""Makes the golden vectors that the schemes hold in themselves, or with `--check` says what differs from them.

Run it with the Python that `tests/interop/setup.sh tests/interop/requirements-0.20.txt` prints: the older release lacks some
presets, and makes the same of the others. The files are `schemes/src/golden/<scheme>.safetensors`, in the
form of the conformance suite (`schemes/src/conformance/golden.rs`) and as small as they can be and still tell.
"""

import argparse
import json
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parents[1] / "schemes/src/golden"
sys.path.insert(0, str(HERE.parent / "interop"))

import torch  # noqa: E402

import checkpoints  # noqa: E402
import reference  # noqa: E402
import tensors  # noqa: E402
import values  # noqa: E402
from report import Report  # noqa: E402

# Sets of options by name: the recipe's, and how the reference is asked for the same.
SETS = {
    "gpu": ({}, {"quotient": "f32"}),
    "cpu": ({"quotient_dtype": "source"}, {"quotient": "source"}),
    "exact": ({}, {"quotient": "source"}),
    "asymmetric": ({"symmetric": False}, {"quotient": "f32", "symmetric": False}),
    "unit": ({"input_scale": 1.0}, {"quotient": "source"}),
}


@dataclass(frozen=True)
class Ties:
    """Values halfway between two that the scheme can store, under a largest one that makes the scale a power of two."""

    middles: tuple[float, ...]
    largest: float

    def row(self, columns: int, rng: torch.Generator) -> torch.Tensor:
        middles = torch.tensor(self.middles)
        signs = torch.randint(0, 2, (1, columns), generator=rng) * 2 - 1
        weight = middles[torch.randint(len(middles), (1, columns), generator=rng)] * signs
        # In every group, and with both signs.
        weight[:, 0::16], weight[:, 1::16] = self.largest, -self.largest
        return weight * 2.0**-14


@dataclass(frozen=True)
class Scheme:
    """A scheme of the reference, and what its vectors are made of."""

    name: str
    ties: "Ties"
    columns: int
    # What stands in the rows of BF16 weights; each item is a weight.
    weights: tuple[tuple[str, ...], ...] = (("zeros", "subnormal", "huge", "ties", "outlier", "wide"),)
    # The sets of options for BF16 weights; F16 ones are tried with the first two, F32 ones with the first.
    sets: tuple[str, ...] = ("gpu", "cpu")


def integers(bits: int) -> Ties:
    return Ties(tuple(step + 0.5 for step in range(2 ** (bits - 1) - 1)), largest=(2**bits - 1) / 2)


def floats(values: list[float]) -> Ties:
    return Ties(tuple((low + high) / 2 for low, high in zip(values, values[1:])), largest=values[-1])


E4M3 = floats(torch.arange(0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float().tolist())
E2M3 = floats([step / 8 for step in range(16)] + [step / 4 for step in range(8, 16)] + [step / 2 for step in range(8, 16)])
E2M1 = floats([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
# Rows that have one scale are weights of their own.
APART = tuple((kind,) for kind in ["zeros", "subnormal", "huge", "ties", "outlier", "wide"])
PACKED = [f"W{bits}A16" for bits in (2, 3, 4, 5, 6, 7, 8)]
PLAIN = ["W2A4", "W3A4", "W4A4", "W2A8", "W3A8", "W4A8", "W5A8", "W6A8", "W7A8", "W4AFP8"]

SCHEMES = [
    Scheme("FP8", E4M3, columns=29, weights=APART),
    Scheme("FP8_DYNAMIC", E4M3, columns=67),
    # Two tiles side by side, and two on top of one another.
    Scheme("FP8_BLOCK", E4M3, columns=130, weights=(("ties", "ties"), ("wide", "zeros"), ("outlier", "normal"))),
    Scheme("W8A8", integers(8), columns=67, sets=("gpu", "cpu", "asymmetric")),
    *(Scheme(name, integers(int(name[1])), columns=128, sets=("gpu", "cpu", "asymmetric")) for name in PACKED + PLAIN),
    Scheme("W4A16_ASYM", integers(4), columns=128),
    Scheme("MXFP8", E4M3, columns=64, sets=("exact",)),
    Scheme("MXFP8A16", E4M3, columns=64, sets=("exact",)),
    Scheme("MXFP6A8", E2M3, columns=64, sets=("exact",)),
    Scheme("MXFP6A16", E2M3, columns=64, sets=("exact",)),
    Scheme("MXFP4", E2M1, columns=64),
    Scheme("MXFP4A16", E2M1, columns=64),
    Scheme("MXFP4XFP8", E2M1, columns=64),
    Scheme("NVFP4A16", E2M1, columns=48, weights=APART, sets=("exact",)),
    Scheme("NVFP4", E2M1, columns=48, weights=APART, sets=("unit",)),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare with what is there")
    arguments = parser.parse_args()
    if not arguments.check:
        GOLDEN.mkdir(exist_ok=True)
        for old in GOLDEN.glob("*.safetensors"):
            old.unlink()
        for name in [make(GOLDEN, scheme) for scheme in SCHEMES]:
            print(f"{(GOLDEN / name).stat().st_size:8} {name}")
        return 0
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        made = [make(Path(scratch), scheme) for scheme in SCHEMES]
        for name in made:
            with report.case(name) as faults:
                theirs, ours = Path(scratch) / name, GOLDEN / name
                faults += tensors.differences(tensors.read_file(theirs)[0], tensors.read_file(ours)[0])
                if not faults and theirs.read_bytes() != ours.read_bytes():
                    faults.append("the headers differ")
        with report.case("no file that this script does not make") as faults:
            faults += sorted({path.name for path in GOLDEN.glob("*.safetensors")} - set(made))
    return report.close()


def make(directory: Path, scheme: Scheme) -> str:
    """Writes the file of one scheme; its name."""
    rng = torch.Generator().manual_seed(zlib.crc32(scheme.name.encode()))
    stored = {}

    def add(weight_name: str, weight: torch.Tensor, sets: tuple[str, ...]) -> None:
        stored[f"{weight_name}.input"] = checkpoints.stored(weight)
        for name in sets:
            made = reference.quantize(weight, scheme.name, **SETS[name][1])
            stored.update({f"{weight_name}.{name}.{suffix}": checkpoints.stored(t) for suffix, t in made.items()})

    for number, kinds in enumerate(scheme.weights):
        weight_name = "bf16" if len(scheme.weights) == 1 else f"bf16_{number}"
        add(weight_name, rows(scheme, kinds, "bf16", rng), scheme.sets)
    if scheme.name == "FP8_BLOCK":
        add("bf16_high", rows(scheme, ("wide", "ties"), "bf16", rng).T.contiguous(), scheme.sets[:1])
    add("f16", rows(scheme, ("ties",), "f16", rng), scheme.sets[:2])
    add("f32", rows(scheme, ("wide",), "f32", rng), scheme.sets[:1])
    options = {name: SETS[name][0] for name in scheme.sets}
    metadata = {"options": json.dumps(options, separators=(",", ":"))}
    tensors.write_file(directory / f"{scheme.name}.safetensors", stored, metadata)
    return f"{scheme.name}.safetensors"


def rows(scheme: Scheme, kinds: tuple[str, ...], dtype: str, rng: torch.Generator) -> torch.Tensor:
    """A weight with a row of each kind."""
    return torch.cat([row(scheme, kind, dtype, rng) for kind in kinds])


def row(scheme: Scheme, kind: str, dtype: str, rng: torch.Generator) -> torch.Tensor:
    if kind == "ties":
        return scheme.ties.row(scheme.columns, rng).to(values.DTYPES[dtype])
    if kind == "zeros":
        # Of both signs.
        weight = torch.zeros(1, scheme.columns)
        weight[:, ::3] = -0.0
        return weight.to(values.DTYPES[dtype])
    weight = values.fill(kind, 1, scheme.columns, values.DTYPES[dtype], rng)
    if kind == "huge" and ("asymmetric" in scheme.sets or scheme.name == "W4A16_ASYM"):
        # The range of both signs is more than the dtype holds: the scale of a zero point would be infinite.
        weight = -weight.abs()
    return weight


if __name__ == "__main__":
    sys.exit(main())
