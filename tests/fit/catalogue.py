"""How vLLM sizes the KV cache of every type of the catalogue, small: `catalogue.json` (see README.md).

    catalogue.py [TYPE…]            write the types anew, all of them without names
    catalogue.py --check [TYPE…]    say where fresh sizes differ from the stored ones; exit code 1 if they do

The models are those of tests/models/extract.py."""

import argparse
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(os.path.dirname(HERE), "models")
sys.path[:0] = [HERE, MODELS]

from extract import Worker, archs, unpacked  # noqa: E402

STORED = os.path.join(HERE, "catalogue.json")
ASKED = {"budgets": [64 * 2**20], "contexts": [1000], "batched": 2048, "gpus": 1, "dtype": "auto", "device": "cpu"}
# What says nothing of the cache, and fills pages.
DROPPED = ("id2label", "label2id", "rope_parameters", "rope_scaling", "vocab_list", "suppress_tokens", "transformers_version")


def pruned(config):
    """The figures of config.json: numbers, names of layers, and what holds them."""
    out = {}
    for key, value in config.items():
        if key in DROPPED or value is None or isinstance(value, float) or key.endswith(("_token_id", "_token_ids")):
            continue
        out[key] = pruned(value) if isinstance(value, dict) else value
    return out


def sized(kind, cls, transformers, vllm, folder, limit):
    os.makedirs(folder, exist_ok=True)
    model = transformers.ask(op="facts", type=kind, cls=cls, folder=folder, limit=limit)
    path = os.path.join(folder, "config.json")
    if not os.path.exists(path):
        return {"error": str(model.get("error", "no config.json"))[:200].replace(folder, "MODEL")}
    with open(path) as file:
        config = json.load(file)
    sizes = vllm.ask(op="sizes", folder=folder, limit=limit, **ASKED)
    for key in ("weights", "layout", "in_flight", "where"):
        sizes.pop(key, None)
    return json.loads(json.dumps({"config": pruned(config), **sizes}).replace(folder, "MODEL"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", metavar="TYPE")
    parser.add_argument("--check", action="store_true", help="compare with the stored sizes")
    parser.add_argument("--vllm", default=os.environ.get("VLLM_SOURCE"), help="folder that holds vLLM's package")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one model")
    parser.add_argument("--log", default=os.path.join(tempfile.gettempdir(), "kv-cache-catalogue.log"))
    args = parser.parse_args()
    known = archs()
    stored = {}
    if os.path.exists(STORED):
        with open(STORED) as file:
            stored = json.load(file)
    path = os.pathsep.join([MODELS, args.vllm or unpacked()])
    transformers = Worker("hf_facts.py", args.log)
    vllm = Worker(os.path.join(HERE, "kv_cache_vllm.py"), args.log, path)
    fresh, differing = ({} if not args.types else dict(stored)), 0
    with tempfile.TemporaryDirectory() as work:
        for kind in args.types or sorted(known):
            folder = os.path.join(work, kind.replace("@", "-"))
            fresh[kind] = sized(kind, known[kind], transformers, vllm, folder, args.limit)
            if not args.check:
                write(fresh)
            if fresh[kind] != stored.get(kind):
                differing += 1
                print(f"{kind}: {fresh[kind].get('error', 'sized')}", flush=True)
    for worker in (transformers, vllm):
        worker.process.stdin.close()
        worker.process.wait()
    if args.check:
        print(f"{len(args.types or known) - differing} passed, {differing} failed")
        return 1 if differing else 0
    return 0


def write(sizes):
    lines = [f"{json.dumps(kind)}: {json.dumps(sizes[kind], sort_keys=True)}" for kind in sorted(sizes)]
    with open(STORED, "w") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    sys.exit(main())
