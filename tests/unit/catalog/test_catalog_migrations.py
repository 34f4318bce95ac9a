"""Upgrades of filled catalogs: everything that was in them is in them after."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

import casimg.catalog.migrate
from casimg.catalog import (  # noqa: F401 - tables join the metadata
    Catalog,
    ImageChange,
    cache_schema,
    metadef_schema,
    task_schema,
    upkeep_schema,
)
from casimg.catalog.changes import change_image
from casimg.catalog.edits import UNSET, Edit, edit_image
from casimg.catalog.schema import metadata
from casimg.catalog.transaction import Database
from casimg.errors import CatalogDamagedError, RepositoryError
from casimg.ids import ImageId
from tests.catalog_making import SERVER_URL, database_url

IMAGE = "00000000-0000-4000-8000-00000000000{}"
SESSION, CONTENT = "5" * 32, "c" * 32
ROWS = (
    "INSERT INTO repo (one, repository_uuid, incarnation, epoch, change_no, collection_enabled) "
    "VALUES (1, 'a-uuid', 'an-incarnation', 7, 3, TRUE)",
    "INSERT INTO backends (name, kind) VALUES ('main', 'local')",
    "INSERT INTO sessions (session_id, kind, node, pid, pid_start, state, epoch, beats, heartbeat, opened_at) "
    f"VALUES ('{SESSION}', 'ingest', 'host', 1, 1, 'closed', 1, 0, 0, 0)",
    "INSERT INTO contents (content_id, state, session_id, size, hole_size, created_at) "
    f"VALUES ('{CONTENT}', 'complete', '{SESSION}', 4096, 0, 0)",
    f"INSERT INTO content_trees (content_id, role, root, size) VALUES ('{CONTENT}', 'plain', NULL, 4096)",
    *(
        "INSERT INTO images (id, name, status, content_id, session_id, parent_id, disk_format, container_format, "
        "owner, visibility, protected, min_disk, min_ram, created_at, updated_at, deleted_at, revision) VALUES "
        f"('{IMAGE.format(number)}', 'image {number}', '{status}', {content}, '{SESSION}', NULL, 'raw', 'bare', 'me', "
        f"'private', FALSE, 0, 0, {number}000000, {number}000000, NULL, {number})"
        for number, status, content in (
            (1, "active", f"'{CONTENT}'"),
            (2, "active", f"'{CONTENT}'"),
            (3, "deleted", "NULL"),
        )
    ),
    *(
        f"INSERT INTO image_properties (image_id, name, value) VALUES ('{IMAGE.format(number)}', '{name}', 'größe')"
        for number in (1, 2, 3)
        for name in ("os", "OS")
    ),
    f"INSERT INTO image_tags (image_id, tag) VALUES ('{IMAGE.format(1)}', 'x')",
    f"INSERT INTO image_tags (image_id, tag) VALUES ('{IMAGE.format(1)}', 'X')",
    f"INSERT INTO outbox (image_id, created_at) VALUES ('{IMAGE.format(2)}', 0)",
)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A filled catalog of revision 0003."""
    with database_url(tmp_path) as given:
        database = Database(given)
        database.write(partial(_migrate, to="0003"))
        database.write(lambda connection: [connection.execute(text(row)) for row in ROWS])
        database.close()
        yield given


def _migrate(connection: Connection, to: str) -> None:
    config = Config()
    folder = Path(casimg.catalog.migrate.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    if to < (casimg.catalog.migrate.current_revision(connection) or ""):
        command.downgrade(config, to)
    else:
        command.upgrade(config, to)


def _everything(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, but for what 0003 does not have."""
    new = {"hidden", "virtual_size", "registered", "backend_id", "location_count"}
    added = {"alembic_version", "cached_images", "image_copies", "image_locations", "image_members", "tasks", "upkeep"}
    found: dict[str, list[dict[str, Any]]] = {}
    for table in sorted(set(inspect(connection).get_table_names()) - added):
        if table.startswith("metadef_"):
            continue
        rows = connection.execute(text(f"SELECT * FROM {table}")).mappings()
        kept = [
            {key: value for key, value in row.items() if key not in new and not key.startswith("located_")}
            for row in rows
        ]
        found[table] = sorted(kept, key=str)
    return found


def test_a_filled_catalog_is_upgraded_whole(url: str) -> None:
    """After the upgrade from 0003 every row is there, the schema is the declared one, and no foreign key is broken."""
    database = Database(url)
    before = database.read(_everything)
    assert len(before["image_properties"]) == 6
    with pytest.raises(RepositoryError, match="older"):
        Catalog.open(url)
    assert Catalog.upgrade(url) == "0003"
    assert database.read(_everything) == before
    query = text("SELECT backend_id FROM contents")
    assert database.read(lambda connection: connection.execute(query).scalars().all()) == [1]
    assert database.write(_differences) == []
    if not SERVER_URL:
        assert database.read(lambda connection: connection.execute(text("PRAGMA foreign_key_check")).all()) == []
        assert database.read(lambda connection: connection.execute(text("PRAGMA integrity_check")).scalar()) == "ok"
    database.close()


def _differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_an_upgraded_catalog_is_worked_with(url: str) -> None:
    """Images of before are found, changed, edited and deleted; their keys still hold what belongs to them."""
    Catalog.upgrade(url)
    catalog = Catalog.open(url)
    first, second = ImageId(IMAGE.format(1)), ImageId(IMAGE.format(2))
    row = catalog.image(first)
    assert (row.tags, row.hidden, row.registered, row.virtual_size, row.min_disk) == (("X", "x"), False, False, None, 0)
    catalog.transaction(
        partial(change_image, image_id=first, change=ImageChange(properties={"a": "b"}), unique_name=True)
    )
    catalog.transaction(partial(edit_image, image_id=second, edit=Edit(name=None), revision=2))
    assert (catalog.image(second).name, UNSET.value) == (None, "unset")
    catalog.delete_image(first)
    assert [image.id for image in catalog.images()] == [second]
    with pytest.raises(CatalogDamagedError):
        catalog.transaction(
            lambda connection: connection.execute(
                text("INSERT INTO image_properties (image_id, name, value) VALUES ('none', 'a', 'b')")
            )
        )
    with pytest.raises(CatalogDamagedError):
        catalog.transaction(lambda connection: connection.execute(text("UPDATE images SET status = 'odd'")))
    catalog.close()


def test_a_downgrade_keeps_what_the_older_schema_knows(url: str) -> None:
    """Back at 0003 the rows of before are there; images without a name have an empty one."""
    database = Database(url)
    before = database.read(_everything)
    Catalog.upgrade(url)
    database.write(partial(_migrate, to="0003"))
    assert database.read(_everything) == before
    database.close()
