"""Repositories to lose parts of, and what must be there again after `recover`."""

import hashlib
import os
import random
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import casimg
from casimg.ids import ImageId
from casimg.repository import Repository
from casimg.results.comparing import LineageNode
from casimg.results.images import Image
from tests.conftest import mixed_bytes

CATALOG_FILES = ("catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm")


class _Hash:
    """A target that only hashes."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return len(data)

    def flush(self) -> None: ...


def sha256(repo: Repository, image_id: str) -> str:
    """Read an image back."""
    target: BinaryIO = _Hash()  # type: ignore[assignment]
    repo.get(image_id, target)
    return target.hash.hexdigest()  # type: ignore[attr-defined, no-any-return]


@dataclass
class State:
    """What a repository holds: images with their bytes, and the tree of each."""

    images: list[Image] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    lineages: dict[str, object] = field(default_factory=dict)


def state_of(repo: Repository) -> State:
    """Read everything. Times of the last change count only where metadata was changed: a record is put before."""
    images = [
        image if repo._wiring.catalog.image(image.id).revision else replace(image, updated_at=image.created_at)
        for image in repo.images()
    ]
    return State(
        images,
        {image.id: sha256(repo, image.id) for image in images},
        {image.id: _family(repo.lineage(image.id), image.id) for image in images},
    )


def _family(node: LineageNode, image_id: ImageId) -> object:
    """Parent, whether it is gone, and children of an image. What a deleted parent came from is gone for good."""
    nodes = {node.id: node}
    parents: dict[ImageId, LineageNode] = {}
    stack = [node]
    while stack:
        at = stack.pop()
        nodes[at.id] = at
        parents.update((child.id, at) for child in at.children)
        stack += at.children
    parent = parents.get(image_id)
    children = sorted(child.id for child in nodes[image_id].children if not child.gone)
    return None if parent is None else (parent.id, parent.gone), children


def fill(folder: Path) -> State:
    """Make a repository with every kind of image, changed and deleted ones and one whose parent is gone."""
    data = mixed_bytes(6_000_000, 3)
    with casimg.create(folder, chunk_size=4096) as repo:
        repo.put([bytes(data)], name="base", properties={"os": "debian", "größe": "klein"}, owner="me")
        repo.snapshot("base", name="same")
        data[1_000_000:1_000_100] = os.urandom(100)
        repo.snapshot("base", name="later", source=[bytes(data)], disk_format="qcow2", properties={})
        repo.snapshot("later", name="child")
        repo.put([b""], name="empty")
        repo.put([bytes(3_000_000)], name="zeros", visibility="public")
        repo.put([random.Random(7).randbytes(500_000)], name="twin")
        repo.put([random.Random(8).randbytes(500_000)], name="twin", same_name=True)
        repo.put([random.Random(9).randbytes(500_000)], name="gone")
        repo.update("same", name="renamed", protected=True, properties={"a": "1"}, unset=["os"])
        repo.update("renamed", properties={"b": "2"})
        repo.delete("later")
        repo.delete("gone")
        return state_of(repo)


def lose(folder: Path, *parts: str) -> None:
    """Remove "catalog", "index", "site" or "spool" of a repository."""
    for part in parts:
        if part == "catalog":
            for name in CATALOG_FILES:
                (folder / name).unlink(missing_ok=True)
        elif part == "site":
            (folder / "casimg.toml").unlink()
        else:
            shutil.rmtree(folder / part)


def objects(folder: Path) -> dict[str, bytes]:
    """Everything on the backend, by path."""
    root = folder / "objects"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
