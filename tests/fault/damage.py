"""Ways to damage a repository, shared by the tests of check and repair."""

import io
import os
import random
from functools import partial
from pathlib import Path

from casimg.catalog import packs as pack_rows
from casimg.ids import PackId
from casimg.pack.keys import pack_key
from casimg.repository import Repository
from tests.conftest import mixed_bytes

SIZE = 3_000_000


def put(repo: Repository, name: str, seed: int = 1, size: int = SIZE) -> bytes:
    """Store an image of its own bytes and return them."""
    data = bytes(mixed_bytes(size, seed))
    repo.put(io.BytesIO(data), name=name)
    return data


def read_all(repo: Repository, name: str) -> bytes:
    """The bytes of an image."""
    sink = io.BytesIO()
    repo.get(name, sink)
    return sink.getvalue()


def packs_of(repo: Repository, name: str, kind: int) -> dict[int, Path]:
    """Number and file of each pack of a kind (0 data, 1 metadata) that an image names."""
    content_id = repo.image(name).content_id
    assert content_id is not None
    rows = repo._wiring.catalog.content_packs(content_id)
    return {row.pack_no: repo.path / "objects" / pack_key(PackId(row.pack_id)) for row in rows if row.kind == kind}


def collect(repo: Repository) -> None:
    """Run a garbage collection."""
    repo.plan_gc().execute()


def second_copy(repo: Repository, name: str, data: bytes) -> None:
    """Store the data of "victim" once more in packs of their own, as another image."""
    pack_nos = [pack_no for kind in (0, 1) for pack_no in packs_of(repo, "victim", kind)]
    for pack_no in pack_nos:
        repo._wiring.catalog.transaction(partial(pack_rows.mark_damaged, pack_no=pack_no))
    repo.put(io.BytesIO(data), name=name)
    for pack_no in pack_nos:
        repo._wiring.catalog.transaction(partial(pack_rows.mark_verified, pack_no=pack_no))
    assert not set(packs_of(repo, "victim", 0)) & set(packs_of(repo, name, 0))


def quarantined(repo: Repository) -> list[str]:
    """Names of the packs kept aside."""
    return sorted(path.name for path in (repo.path / "objects" / "quarantine").rglob("*") if path.is_file())


def damage(path: Path, how: str, rng: random.Random) -> None:
    """Do something to a file: what is left afterwards is damaged."""
    good = path.read_bytes()
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        os.truncate(path, len(good) * 2 // 3)
    elif how == "zero":
        path.write_bytes(bytes(len(good)))
    elif how == "grow":
        path.write_bytes(good + b"tail")
    elif how == "trailer":
        path.write_bytes(good[:-100] + bytes(100))
    elif how == "header":
        path.write_bytes(bytes(16) + good[16:])
    else:
        bad = bytearray(good)
        for _ in range(3):
            bad[rng.randrange(16, len(bad) * 3 // 4)] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)


KINDS = ("flip", "truncate", "delete", "zero", "grow", "trailer", "header")
HARMLESS = ("grow", "trailer", "header")
"""Every frame is still whole."""
