"""Makes the golden data of this folder with the reference tools, or with `--check` says what differs from them.

Run it with the Python that `tests/interop/setup.sh` prints. See README.md for what the files hold.
"""

import argparse
import json
import sys
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

import torch  # noqa: E402

import checkpoints  # noqa: E402
import reference  # noqa: E402
import tensors  # noqa: E402
import values  # noqa: E402
from report import Report  # noqa: E402


@dataclass(frozen=True)
class Scheme:
    """A scheme of the reference, and the weights to try it on."""

    name: str
    # Rows and columns of the small weights, one for each kind of values.
    shape: tuple[int, int]
    # Of one more weight of ordinary values, which spans several groups in each direction.
    large: tuple[int, int] | None = None
    # The dtypes to which the quotient is rounded first: `source` as on a CPU, `f32` as on a GPU.
    quotients: tuple[str, ...] = ("source", "f32")
    # Whether the scheme has no such option, since both are the same.
    exact: bool = False
    # Dtypes of source and scale where they differ.
    scales: tuple[tuple[str, str], ...] = ()


SCHEMES = [
    Scheme("FP8", shape=(4, 61)),
    Scheme("FP8_DYNAMIC", shape=(4, 61)),
    Scheme("FP8_BLOCK", shape=(2, 129), large=(129, 131), scales=(("bf16", "f32"), ("f32", "bf16"))),
    Scheme("W8A8", shape=(3, 61)),
    Scheme("W4A16", shape=(2, 128)),
    # Zero points are packed in words of eight rows.
    Scheme("W4A16_ASYM", shape=(1, 128), large=(11, 256)),
    # Codes straddle words.
    Scheme("W3A16", shape=(1, 128), large=(2, 384), quotients=("source",)),
    Scheme("W4A8", shape=(1, 128), quotients=("source",)),
    Scheme("MXFP8", shape=(2, 64), quotients=("source",), exact=True),
    Scheme("MXFP4", shape=(2, 64), quotients=("source",)),
    Scheme("NVFP4A16", shape=(2, 48), quotients=("source",), exact=True),
]

# The folder of what is made of NaN and infinity, by the schemes that carry them.
NON_FINITE = "nonfinite"
CARRIES = ["FP8", "FP8_DYNAMIC", "FP8_BLOCK"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare with what is there")
    arguments = parser.parse_args()
    if not arguments.check:
        for old in own_files():
            old.unlink()
        for name in make_all(HERE):
            print(f"{(HERE / name).stat().st_size:8} {name}")
        return 0
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        made = make_all(Path(scratch))
        for name in made:
            with report.case(name) as faults:
                theirs, ours = Path(scratch) / name, HERE / name
                faults += tensors.differences(tensors.read_file(theirs)[0], tensors.read_file(ours)[0])
                if not faults and theirs.read_bytes() != ours.read_bytes():
                    faults.append("the headers differ")
        with report.case("no file that this script does not make") as faults:
            faults += sorted({str(path.relative_to(HERE)) for path in own_files()} - set(made))
    return report.close()


def own_files() -> list[Path]:
    """The files that this script makes; those of decoders.py lie in a folder of their own."""
    return [path for folder in (HERE, HERE / NON_FINITE) for path in folder.glob("*.safetensors")]


def make_all(directory: Path) -> list[str]:
    """Writes every file; their names."""
    made = []
    for scheme in SCHEMES:
        for dtype in values.DTYPES:
            made += [make(directory, scheme, dtype, quotient, "source") for quotient in scheme.quotients]
        made += [make(directory, scheme, dtype, "f32", scale) for dtype, scale in scheme.scales]
    (directory / NON_FINITE).mkdir(exist_ok=True)
    made += [make_non_finite(directory, name, dtype) for name in CARRIES for dtype in values.DTYPES]
    return made


def make(directory: Path, scheme: Scheme, dtype: str, quotient: str, scale: str) -> str:
    """Writes the file of one scheme, source dtype and arithmetic; its name."""
    stored = {}
    inputs = {kind: drawn(scheme, dtype, kind, kind, scheme.shape) for kind in values.KINDS}
    if scheme.large:
        inputs["large"] = drawn(scheme, dtype, "large", "normal", scheme.large)
    for kind, weight in inputs.items():
        stored[f"{kind}.input"] = checkpoints.stored(weight)
        made = reference.quantize(weight, scheme.name, quotient=quotient, scale=scale)
        stored |= {f"{kind}.{suffix}": checkpoints.stored(tensor) for suffix, tensor in made.items()}
    name = f"{scheme.name.lower()}_{dtype}_{quotient}"
    options = {}
    if not scheme.exact:
        options["quotient_dtype"] = quotient
    if scale != "source":
        options["scale_dtype"] = scale
        name += f"_{scale}_scales"
    metadata = {"scheme": scheme.name, "options": json.dumps(options, separators=(",", ":"))}
    tensors.write_file(directory / f"{name}.safetensors", stored, metadata)
    return f"{name}.safetensors"


def drawn(scheme: Scheme, dtype: str, name: str, kind: str, shape: tuple[int, int]) -> torch.Tensor:
    """One input: the same under every arithmetic, another for every scheme, dtype and name.

    The seed has the name, so that a new kind of values leaves the others' data alone (but for `mixed`, which has them all).
    """
    rng = torch.Generator().manual_seed(zlib.crc32(f"{scheme.name} {dtype} {name}".encode()))
    return values.fill(kind, *shape, values.DTYPES[dtype], rng)


def make_non_finite(directory: Path, name: str, dtype: str) -> str:
    """Writes what the reference makes of NaN and infinity under a scheme; the file's name."""
    stored = {}
    rng = torch.Generator().manual_seed(zlib.crc32(f"{name} {dtype} non-finite".encode()))
    inf, nan = float("inf"), float("nan")
    for kind, poison in {"nan": [nan], "infinity": [inf], "both": [nan, -inf, inf, -nan]}.items():
        weight = values.fill("normal", 5, 131, values.DTYPES[dtype], rng)
        for place, value in enumerate(poison):
            weight[1 + place // 2, 3 + 7 * place] = value
        stored[f"{kind}.input"] = checkpoints.stored(weight)
        made = reference.quantize(weight, name)
        # The sign of a NaN is the machine's.
        codes = made["weight"].view(torch.uint8)
        codes[codes == 0xFF] = 0x7F
        stored |= {f"{kind}.{suffix}": checkpoints.stored(tensor) for suffix, tensor in made.items()}
    file = f"{NON_FINITE}/{name.lower()}_{dtype}_source.safetensors"
    tensors.write_file(directory / file, stored, {"scheme": name, "options": '{"quotient_dtype":"source"}'})
    return file


if __name__ == "__main__":
    sys.exit(main())
