"""Downloads what was pushed with the hub's own client, compares it, and uploads the same files by itself.

Called as upload.py PUSHED NEW FOLDER, with HF_ENDPOINT set to the hub of the tests.
"""

import filecmp
import sys
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, snapshot_download

pushed, new, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
names = sorted(path.name for path in folder.iterdir())

snapshot = Path(snapshot_download(pushed))
assert sorted(path.name for path in snapshot.iterdir()) == sorted([*names, ".gitattributes"])
_, differing, failed = filecmp.cmpfiles(snapshot, folder, names, shallow=False)
assert not differing and not failed, (differing, failed)
assert ModelCard.load(snapshot / "README.md").data.base_model_relation == "quantized"

api = HfApi()
api.create_repo(new)
api.upload_folder(repo_id=new, folder_path=folder)
