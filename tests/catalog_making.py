"""Catalogs for tests and a short way to fill them.

`CASIMG_TEST_CATALOG_SERVER` names a PostgreSQL or MariaDB server by URL: every catalog is then a new database there,
dropped afterwards. Without it catalogs are SQLite files.
"""

import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, create_engine, make_url

from casimg.catalog import Catalog, ImageRow, NewContent, NewImage, NewPack, TreeRow
from casimg.constants import KIND_DATA
from casimg.ids import ContentId, ImageId, PackId, new_content_id, new_image_id

SERVER_URL = os.environ.get("CASIMG_TEST_CATALOG_SERVER", "")
PACK_SIZE = 1000
CONTENT_SIZE = 1 << 20
ROOT = bytes(range(32))


@contextmanager
def database_url(folder: Path) -> Iterator[str]:
    """Give the URL of an empty database."""
    if not SERVER_URL:
        yield f"sqlite:///{folder / 'catalog.sqlite'}"
        return
    name = f"casimg_{secrets.token_hex(8)}"
    server = create_engine(SERVER_URL, isolation_level="AUTOCOMMIT")
    _run(server, f"CREATE DATABASE {name}")
    try:
        yield make_url(SERVER_URL).set(database=name).render_as_string(hide_password=False)
    finally:
        # PostgreSQL refuses while a test that was killed is still connected.
        _run(server, f"DROP DATABASE {name}" + (" WITH (FORCE)" if server.dialect.name == "postgresql" else ""))
        server.dispose()


def _run(server: Engine, statement: str) -> None:
    with server.connect() as connection:
        connection.exec_driver_sql(statement)


@contextmanager
def new_catalog(folder: Path) -> Iterator[Catalog]:
    """Give an open catalog with one backend."""
    with database_url(folder) as url:
        catalog = Catalog.create(url, "uuid-of-test", "main", "local")
        try:
            yield catalog
        finally:
            catalog.close()


@dataclass(frozen=True)
class OpenCatalog:
    """What of an open repository the parts need that live in its catalog alone."""

    catalog: Catalog

    def check_open(self) -> None:
        """Tell that it is open."""


def new_image(name: str = "disk", *, parent_id: ImageId | None = None, protected: bool = False) -> NewImage:
    return NewImage(
        id=new_image_id(),
        name=name,
        disk_format="raw",
        container_format="bare",
        owner="owner",
        visibility="private",
        protected=protected,
        parent_id=parent_id,
        properties={"os": "debian"},
    )


def new_pack(pack_id: bytes | None = None) -> NewPack:
    return NewPack(
        backend_id=1,
        pack_id=PackId(secrets.token_bytes(32) if pack_id is None else pack_id),
        kind=KIND_DATA,
        domain=0,
        size=PACK_SIZE,
        trailer_offset=900,
        plain_size=4000,
        chunk_count=4,
    )


class Save:
    """One ingest as the catalog sees it, step by step: session, image and content, packs, commit."""

    def __init__(self, catalog: Catalog, image: NewImage | None = None) -> None:
        self.catalog = catalog
        self.session_id = catalog.open_session("ingest").session_id
        self.image = new_image() if image is None else image
        self.content_id: ContentId = new_content_id()
        catalog.begin_image(self.session_id, self.image, self.content_id, backend_id=1)

    def add_packs(self, count: int = 1) -> list[int]:
        return [self.catalog.insert_pack(self.session_id, new_pack()) for _ in range(count)]

    def commit(self, pack_nos: Collection[int] = (), *, unique_name: bool = False) -> ImageRow:
        return self.catalog.commit(self.session_id, self.image.id, self.content(), pack_nos, unique_name=unique_name)

    def content(self) -> NewContent:
        trees = (TreeRow("plain", ROOT, CONTENT_SIZE),)
        return NewContent(self.content_id, CONTENT_SIZE, 4096, trees, {"md5": "0" * 32})


def save_image(catalog: Catalog, name: str = "disk", pack_count: int = 1) -> tuple[ImageRow, list[int]]:
    """Commit an image with packs of its own; returns it and their numbers."""
    save = Save(catalog, new_image(name))
    pack_nos = save.add_packs(pack_count)
    return save.commit(pack_nos), pack_nos


def states(catalog: Catalog, pack_nos: Collection[int]) -> list[str]:
    """Return the states of these packs, by number."""
    return [row.state for row in catalog.packs(pack_nos)]


def remove_image(catalog: Catalog, image: ImageRow) -> None:
    """Delete an image and reap its content, so that its packs are named by nothing."""
    catalog.delete_image(image.id)
    catalog.forget_content(image.id)
    if image.content_id is not None:
        catalog.reap_content(image.content_id)
