"""Small repositories whose every byte is decided: made anew they must be the ones that are committed.

    python -m tests.golden.make_repository      make those of this format version, which must not be there yet

`format-N/KIND` is a repository of format version N, one for each chunker; what is committed is kept for ever, since
every casimg reads what an earlier one wrote. A change of bytes makes a new version, and its repositories beside them.

Chance, ids and time come from a seed. What zstd makes of a payload depends on its version, so the description in
`repository.json` says what each payload decodes to, and the version that the committed bytes are of.
"""

import hashlib
import json
import random
import secrets
import shutil
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import zstandard

import casimg
from casimg.catalog.transaction import Database
from casimg.chunker import KINDS
from casimg.constants import FORMAT_VERSION, SEGMENT_SIZE
from casimg.formats.frame import decode_frame
from casimg.formats.pack import PACK_HEADER_SIZE, TRAILER_END_SIZE, decode_pack_header, decode_trailer, trailer_size
from casimg.formats.record import decode_record
from casimg.gc.plan import plan_collection
from casimg.gc.waste import RepackRules

GOLDEN = Path(__file__).parent
CURRENT = GOLDEN / f"format-{FORMAT_VERSION}"
_LEVEL = 3
_CLOCK_START_US = 1_790_000_000_000_000


def images() -> dict[str, bytes]:
    """Return the bytes of every image: text, noise and holes, over a segment's end, and nothing at all."""
    rng = random.Random(20261124)
    text = b"".join(b"line %d of a log that compresses well\n" % number for number in range(700))
    noise = rng.randbytes(14_000)
    disk = (text + noise).ljust(SEGMENT_SIZE - 5000, b"\0") + rng.randbytes(9000) + bytes(20_000) + b"the end"
    changed = bytearray(disk)
    changed[3000:3004] = b"edit"
    changed[SEGMENT_SIZE + 100 : SEGMENT_SIZE + 600] = rng.randbytes(500)
    return {
        "disk": disk,
        "changed": bytes(changed),
        "zeros": bytes(2 * SEGMENT_SIZE + 1),
        "empty": b"",
    }


def repositories() -> list[Path]:
    """Return the committed repositories of every format version."""
    return sorted(path for path in GOLDEN.glob("format-*/*") if path.is_dir())


def expected(folder: Path) -> dict[str, Any]:
    """Return the description that is committed beside a repository."""
    found: dict[str, Any] = json.loads(folder.with_suffix(".json").read_text())
    return found


def make(folder: Path, kind: str) -> None:
    """Make the repository: puts, snapshots, a change of metadata, a delete, and a collection that rewrites packs."""
    with _decided():
        found = images()
        with casimg.create(folder, chunker=kind, chunk_size=4096) as repo:
            repo._wiring.site = replace(repo._wiring.site, level=_LEVEL)
            repo.put([found["disk"] + b"and more, gone in the end"], name="gone")
            repo.put([found["disk"]], name="disk", properties={"os": "debian"})
            repo.snapshot("disk", name="same")
            source = folder.with_name("golden.raw")
            source.write_bytes(found["changed"])
            repo.snapshot("disk", name="changed", source=source)
            source.unlink()
            repo.put([found["zeros"]], name="zeros")
            repo.put([found["empty"]], name="empty", disk_format="qcow2")
            repo.update("disk", protected=True)
            repo.delete("gone")
            plan_collection(repo._wiring, RepackRules(unused_max=0, unused_pack_max=0, small_count=2)).execute()


def describe(folder: Path) -> dict[str, Any]:
    """Return what the objects of a repository are, apart from how zstd packed them."""
    objects = folder / "objects"
    packs = [_describe_pack(path.read_bytes()) for path in (objects / "packs").rglob("*") if path.is_file()]
    records = []
    for path in (objects / "records").rglob("*"):
        if path.is_file():
            record = decode_record(path.read_bytes())
            content = record.content
            records.append(
                {
                    "key": str(path.relative_to(objects)),
                    "image": [record.name, record.status, record.disk_format, record.protected, record.revision],
                    "times": [record.created_at, record.updated_at],
                    "parent": record.parent_id,
                    "content": [content.content_id, content.size, content.hole_size, len(content.pack_ids)],
                    "trees": [[tree.role, tree.root, tree.size] for tree in content.trees],
                }
            )
    return {
        "config": json.loads((objects / "casimg.json").read_text()),
        "packs": sorted(packs, key=str),
        "records": sorted(records, key=str),
    }


def _describe_pack(data: bytes) -> dict[str, Any]:
    trailer = decode_trailer(data[-trailer_size(data[-TRAILER_END_SIZE:]) :])
    frames = []
    for frame in trailer.frames():
        header, plain = decode_frame(data[frame.offset : frame.offset + frame.size])
        frames.append([header.codec.name, header.kind, list(header.chunk_sizes), hashlib.sha256(plain).hexdigest()])
    ids = [trailer.id_at(entry) for entry in range(trailer.entry_count)]
    return {
        "header": list(decode_pack_header(data[:PACK_HEADER_SIZE])),
        "nonce": trailer.nonce.hex(),
        "frames": frames,
        "ids": hashlib.sha256(b"".join(ids)).hexdigest(),
    }


def zstd_version() -> str:
    return ".".join(map(str, zstandard.ZSTD_VERSION))


@contextmanager
def _decided() -> Iterator[None]:
    """Let ids, nonces and times be the same each time."""
    rng = random.Random(7)
    clock = _CLOCK_START_US

    def tick() -> int:
        nonlocal clock
        clock += 1_000_000
        return clock

    def mine(real: Callable[[int], Any], decided: Callable[[int], Any]) -> Callable[[int], Any]:
        # Names of temporary files are also asked for by other threads, in any order.
        return lambda size: decided(size) if threading.current_thread() is threading.main_thread() else real(size)

    class Fixed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Fixed":
            return cls.fromtimestamp(_CLOCK_START_US / 1_000_000, tz or UTC)

    with ExitStack() as stack:
        for target, value in (
            ("secrets.token_bytes", mine(secrets.token_bytes, rng.randbytes)),
            ("secrets.token_hex", mine(secrets.token_hex, lambda size: rng.randbytes(size).hex())),
            ("uuid.uuid4", lambda: uuid.UUID(bytes=rng.randbytes(16), version=4)),
            ("casimg.opening.datetime", Fixed),
            ("casimg.catalog.catalog.Database", partial(Database, clock=tick)),
        ):
            stack.enter_context(mock.patch(target, value))
        yield


def main() -> None:
    if CURRENT.exists():
        sys.exit(f"{CURRENT.name} is frozen; a change of bytes needs another format version")
    for kind in KINDS:
        folder, made = CURRENT / kind, GOLDEN / "new"
        shutil.rmtree(made, ignore_errors=True)
        make(made, kind)
        folder.mkdir(parents=True)
        shutil.move(made / "objects", folder / "objects")
        shutil.move(made / "casimg.toml", folder / "casimg.toml")
        shutil.rmtree(made)
        (folder / "objects" / "tmp").rmdir()
        description = {
            "zstd": zstd_version(),
            "images": {name: hashlib.sha256(data).hexdigest() for name, data in images().items()},
            **describe(folder),
        }
        folder.with_suffix(".json").write_text(json.dumps(description, indent=1) + "\n")


if __name__ == "__main__":
    main()
