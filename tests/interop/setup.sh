#!/usr/bin/env bash
# Installs the pinned reference tools (requirements.txt, or the lock named as argument) into a virtual environment in the
# user's cache, once for each content of the lock, and prints the path of its Python on stdout. Needs python3 with pip,
# nothing else.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lock=$(realpath "${1:-$here/requirements.txt}")
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/qwen-fp8
uv_version=0.13.9
python_version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
key=$(sha256sum "$lock" | cut -c1-12)
venv=$cache/reference-py$python_version-$key

# Two runs at once must not write into one environment.
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

if [ ! -e "$venv/complete" ]; then
    started=$SECONDS
    # `--target` leaves the system's Python alone, which on Debian is not pip's to write to.
    uv=$cache/uv-$uv_version
    if [ ! -x "$uv/bin/uv" ]; then
        echo "interop: installing uv $uv_version" >&2
        rm -rf "$uv"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
            --target "$uv" "uv==$uv_version" >&2
    fi
    echo "interop: installing the reference tools into $venv" >&2
    rm -rf "$venv"
    export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
    "$uv/bin/uv" venv --quiet --python "$(command -v python3)" "$venv" >&2
    "$uv/bin/uv" pip sync --quiet --python "$venv/bin/python" "$lock" >&2
    touch "$venv/complete"
    echo "interop: installed in $((SECONDS - started)) s" >&2
fi
echo "$venv/bin/python"
