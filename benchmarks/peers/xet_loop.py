"""Store or restore one file with hf-xet; runs in the environment of hf-xet, not in ours.

python xet_loop.py store|restore FOLDER NAME FILE
"""

import json
import sys
from pathlib import Path

import hf_xet  # type: ignore[import-not-found]


def main() -> None:
    verb, folder, name, file = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    endpoint = f"local://{folder / 'store'}"
    pointer = folder / f"{name}.json"
    session = hf_xet.XetSession()
    if verb == "store":
        (folder / "store").mkdir(exist_ok=True)
        with session.new_upload_commit(endpoint=endpoint) as commit:
            upload = commit.start_upload_file(file, sha256=hf_xet.SKIP_SHA256)
        info = upload.result().xet_info
        pointer.write_text(json.dumps({"hash": info.hash, "file_size": info.file_size}))
    else:
        info = hf_xet.XetFileInfo(**json.loads(pointer.read_text()))
        with session.new_file_download_group(endpoint=endpoint) as group:
            group.start_download_file(info, file)


if __name__ == "__main__":
    main()
