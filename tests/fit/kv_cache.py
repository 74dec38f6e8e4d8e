"""How vLLM sizes the KV cache of published models: its own code, on the CPU, from config.json alone (see README.md).

    kv_cache.py [NAME…]            write `sizes` of facts/NAME.json anew
    kv_cache.py --check [NAME…]    say where fresh facts differ from the stored ones; exit code 1 if they do

Runs in the same Python as tests/models/extract.py. Models are built on the meta device, so that they take no memory."""

import argparse
import difflib
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(os.path.dirname(HERE), "models")
sys.path[:0] = [HERE, MODELS]
FACTS = os.path.join(HERE, "facts")

from extract import Worker, unpacked  # noqa: E402
from forms import written  # noqa: E402

GPUS = (1, 2, 8)
DTYPES = ("auto", "fp8")
# What is asked of each: bytes for the cache of one GPU, and tokens of context.
BUDGETS = (2 * 2**30, 11_000_000_000, 60 * 2**30)
CONTEXTS = (2048, 16384, 100_000)
# The tokens of a step: the default of vLLM on GPUs of less than 70 GiB.
BATCHED_TOKENS = 2048


def asked(worker, facts, folder, limit):
    """The facts of a model with fresh sizes, as text."""
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(facts["config"], file)
    job = {"op": "sizes", "folder": folder, "limit": limit, "batched": BATCHED_TOKENS}
    job.update(budgets=BUDGETS, contexts=CONTEXTS)
    facts["sizes"] = [worker.ask(**job, gpus=gpus, dtype=dtype) for gpus in GPUS for dtype in DTYPES]
    return written(facts, ("sizes",)).replace(folder, "MODEL")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="compare with the stored facts")
    parser.add_argument(
        "--vllm",
        default=os.environ.get("VLLM_SOURCE"),
        help="folder that holds vLLM's unpacked package `vllm/` (default: $VLLM_SOURCE, else fetched)",
    )
    parser.add_argument("--limit", type=float, default=180, help="seconds for one model")
    parser.add_argument("--log", default=os.path.join(tempfile.gettempdir(), "kv-cache-facts.log"))
    args = parser.parse_args()
    known = sorted(name.removesuffix(".json") for name in os.listdir(FACTS))
    unknown = [name for name in args.names if name not in known]
    if unknown:
        raise SystemExit(f"no model of that name: {', '.join(unknown)}; there are: {', '.join(known)}")
    path = os.pathsep.join([MODELS, args.vllm or unpacked()])
    worker = Worker(os.path.join(HERE, "kv_cache_vllm.py"), args.log, path)
    names, differing = args.names or known, 0
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            path = os.path.join(FACTS, f"{name}.json")
            with open(path) as file:
                stored = file.read()
            text = asked(worker, json.loads(stored), os.path.join(work, name), args.limit)
            if not args.check:
                with open(path, "w") as file:
                    file.write(text)
                errors = {size["error"] for size in json.loads(text)["sizes"] if "error" in size}
                print(f"{name}: {text.count(chr(10))} lines", *errors, flush=True)
                continue
            lines = difflib.unified_diff(
                stored.splitlines(), text.splitlines(), f"facts/{name}.json", "fresh", lineterm="", n=0
            )
            difference = list(lines)
            differing += bool(difference)
            print(*difference, sep="\n", end="\n" if difference else "")
    worker.close()
    if args.check:
        print(f"{max(0, len(names) - differing)} passed, {differing} failed")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
