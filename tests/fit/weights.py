"""Bytes of weights that vLLM holds on one GPU: `weights.json` (see README.md).

    weights.py [NAME…]            write the models anew, all of them without names
    weights.py --check [NAME…]    say where fresh bytes differ from the stored ones; exit code 1 if they do

The models are those of tests/models/shapes, cut to a few layers as there."""

import argparse
import json
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(os.path.dirname(HERE), "models")
sys.path[:0] = [HERE, MODELS]

from extract import Worker, unpacked  # noqa: E402

SHAPES = os.path.join(MODELS, "shapes")
STORED = os.path.join(HERE, "weights.json")
GPUS = (1, 2, 8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="compare with the stored bytes")
    parser.add_argument("--vllm", default=os.environ.get("VLLM_SOURCE"), help="folder that holds vLLM's package")
    parser.add_argument("--limit", type=float, default=180, help="seconds for one model")
    parser.add_argument("--log", default=os.path.join(tempfile.gettempdir(), "weights-facts.log"))
    args = parser.parse_args()
    stored = {}
    if os.path.exists(STORED):
        with open(STORED) as file:
            stored = json.load(file)
    worker = Worker(os.path.join(HERE, "kv_cache_vllm.py"), args.log, os.pathsep.join([MODELS, args.vllm or unpacked()]))
    names = args.names or sorted(name.removesuffix(".json") for name in os.listdir(SHAPES))
    fresh, differing = (dict(stored) if args.names else {}), 0
    with tempfile.TemporaryDirectory() as work:
        for name in names:
            folder = os.path.join(work, name)
            os.makedirs(folder)
            with open(os.path.join(SHAPES, f"{name}.json")) as file:
                config = json.load(file)["config"]
            with open(os.path.join(folder, "config.json"), "w") as file:
                json.dump(config, file)
            answers = [worker.ask(op="weights", folder=folder, limit=args.limit, gpus=gpus) for gpus in GPUS]
            fresh[name] = {str(gpus): answer.get("weights") for gpus, answer in zip(GPUS, answers)}
            if fresh[name] != stored.get(name):
                differing += 1
                print(name, fresh[name], *{answer["error"] for answer in answers if "error" in answer}, flush=True)
            if not args.check:
                with open(STORED, "w") as file:
                    json.dump(fresh, file, indent=2, sort_keys=True)
                    file.write("\n")
    worker.process.stdin.close()
    worker.process.wait()
    if args.check:
        print(f"{len(names) - differing} passed, {differing} failed")
    return 1 if args.check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
