"""Takes the facts of every architecture from transformers, vLLM and SGLang: see README.md.

    extract.py [TYPE…]            write facts/TYPE.json; without a type all, and what sources alone say
    extract.py --check [TYPE…]    say where fresh facts differ from the stored ones; exit code 1 if they do
    extract.py --list             the types and their classes

Runs in a Python that has what requirements.txt lists. vLLM comes from --vllm, a folder with its unpacked Python files,
or is fetched from the package index and unpacked once.
"""

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
import time

import sources
from forms import written
from wheel import VERSION as VLLM, unpacked

HERE = os.path.dirname(os.path.abspath(__file__))
FACTS = os.path.join(HERE, "facts")
TRANSFORMERS = "5.24.0"
LISTS = ("tensors", "layers")


class Worker:
    """A process with transformers or vLLM in it, that forks for each job."""

    def __init__(self, script, log, path=None):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        if path:
            environment["PYTHONPATH"] = path
        self.log = log
        with open(log, "a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, os.path.join(HERE, script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        if not self.process.stdout.readline():
            raise SystemExit(f"{script} did not start: see {log}")

    def ask(self, **job):
        self.process.stdin.write(json.dumps({**job, "log": self.log}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the worker died"}

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def file_of(kind):
    return os.path.join(FACTS, f"{kind}.json")


def facts_of(kind, cls, transformers, vllm, folder, limit):
    """The text of the facts of one type."""
    os.makedirs(folder, exist_ok=True)
    model = transformers.ask(op="facts", type=kind, cls=cls, folder=folder, limit=limit)
    facts = {
        "model_type": kind.partition("@")[0],
        "variant": kind.partition("@")[2] or None,
        "architecture": model.get("architecture", cls),
    }
    facts["versions"] = {"transformers": TRANSFORMERS, "vllm": VLLM}
    if "error" in model:
        facts["error"] = " ".join(model["error"].split())[:300].replace(folder, "MODEL")
        return written(drop_none(facts), LISTS)
    facts.update({"tied": model["tied"], "parameters": model["parameters"], "tensors": model["tensors"]})
    if vllm is not None:
        facts["vllm"] = vllm.ask(op="facts", folder=folder, limit=limit)
    # Errors name the folder of this run.
    return written(drop_none(facts), LISTS).replace(folder, "MODEL")


def drop_none(facts):
    return {key: value for key, value in facts.items() if value is not None}


def archs():
    """model type -> class name."""
    done = subprocess.run([sys.executable, os.path.join(HERE, "archs.py")], capture_output=True, text=True, check=True)
    return {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if len(line.split()) == 3}


def compared(kind, text, whole):
    """The difference between the stored facts of a type and fresh ones, as lines; without vLLM's part if not whole."""
    stored = ""
    if os.path.exists(file_of(kind)):
        with open(file_of(kind)) as file:
            stored = file.read()
        if not whole:
            stored = written({key: value for key, value in json.loads(stored).items() if key != "vllm"}, LISTS)
    lines = difflib.unified_diff(
        stored.splitlines(), text.splitlines(), f"facts/{kind}.json", "fresh", lineterm="", n=0
    )
    return list(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", metavar="TYPE")
    parser.add_argument("--check", action="store_true", help="compare with the stored facts")
    parser.add_argument("--list", action="store_true", help="list the types and their classes")
    parser.add_argument(
        "--vllm",
        default=os.environ.get("VLLM_SOURCE"),
        help="folder that holds vLLM's unpacked package `vllm/` (default: $VLLM_SOURCE, else fetched)",
    )
    parser.add_argument("--no-vllm", action="store_true", help="only what transformers says")
    parser.add_argument("--limit", type=float, default=120, help="seconds for one model on each side")
    parser.add_argument("--log", default=os.path.join(tempfile.gettempdir(), "model-facts.log"))
    args = parser.parse_args()
    known = archs()
    if args.list:
        print(*(f"{kind} {cls}" for kind, cls in sorted(known.items())), sep="\n")
        return 0
    unknown = [kind for kind in args.types if kind not in known]
    if unknown:
        raise SystemExit(
            f"no type of transformers {TRANSFORMERS} that is built here: {', '.join(unknown)} (see --list)"
        )
    kinds = args.types or sorted(known)
    if args.no_vllm and not args.check:
        raise SystemExit("--no-vllm would drop what vLLM said from the stored facts: use it with --check")
    path = None if args.no_vllm else args.vllm or unpacked()
    os.makedirs(FACTS, exist_ok=True)
    began, differing = time.time(), 0
    transformers = Worker("hf_facts.py", args.log)
    vllm = None if args.no_vllm else Worker("vllm_facts.py", args.log, path)
    with tempfile.TemporaryDirectory() as work:
        for kind in kinds:
            text = facts_of(
                kind, known[kind], transformers, vllm, os.path.join(work, kind.replace("@", "-")), args.limit
            )
            if args.check:
                difference = compared(kind, text, vllm is not None)
                differing += bool(difference)
                print(*difference, sep="\n", end="\n" if difference else "")
            else:
                with open(file_of(kind), "w") as file:
                    file.write(text)
                facts = json.loads(text)
                server = facts.get("vllm", {})
                print(
                    f"{kind}: {len(facts.get('tensors', []))} forms, vLLM {server.get('class')}",
                    *(facts.get("error", ""), server.get("error", ""), server.get("load_error", "")),
                    flush=True,
                )
    for worker in (transformers, vllm):
        if worker is not None:
            worker.close()
    whole = not args.no_vllm
    if whole and args.check:
        for lines in sources.differences(path).values():
            differing += 1
            print(*lines, sep="\n")
    elif whole and not args.types:
        sources.write(path)
    if args.check and not args.types:
        stale = sorted({name.removesuffix(".json") for name in os.listdir(FACTS)} - set(known))
        differing += len(stale)
        print(*(f"facts/{kind}.json: no such type any more" for kind in stale), sep="\n", end="\n" if stale else "")
    print(f"{len(kinds)} types in {time.time() - began:.0f} s", file=sys.stderr)
    if args.check:
        count = len(kinds) + 3 * whole
        print(f"{max(0, count - differing)} passed, {differing} failed")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
