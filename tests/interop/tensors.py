"""Safetensors files as raw bytes: read, written and compared without any tool under test or any reference tool."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16,
        "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64}


@dataclass(frozen=True)
class Tensor:
    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of one file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    data = raw[8 + length :]
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = Tensor(entry["dtype"], tuple(entry["shape"]), data[begin:end])
    return tensors, metadata


def write_file(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes the same bytes every time: metadata sorted, tensors widest dtype first, then by name."""
    header: dict = {"__metadata__": dict(sorted(metadata.items()))}
    names = sorted(tensors, key=lambda name: (-BITS[tensors[name].dtype], name))
    offset = 0
    for name in names:
        tensor = tensors[name]
        end = offset + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join(tensors[name].data for name in names))


def read_checkpoint(directory: Path) -> dict[str, Tensor]:
    """All tensors of a model directory."""
    found: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors, _ = read_file(path)
        if twice := found.keys() & tensors.keys():
            raise ValueError(f"{directory}: {sorted(twice)} are in two files")
        found |= tensors
    return found


def index_faults(directory: Path) -> list[str]:
    """Where the index of a model directory disagrees with its files. Not for the reference's own results: the
    `total_size` that `oneshot` writes for half a block counts the padding."""
    sizes, shard_of = 0, {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors, metadata = read_file(path)
        if metadata.get("format") != "pt":
            return [f"`{path.name}`: the header does not say `format: pt`"]
        shard_of |= dict.fromkeys(tensors, path.name)
        sizes += sum(len(tensor.data) for tensor in tensors.values())
    path = directory / "model.safetensors.index.json"
    if not path.exists():
        return ["several shards and no index"] if len(set(shard_of.values())) > 1 else []
    index = json.loads(path.read_text())
    faults = [] if index["weight_map"] == shard_of else ["the index and the shards disagree"]
    if (total := index["metadata"]["total_size"]) != sizes:
        faults.append(f"the index says {total} bytes, the shards hold {sizes}")
    return faults


def differences(expected: dict[str, Tensor], actual: dict[str, Tensor]) -> list[str]:
    """One line for each tensor that is missing, invented or different; empty when both are byte for byte equal."""
    lines = []
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            lines.append(f"`{name}` is missing ({expected[name]})")
        elif name not in expected:
            lines.append(f"`{name}` should not be there ({actual[name]})")
        elif expected[name] != actual[name]:
            lines.append(f"`{name}`: {_difference(expected[name], actual[name])}")
    return lines


def _difference(expected: Tensor, actual: Tensor) -> str:
    if (expected.dtype, expected.shape) != (actual.dtype, actual.shape):
        return f"expected {expected}, found {actual}"
    size = BITS[expected.dtype] // 8
    elements = range(0, len(expected.data), size)
    wrong = [at for at in elements if expected.data[at : at + size] != actual.data[at : at + size]]
    first = wrong[0]
    index, rest = [], first // size
    for length in reversed(expected.shape):
        rest, place = divmod(rest, length)
        index.insert(0, place)
    show = lambda tensor: f"0x{int.from_bytes(tensor.data[first : first + size], 'little'):0{2 * size}X}"  # noqa: E731
    return (f"{len(wrong)} of {len(elements)} elements differ ({expected}), the first at {index}: "
            f"expected {show(expected)}, found {show(actual)}")
