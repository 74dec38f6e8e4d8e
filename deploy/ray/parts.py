"""Makes the output of a recipe in parts on a Ray cluster, each part a task, and joins them.

    python deploy/ray/parts.py 16 recipe.yaml --model /shared/source --output /shared/output

Recipe and options are those of `qwen-fp8 apply`; they, the program (QWEN_FP8, else from the PATH), source and output are the
same on all nodes. Options that are about the whole output, such as --verify, go behind a `--`: to the join alone.
"""

import os
import subprocess
import sys

import ray

# What another try may mend: 2, files and machine; below 0, a signal. 1 is the recipe's or the checkpoint's fault.
RETRIED = 2


class PartFailed(Exception):
    """A part that may end well on another try."""


@ray.remote(max_retries=4, retry_exceptions=[PartFailed])
def make(command: list[str], part: str) -> tuple[str, int, str]:
    """Makes a part; its name, exit code and messages."""
    done = subprocess.run([*command, "--part", part], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == RETRIED or done.returncode < 0:
        raise PartFailed(f"part {part}: exit code {done.returncode}: {done.stderr}")
    return part, done.returncode, done.stderr


def main() -> int:
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal():
        sys.exit(__doc__)
    parts, arguments = int(sys.argv[1]), sys.argv[2:]
    at = arguments.index("--") if "--" in arguments else len(arguments)
    command = [os.environ.get("QWEN_FP8", "qwen-fp8"), "apply", *arguments[:at]]
    cpus = float(os.environ.get("QWEN_FP8_CPUS", "1"))
    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"))
    task = make.options(num_cpus=cpus, scheduling_strategy="SPREAD")
    waiting = [task.remote(command, f"{part}/{parts}") for part in range(1, parts + 1)]
    while waiting:
        [ended], waiting = ray.wait(waiting)
        try:
            _, _, said = ray.get(ended)
            print(said, end="", file=sys.stderr)
        except ray.exceptions.RayError as error:
            # The join names what is missing.
            print(error, file=sys.stderr)
    ray.shutdown()
    return subprocess.run([*command, "--join", *arguments[at + 1 :]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
