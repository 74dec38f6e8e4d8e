"""Downloads a model with the hub's own client and compares it with its files.

Called as download.py ID COMMIT FOLDER, with HF_ENDPOINT set to the hub of the tests.
"""

import filecmp
import sys
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

model, commit, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
names = sorted(path.name for path in folder.iterdir())

info = HfApi().model_info(model, files_metadata=True)
assert info.sha == commit, info.sha
assert sorted(file.rfilename for file in info.siblings) == names
assert all(file.size == (folder / file.rfilename).stat().st_size for file in info.siblings)

snapshot = Path(snapshot_download(model))
assert snapshot.name == commit, snapshot
_, differing, failed = filecmp.cmpfiles(snapshot, folder, names, shallow=False)
assert not differing and not failed, (differing, failed)

for refused, call in [
    (RepositoryNotFoundError, lambda: HfApi().model_info("org/none")),
    (RevisionNotFoundError, lambda: HfApi().model_info(model, revision="v9")),
    (EntryNotFoundError, lambda: hf_hub_download(model, "none.json")),
]:
    try:
        call()
    except refused:
        continue
    raise AssertionError(f"{refused.__name__} was expected")
