#!/usr/bin/env python3
"""Deltas against `zstd --patch-from`: sizes, times and memory over real kinds of change, the contenders taking turns.

    benches/deltas.py PROGRAM FOLDER [ROUNDS]

PROGRAM is `target/release/qwen-fp8`, FOLDER an empty one with 3 GB of room; numpy and Debian's zstd are needed. The weights are
random: bell-shaped, each row of another width, BF16. What zstd gets are the shards, each against its namesake, or all of them in one
file where the shards are cut elsewhere. Times are medians of whole processes, of the page cache; `--long=31` is what zstd asks for
with large files, and level 3 its default.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

HIDDEN, MIDDLE, LAYERS, VOCABULARY = 2048, 6144, 2, 16384
RANDOM = np.random.default_rng(7)


def bf16(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def f32(words):
    return (words.astype(np.uint32) << 16).view(np.float32)


def weight(rows, columns):
    width = 0.02 * np.exp(0.3 * RANDOM.standard_normal((rows, 1)))
    return bf16(RANDOM.standard_normal((rows, columns), dtype=np.float32) * width.astype(np.float32))


def first_model():
    tensors = {"model.embed_tokens.weight": weight(VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        for part in "qkvo":
            tensors[f"{name}self_attn.{part}_proj.weight"] = weight(HIDDEN, HIDDEN)
        tensors[f"{name}mlp.gate_proj.weight"] = weight(MIDDLE, HIDDEN)
        tensors[f"{name}mlp.up_proj.weight"] = weight(MIDDLE, HIDDEN)
        tensors[f"{name}mlp.down_proj.weight"] = weight(HIDDEN, MIDDLE)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{name}{norm}.weight"] = bf16(1 + 0.1 * RANDOM.standard_normal(HIDDEN))
    tensors["model.norm.weight"] = bf16(1 + 0.1 * RANDOM.standard_normal(HIDDEN))
    return tensors


def abliterated(old):
    """W - r rᵀW for one direction r in every weight that writes to the residual stream."""
    direction = RANDOM.standard_normal(HIDDEN).astype(np.float32)
    direction /= np.linalg.norm(direction)
    new = dict(old)
    for name, words in old.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            values = f32(words)
            new[name] = bf16(values - np.outer(direction, direction @ values))
    return new


def updated(old, step):
    """Every weight moves by about `step`, from where its BF16 word stands."""
    moved = {}
    for name, words in old.items():
        moved[name] = bf16(f32(words) + step * RANDOM.standard_normal(words.shape, dtype=np.float32))
    return moved


def patched(old):
    new = dict(old)
    for name in ("model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.weight"):
        new[name] = updated({name: old[name]}, 1e-3)[name]
    return new


def write(folder, tensors, shards):
    folder.mkdir()
    names, weight_map = list(tensors), {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        header, begin = {"__metadata__": {"format": "pt"}}, 0
        mine = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        for name in mine:
            end = begin + tensors[name].nbytes
            header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
            begin, weight_map[name] = end, file
        text = json.dumps(header).encode()
        with open(folder / file, "wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for name in mine:
                out.write(tensors[name].tobytes())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN}
    config |= {"intermediate_size": MIDDLE, "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY}
    (folder / "config.json").write_text(json.dumps(config))


def run(*command):
    """Seconds of wall and processor, and the largest resident memory in MiB, of a process that must succeed."""
    # By way of `time`: a child of this process would count the memory of this one as its own.
    command = ["/usr/bin/time", "-f", "%e %U %S %M", *(str(word) for word in command)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    wall, user, system, memory = (float(figure) for figure in done.stderr.split()[-4:])
    return wall, user + system, memory / 1024


def add(runs):
    return sum(run[0] for run in runs), sum(run[1] for run in runs), max(run[2] for run in runs)


def compare(program, folder, kind, old, new, rounds):
    scratch = folder / "scratch"
    scratch.mkdir()
    shards = lambda side: sorted(side.glob("*.safetensors"))
    pairs = list(zip(shards(old), shards(new)))
    if len(shards(old)) != len(shards(new)):
        for side in (old, new):
            with open(scratch / side.name, "wb") as whole:
                for shard in shards(side):
                    whole.write(shard.read_bytes())
        pairs = [(scratch / old.name, scratch / new.name)]
    delta, out = scratch / "changes.qdelta", scratch / "out"
    times = {"delta": [], "apply-delta": [], "zstd": [], "unzstd": []}
    for _ in range(rounds):
        delta.unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", out], check=True)
        times["delta"].append(run(program, "delta", old, new, "--output", delta, "--quiet"))
        packed = [scratch / f"{number}.zst" for number in range(len(pairs))]
        times["zstd"].append(add([
            run("zstd", "-q", "-f", "--long=31", f"--patch-from={a}", b, "-o", to) for (a, b), to in zip(pairs, packed)
        ]))
        times["apply-delta"].append(run(program, "apply-delta", delta, "--base", old, "--output", out, "--quiet"))
        subprocess.run(["diff", "-r", out, new], check=True)
        times["unzstd"].append(add([
            run("zstd", "-q", "-f", "-d", "--long=31", f"--patch-from={a}", of, "-o", scratch / "back")
            for (a, _), of in zip(pairs, packed)
        ]))
    size = sum(file.stat().st_size for file in new.iterdir())
    sizes = delta.stat().st_size, sum(file.stat().st_size for file in packed)
    print(f"{kind}: {size / 1e6:.0f} MB; delta {sizes[0]} B ({sizes[0] / size:.5f}), zstd {sizes[1]} B ({sizes[1] / size:.5f}), "
          f"{sizes[1] / sizes[0]:.1f} ×")
    for what, runs in times.items():
        wall, processor, memory = (statistics.median(column) for column in zip(*runs))
        spread = f"{min(run[0] for run in runs):.2f}–{max(run[0] for run in runs):.2f}"
        print(f"  {what:11} {wall:6.2f} s ({spread})  processor {processor:6.2f} s  {memory:6.0f} MiB  {size / wall / 1e6:6.0f} MB/s")
    for a, b in (("zstd", "delta"), ("unzstd", "apply-delta")):
        for what, column in (("wall", 0), ("processor", 1)):
            ratios = [slow[column] / fast[column] for slow, fast in zip(times[a], times[b])]
            print(f"  {a} over {b}, {what}: {statistics.median(ratios):.1f} × ({min(ratios):.1f}–{max(ratios):.1f})")
    sys.stdout.flush()
    subprocess.run(["rm", "-rf", scratch], check=True)


def main():
    program, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    old = first_model()
    write(folder / "old", old, 2)
    kinds = {"abliterated": (abliterated, 2), "updated": (lambda old: updated(old, 1.5e-6), 2), "patched": (patched, 3)}
    for kind, (change, shards) in kinds.items():
        new = change(old)
        equal = sum(int(np.sum(new[name] == old[name])) for name in old) / sum(words.size for words in old.values())
        print(f"{kind}: {equal:.4f} of the words are equal")
        write(folder / kind, new, shards)
        compare(program, folder, kind, folder / "old", folder / kind, rounds)
    recipe = folder / "recipe.yaml"
    recipe.write_text("version: 1\nformat: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\nscale_dtype: f32\ntargets: Linear\nignore: [lm_head]\n")
    for kind in ("old", "updated"):
        run(program, "apply", recipe, "--model", folder / kind, "--output", folder / f"{kind}-fp8", "--quiet", "--no-manifest")
    compare(program, folder, "updated, in FP8", folder / "old-fp8", folder / "updated-fp8", rounds)


main()
