"""Contents found by what they are: by size whether any has hashes, by root and size the hashes."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, insert

from casimg.catalog import Catalog
from casimg.catalog.hashed import hashed_size, hashes_of
from casimg.catalog.schema import content_hashes, content_trees, contents
from casimg.ids import NodeId, new_content_id
from tests.catalog_making import new_catalog

BOTH = {"md5": "1" * 32, "sha512": "2" * 128}
ROOT = NodeId(bytes(range(32)))


def enter(
    catalog: Catalog, size: int, root: bytes | None, hashes: Mapping[str, str], *, state: str = "complete"
) -> None:
    """Enter a content."""
    session_id = catalog.open_session("ingest").session_id
    content_id = new_content_id()

    def work(connection: Connection) -> None:
        row = {"content_id": content_id, "state": state, "session_id": session_id, "size": size, "hole_size": 0}
        connection.execute(insert(contents).values(**row, created_at=0, backend_id=1))
        connection.execute(insert(content_trees).values(content_id=content_id, role="plain", root=root, size=size))
        for algo, value in hashes.items():
            connection.execute(insert(content_hashes).values(content_id=content_id, algo=algo, value=value))

    catalog.transaction(work)


def test_sizes_of_contents_with_all_hashes(tmp_path: Path) -> None:
    """Only what is complete and has every hash counts, of one size or the largest of any."""
    with new_catalog(tmp_path) as catalog:

        def found(size: int | None) -> int | None:
            return catalog.read(partial(hashed_size, algorithms=BOTH, size=size))

        enter(catalog, 500, ROOT, {"md5": BOTH["md5"]})
        enter(catalog, 600, ROOT, {})
        enter(catalog, 700, ROOT, BOTH, state="pending")
        assert (found(None), found(500), found(600), found(700)) == (None, None, None, None)
        enter(catalog, 100, ROOT, BOTH)
        enter(catalog, 200, None, BOTH)
        assert (found(None), found(100), found(200), found(300)) == (200, 100, 200, None)


def test_hashes_by_root_and_size(tmp_path: Path) -> None:
    """Root and size together name a content; one of nothing but zeros has no root."""
    with new_catalog(tmp_path) as catalog:

        def found(root: bytes | None, size: int) -> dict[str, str] | None:
            node = None if root is None else NodeId(root)
            return catalog.read(partial(hashes_of, algorithms=BOTH, root=node, size=size))

        other = bytes(32)
        enter(catalog, 100, ROOT, BOTH)
        enter(catalog, 100, ROOT, BOTH)
        enter(catalog, 100, other, {"sha512": "3" * 128})
        enter(catalog, 200, None, {**BOTH, "crc": "4"})
        enter(catalog, 300, ROOT, BOTH, state="pending")
        assert found(ROOT, 100) == BOTH
        assert found(None, 200) == BOTH
        assert (found(ROOT, 200), found(ROOT, 300), found(None, 100), found(other, 100)) == (None, None, None, None)
