#!/usr/bin/env python3
"""Measures what docs/performance.md shows, side by side on this machine, and prints it as a table.

    benches/compare.py [--layers 12] [--rounds 5] [--work DIR] [--llmcompressor PYTHON [--gpu]]

Everything is a ratio of two commands that take turns in one run, since machines differ and are noisy; the medians and
ranges of the rounds are shown. DIR needs about four times the checkpoint's size (12 layers: 8.3 GB) on the disk to be
measured. PYTHON is an interpreter with llmcompressor, as tests/interop/setup.sh makes one; with `--gpu` it computes on the
GPU as well.
"""
import argparse, os, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOL = ROOT / "target/release/qwen-fp8"
SYNTHESIZE = ROOT / "target/release/examples/synth_checkpoint"
RECIPE = ROOT / "recipes/fp8_dynamic.yaml"
MODEL_FREE = """
import sys
from llmcompressor import model_free_ptq
model_free_ptq(model_stub=sys.argv[1], save_directory=sys.argv[2], scheme="FP8_BLOCK", device=sys.argv[3],
               ignore=["re:.*visual.*", "re:.*embed_tokens", "lm_head"])
"""


def timed(command):
    """Wall seconds and peak resident kB of a command that must succeed."""
    began = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{command}: {errors.decode(errors='replace')}")
    return took, usage.ru_maxrss


def remove(path):
    shutil.rmtree(path, ignore_errors=True)
    os.sync()


def evict(directory):
    """Drops a directory's files from the page cache."""
    for file in directory.iterdir():
        fd = os.open(file, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def warm(directory):
    for file in directory.iterdir():
        with open(file, "rb", buffering=0) as opened:
            buffer = bytearray(16 << 20)
            while opened.readinto(buffer):
                pass


def size(directory):
    return sum(file.stat().st_size for file in directory.iterdir())


class Table:
    def __init__(self):
        print(f"{'what':62} {'measured':>22} {'to reach':>10}", flush=True)

    def row(self, what, values, unit, target):
        middle, low, high = statistics.median(values), min(values), max(values)
        spread = f"{middle:.3g} {unit}" + (f" ({low:.3g}–{high:.3g})" if len(values) > 1 else "")
        print(f"{what:62} {spread:>22} {target:>10}", flush=True)


def apply(source, output, *more):
    remove(output)
    return timed([TOOL, "apply", "-q", RECIPE, "--model", source, "--output", output, *more])


def copied(source, copy):
    """Seconds of a `cp -r` to a directory that is not there, and then is removed."""
    took, _ = timed(["cp", "-r", source, copy])
    remove(copy)
    return took


def warm_against_cp(table, source, work, rounds):
    ratios, ours, theirs, peaks = [], [], [], []
    for _ in range(rounds):
        warm(source)
        took, peak = apply(source, work / "out")
        warm(source)
        copy = copied(source, work / "copy")
        ratios.append(took / copy), ours.append(took), theirs.append(copy), peaks.append(peak / 1024)
    table.row("apply, warm cache: wall over `cp -r`", ratios, "×", "≤ 0.85")
    table.row("  apply", ours, "s", "")
    table.row("  cp -r (which does not wait for the disk, as apply does)", theirs, "s", "")
    table.row("peak resident memory of apply", peaks, "MiB", "≤ 256")


def warm_against_synced_cp(table, source, work, rounds):
    ratios = []
    for _ in range(rounds):
        warm(source)
        took, _ = apply(source, work / "out")
        warm(source)
        copy, _ = timed(["sh", "-c", 'cp -r "$0" "$1" && sync -f "$1"', source, work / "copy"])
        remove(work / "copy")
        ratios.append(took / copy)
    table.row("apply, warm cache: wall over `cp -r` and `sync`", ratios, "×", "")


def cold_against_dd(table, source, work, rounds):
    ratios, ours, reads, writes = [], [], [], []
    apply(source, work / "out")
    written = size(work / "out")
    for _ in range(rounds):
        evict(source)
        took, _ = apply(source, work / "out")
        remove(work / "out")
        evict(source)
        read = sum(timed(["dd", f"if={file}", "of=/dev/null", "bs=16M"])[0] for file in sorted(source.glob("*.safetensors")))
        wrote, _ = timed(["dd", "if=/dev/zero", f"of={work / 'zeros'}", "bs=16M", f"count={written >> 24}", "conv=fsync"])
        (work / "zeros").unlink()
        os.sync()
        ratios.append(took / max(read, wrote)), ours.append(took), reads.append(read), writes.append(wrote)
    table.row("apply, cold cache: wall over the slower of dd read, dd write", ratios, "×", "≤ 1.15")
    table.row("  apply", ours, "s", "")
    table.row("  dd of the source to /dev/null", reads, "s", "")
    table.row("  dd of the output's size, with fsync", writes, "s", "")


def disk_floors(table, source, work, rounds):
    """What the disk does with the bytes of a run by itself, at its best: past the page cache."""
    apply(source, work / "out")
    blocks = size(work / "out") >> 24
    remove(work / "out")
    write = ["dd", "if=/dev/zero", f"of={work / 'zeros'}", "bs=16M", f"count={blocks}", "oflag=direct", "conv=fsync"]
    read = f"for file in {source}/*.safetensors; do dd if=$file of=/dev/null bs=16M iflag=direct; done"
    alone, both, warm_ratio, cold_ratio = [], [], [], []
    for _ in range(rounds):
        alone.append(timed(write)[0])
        (work / "zeros").unlink()
        os.sync()
        warm(source)
        warm_ratio.append(apply(source, work / "out")[0] / alone[-1])
        remove(work / "out")
        both.append(timed(["sh", "-c", f"{read} & {' '.join(write)}; wait"])[0])
        (work / "zeros").unlink()
        os.sync()
        evict(source)
        cold_ratio.append(apply(source, work / "out")[0] / both[-1])
        remove(work / "out")
    table.row("apply, warm cache: wall over a direct dd write of its output", warm_ratio, "×", "")
    table.row("  dd write of the output's size, direct", alone, "s", "")
    table.row("apply, cold cache: wall over dd reading and writing at once", cold_ratio, "×", "")
    table.row("  dd read of the source and dd write of the output at once", both, "s", "")


def in_memory(table, python, devices, rounds):
    """Source and outputs in memory (tmpfs), so that no disk is in the way."""
    work = Path(tempfile.mkdtemp(prefix="compare-", dir="/dev/shm"))
    try:
        source = work / "source"
        synthesize(source, 8, "--no-vision", "--vocabulary", "4096")
        # The first time that anything is written here, the machine itself may have to find the memory.
        apply(source, work / "out"), copied(source, work / "copy")
        threads, floor, copies = [], [], []
        for _ in range(rounds):
            one, _ = apply(source, work / "out", "--threads", "1")
            two, _ = apply(source, work / "out", "--threads", "2")
            remove(work / "out")
            copy = copied(source, work / "copy")
            threads.append(one / two), copies.append(two / copy)
            floor.append(dd_in_memory(source, work / "dd", 1) / dd_in_memory(source, work / "dd", 2))
        table.row("in memory: apply with 1 thread over apply with 2", threads, "×", "≥ 1.9")
        table.row("  the same of `dd`, 1 process over 2 that write one file", floor, "×", "")
        table.row("in memory: apply with 2 threads over `cp -r`", copies, "×", "≤ 0.85")
        if python:
            against_llmcompressor(table, python, devices, source, work, min(rounds, 3), "in memory: ")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def all_cores(table, rounds):
    """Every core at work in memory, on as many shards as a checkpoint of this size has, and on many small ones."""
    work = Path(tempfile.mkdtemp(prefix="compare-", dir="/dev/shm"))
    passthrough = work / "passthrough.yaml"
    rule = "{scheme: PASSTHROUGH, targets: ['re:.*']}"
    passthrough.write_text(f"version: 1\nmodel: a/b\noutput: c\nformat: fp8\nrules: [{rule}]\n")
    try:
        for shard in (5_000_000_000, 500_000_000):
            source = work / "source"
            synthesize(source, 8, "--no-vision", "--vocabulary", "4096", "--max-shard-size", str(shard))
            apply(source, work / "out"), copied(source, work / "copy")
            speedup, over_cp, over_many, kept, verified, peaks = [], [], [], [], [], []
            for _ in range(rounds):
                one, _ = apply(source, work / "out", "--threads", "1")
                every, peak = apply(source, work / "out")
                proof, held = timed([TOOL, "verify", "-q", work / "out", "--source", source])
                remove(work / "out")
                copy = copied(source, work / "copy")
                many = copied_at_once(source, work / "copy")
                command = [TOOL, "apply", "-q", passthrough, "--model", source, "--output", work / "out"]
                passed, _ = timed(command)
                speedup.append(one / every), over_cp.append(every / copy), over_many.append(every / many)
                kept.append(passed / copy), verified.append(proof / every), peaks.append(max(peak, held) / 1024)
            where = f"{len(list(source.glob('*.safetensors')))} shards, all cores:"
            table.row(f"{where} apply with 1 thread over apply", speedup, "×", "≥ 8")
            table.row(f"{where} apply over `cp -r`", over_cp, "×", "≤ 0.2")
            table.row(f"{where} apply over a `cp` for each file, at once", over_many, "×", "≤ 0.6")
            table.row(f"{where} PASSTHROUGH alone over `cp -r`", kept, "×", "≤ 0.25")
            table.row(f"{where} verify --source over apply", verified, "×", "≤ 1.5")
            table.row("  peak resident memory of apply and verify", peaks, "MiB", "≤ 128")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def copied_at_once(source, copy):
    """Seconds in which one `cp` for each file copies a directory."""
    copy.mkdir()
    took, _ = timed(["sh", "-c", 'for file in "$0"/*; do cp "$file" "$1" & done; wait', source, copy])
    remove(copy)
    return took


def dd_in_memory(source, work, processes):
    """Seconds in which so many processes copy a source's largest file, each its part of one new file."""
    file = max(source.iterdir(), key=lambda file: file.stat().st_size)
    blocks = (file.stat().st_size >> 21) // processes
    began = time.perf_counter()
    parts = [
        subprocess.Popen(
            ["dd", f"if={file}", f"of={work}", "bs=2M", "conv=notrunc"]
            + [f"count={blocks}", f"skip={part * blocks}", f"seek={part * blocks}"],
            stderr=subprocess.DEVNULL,
        )
        for part in range(processes)
    ]
    if any(part.wait() for part in parts):
        sys.exit("dd failed")
    took = time.perf_counter() - began
    work.unlink()
    return took


def against_llmcompressor(table, python, devices, source, work, rounds, where=""):
    """Whole processes in turns, on every core: ours, and the reference's with each of these devices."""
    ratios, theirs = {device: [] for device in devices}, {device: [] for device in devices}
    for _ in range(rounds):
        warm(source)
        ours, _ = apply(source, work / "out")
        for device in devices:
            remove(work / "reference")
            warm(source)
            took, _ = timed([python, "-c", MODEL_FREE, source, work / "reference", device])
            ratios[device].append(took / ours), theirs[device].append(took)
        remove(work / "reference")
    for device in devices:
        target = "≥ 60" if device == "cpu" else "≥ 25"
        table.row(f"{where}llm-compressor, FP8_BLOCK, {device}: wall over apply", ratios[device], "×", target)
        table.row("  llm-compressor", theirs[device], "s", "")


def start_up(table, work, rounds):
    header_only = work / "header-only"
    synthesize(header_only, 36, "--headers-only")
    millis = lambda command: timed(command)[0] * 1e3
    table.row("validate, start to end", [millis([TOOL, "validate", "-q", RECIPE]) for _ in range(rounds)], "ms", "≤ 15")
    plan = [TOOL, "plan", "-q", RECIPE, "--model", header_only]
    table.row("plan of the 8B model", [millis(plan) for _ in range(rounds)], "ms", "≤ 60")
    remove(header_only)


def kernels():
    """The ratios that the crate's own benchmark prints."""
    bench = ["cargo", "bench", "-q", "-p", "qwen-fp8-schemes", "--bench", "kernels", "--", "--ratios"]
    print(subprocess.run(bench, cwd=ROOT, check=True, capture_output=True, text=True).stdout, flush=True)


def synthesize(directory, layers, *more):
    remove(directory)
    subprocess.run([SYNTHESIZE, directory, "--layers", str(layers), *more], check=True, stderr=subprocess.DEVNULL)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--layers", type=int, default=12)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--work", type=Path, default=None)
    options.add_argument("--llmcompressor", default=None)
    options.add_argument("--gpu", action="store_true", help="have llm-compressor compute on the GPU as well")
    options.add_argument("--skip-kernels", action="store_true", help="leave out the kernels' rows, which take a build")
    options.add_argument("--prebuilt", action="store_true", help="measure the binaries in target/release as they are")
    options = options.parse_args()
    if not options.prebuilt:
        build = ["cargo", "build", "-q", "--release", "--bin", "qwen-fp8", "--example", "synth_checkpoint"]
        subprocess.run(build, cwd=ROOT, check=True)
    work = Path(tempfile.mkdtemp(prefix="compare-", dir=options.work or ROOT / "target"))
    try:
        if not options.skip_kernels:
            kernels()
        source = work / "source"
        synthesize(source, options.layers)
        os.sync()
        cores = len(os.sched_getaffinity(0))
        print(f"{options.layers} layers, {size(source) / 1e9:.2f} GB, {cores} cores, {options.rounds} rounds: median (range)\n")
        table = Table()
        warm_against_cp(table, source, work, options.rounds)
        warm_against_synced_cp(table, source, work, options.rounds)
        cold_against_dd(table, source, work, options.rounds)
        disk_floors(table, source, work, options.rounds)
        devices = ["cpu", "cuda"] if options.gpu else ["cpu"]
        in_memory(table, options.llmcompressor, devices, options.rounds)
        all_cores(table, options.rounds)
        start_up(table, work, 20)
        if options.llmcompressor:
            against_llmcompressor(table, options.llmcompressor, devices, source, work, min(options.rounds, 2))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
