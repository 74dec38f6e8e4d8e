#!/usr/bin/env bash
# Version:   moto 5.2.5 with boto3 1.44.8 (PyPI).
# Input:     two objects, of 8 and of 256 MiB, put into a bucket of moto's server; then sixteen ranges of 1 MiB of each, by `Range`.
# Behaviour: the server takes up the whole object for each range: sixteen MiB of the large object cost it more than eight times the
#            processor time of sixteen of the small one. To read a shard in ranges takes time by the square of its size, so that
#            such a run says nothing of the client: of two clients the one with the smaller ranges is the slower one by as much.
# Seen:      2026-12-01
seen='the ranges are those of the object; of the large one they cost more than eight times as much'
set -euo pipefail
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check 'moto[server]==5.2.5' boto3==1.44.8

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$python" -m moto.server -H 127.0.0.1 -p "$port" >"$scratch/server" 2>&1 &
server=$!
for _ in $(seq 60); do
    if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        break
    fi
    sleep 1
done

found=$("$python" - "$port" "$server" 2>"$scratch/log" <<'PYTHON'
import os
import sys

import boto3

MIB = 1 << 20
port, server = sys.argv[1:]
s3 = boto3.client(
    "s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
)
s3.create_bucket(Bucket="models")


def busy():
    """The processor time of the server so far, in its kernel too."""
    fields = open(f"/proc/{server}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


cost, right = {}, True
for mib in (8, 256):
    data = b"".join(bytes([number]) * MIB for number in range(mib % 256 or 256))
    s3.put_object(Bucket="models", Key=f"{mib}", Body=data)
    before = busy()
    for number in range(16):
        first = number % mib * MIB
        got = s3.get_object(Bucket="models", Key=f"{mib}", Range=f"bytes={first}-{first + MIB - 1}")["Body"].read()
        right &= got == data[first : first + MIB]
    cost[mib] = busy() - before
print(f"processor time for sixteen ranges: {cost}", file=sys.stderr)
print("the ranges are those of the object" if right else "the ranges are others", end="; ")
print("of the large one they cost more than eight times as much" if cost[256] > 8 * cost[8] else "they cost much the same")
PYTHON
) || { cat "$scratch/log" "$scratch/server" >&2; exit 1; }
cat "$scratch/log"
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "moto no longer reads all of an object for each range" >&2
    exit 1
fi
