"""Finds a model in the cache with the hub's own client and compares it with its files.

Called as offline.py ID COMMIT FOLDER, with HF_HUB_OFFLINE=1 and HF_HUB_CACHE set.
"""

import filecmp
import sys
from pathlib import Path

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download

model, commit, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
names = sorted(path.name for path in folder.iterdir())

for revision in (None, "main", commit):
    snapshot = Path(snapshot_download(model, revision=revision))
    assert snapshot.name == commit, snapshot
_, differing, failed = filecmp.cmpfiles(snapshot, folder, names, shallow=False)
assert not differing and not failed, (differing, failed)
assert all(Path(hf_hub_download(model, name)) == snapshot / name for name in names)

# Nothing in it is foreign to the library.
cache = scan_cache_dir()
assert not [warning for warning in cache.warnings if "org--tiny" in str(warning)], cache.warnings
[found] = [repo for repo in cache.repos if repo.repo_id == model]
[revision] = found.revisions
assert (revision.commit_hash, revision.refs) == (commit, {"main"}), revision
assert sorted(file.file_name for file in revision.files) == names
