#!/usr/bin/env bash
# Version:   azure-storage-blob 12.31.1 (PyPI) with Microsoft's emulator azurite 3.37.0 (npm).
# Input:     one blob of 100 bytes; its tag as the listing of its container has it, as its properties have it, and as the answer to
#            a download has it.
# Behaviour: the listing gives the tag without quotation marks, the two others with them. Both are a valid condition of a read. Who
#            pins a checkpoint to the tags of a listing and compares them with those of the answers finds every file changed: this is how a
#            library that passes tags on as they come could not read a model at all.
# Seen:      2026-11-29
seen='listed bare, of properties quoted, of a download quoted; equal but for the quotation marks; '
seen+='a read under either tag returns 100 bytes'
set -euo pipefail
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check azure-storage-blob==12.31.1
npm install --silent --no-fund --no-audit --prefix "$scratch/npm" azurite@3.37.0

port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
AZURITE_ACCOUNTS=tester:a2V5 "$scratch/npm/node_modules/.bin/azurite-blob" --blobPort "$port" --inMemoryPersistence \
    --skipApiVersionCheck >"$scratch/server" 2>&1 &
server=$!
for _ in $(seq 60); do
    if grep -q "successfully listen" "$scratch/server"; then
        break
    fi
    sleep 1
done

found=$("$python" - "$port" 2>"$scratch/log" <<'PYTHON'
import sys

from azure.core import MatchConditions
from azure.storage.blob import BlobServiceClient

service = BlobServiceClient(f"http://127.0.0.1:{sys.argv[1]}/tester", credential="a2V5")
container = service.create_container("models")
blob = container.get_blob_client("model.safetensors")
blob.upload_blob(b"x" * 100)

tags = {
    "listed": next(iter(container.list_blobs())).etag,
    "of properties": blob.get_blob_properties().etag,
    "of a download": blob.download_blob().properties.etag,
}
form = lambda tag: "quoted" if tag.startswith('"') and tag.endswith('"') else "bare"  # noqa: E731
equal = "equal" if len({tag.strip('"') for tag in tags.values()}) == 1 else "different"
read = {
    len(blob.download_blob(etag=tag, match_condition=MatchConditions.IfNotModified).readall())
    for tag in (tags["listed"], tags["of a download"])
}
print(", ".join(f"{where} {form(tag)}" for where, tag in tags.items()), end="; ")
print(f"{equal} but for the quotation marks; a read under either tag returns {', '.join(map(str, sorted(read)))} bytes")
PYTHON
) || { cat "$scratch/log" "$scratch/server" >&2; exit 1; }
printf 'seen:  %s\nfound: %s\n' "$seen" "$found"
if [ "$found" != "$seen" ]; then
    echo "Azure's tags no longer are as this script says" >&2
    exit 1
fi
