"""The Python files of vLLM and of SGLang, unpacked from their wheels: no kernel is needed, nor what they require for them."""

import os
import subprocess
import sys
import tempfile
import zipfile

VERSION = "0.33.0"
SGLANG = "0.5.23"


def cache(package, version):
    """Where the unpacked files are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "qwen-fp8", f"{package}-{version}")


def unpacked(package="vllm", version=VERSION):
    """The folder that holds the package, fetched and unpacked where it is not there yet."""
    target = cache(package, version)
    if os.path.exists(os.path.join(target, package, "version.py")):
        return target
    with tempfile.TemporaryDirectory() as folder:
        # The environment that setup.sh makes has no pip; the Python that it was made of has.
        python = getattr(sys, "_base_executable", sys.executable)
        subprocess.run(
            [python, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, f"{package}=={version}"],
            check=True,
        )
        wheel = next(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".whl"))
        with zipfile.ZipFile(wheel) as archive:
            wanted = [name for name in archive.namelist() if name.endswith((".py", ".json", "METADATA"))]
            # Into a folder beside it first, so that a run that is stopped leaves nothing half there.
            part = f"{target}.{os.getpid()}"
            archive.extractall(part, wanted)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(part, target)
    return target
