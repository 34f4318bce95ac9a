"""Making, opening and upgrading the schema."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, delete, insert, inspect, make_url, text, update
from sqlalchemy.schema import CreateIndex, CreateTable

import casimg.catalog.migrate
from casimg.catalog import (  # noqa: F401 - their tables join the metadata
    Catalog,
    cache_schema,
    metadef_schema,
    task_schema,
    upkeep_schema,
)
from casimg.catalog.migrate import HEAD, REVISIONS
from casimg.catalog.schema import metadata, packs, repo
from casimg.errors import CatalogDamagedError, ConfigError, NewerFormatError, RepositoryError
from tests.catalog_making import SERVER_URL, Save, database_url

needs_sqlite = pytest.mark.skipif(bool(SERVER_URL), reason="about files of SQLite")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with database_url(tmp_path) as given:
        yield given


def test_migrations_make_the_declared_schema(catalog: Catalog) -> None:
    """The migrations make exactly the tables, columns and indexes that the code declares."""

    def work(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert catalog.transaction(work) == []


@needs_sqlite
def test_migrations_make_the_declared_checks(catalog: Catalog, tmp_path: Path) -> None:
    """The migrations make exactly the CHECK constraints that the code declares."""
    other = create_engine(f"sqlite:///{tmp_path / 'declared.sqlite'}")
    with other.begin() as connection:
        metadata.create_all(connection)
        declared = _checks(connection)
    assert declared["images"]
    assert catalog.transaction(_checks) == declared
    other.dispose()


def _checks(connection: Connection) -> dict[str, list[tuple[str | None, str]]]:
    found = inspect(connection)
    return {
        table: sorted((check["name"], check["sqltext"]) for check in found.get_check_constraints(table))
        for table in metadata.tables
    }


def test_known_revisions_are_those_of_the_package() -> None:
    """The revisions that opening compares with are the migrations that exist, in order."""
    config = Config()
    folder = Path(casimg.catalog.migrate.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == REVISIONS
    assert scripts.get_current_head() == HEAD


@pytest.mark.parametrize("server", ["mysql+pymysql://", "mariadb+pymysql://", "postgresql+psycopg://"])
def test_schema_compiles_for_servers(server: str) -> None:
    """Every table and index has a form on servers, and what is indexed has a length there."""
    dialect = make_url(server).get_dialect()()
    for table in metadata.sorted_tables:
        made = str(CreateTable(table).compile(dialect=dialect))
        assert "BLOB" not in made
        for index in table.indexes:
            assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))


def test_created_catalog_is_opened(url: str) -> None:
    """What create makes, open opens, with the identity it was given."""
    Catalog.create(url, "a-uuid", "main", "local").close()
    opened = Catalog.open(url)
    row = opened.repo()
    assert (row.repository_uuid, row.epoch, row.change_no, row.collection_enabled) == ("a-uuid", 1, 0, True)
    assert len(row.incarnation) == 36
    assert opened.backend_id("main") == 1
    with pytest.raises(CatalogDamagedError, match="other"):
        opened.backend_id("other")
    opened.close()
    opened.close()


def test_create_never_takes_over(url: str) -> None:
    """A database that holds a catalog, or anything else, is refused and stays as it is."""
    Catalog.create(url, "first", "main", "local").close()
    with pytest.raises(RepositoryError, match="already holds"):
        Catalog.create(url, "second", "main", "local")
    opened = Catalog.open(url)
    assert opened.repo().repository_uuid == "first"
    opened.transaction(lambda connection: connection.execute(text("DROP TABLE alembic_version")))
    opened.close()
    with pytest.raises(RepositoryError, match="not empty"):
        Catalog.create(url, "second", "main", "local")


def test_newer_schema_is_refused(url: str) -> None:
    """A revision this program does not know is neither opened nor upgraded."""
    _set_revision(url, "9999")
    for attempt in (Catalog.open, Catalog.upgrade):
        with pytest.raises(NewerFormatError, match="newer"):
            attempt(url)


def test_older_schema_is_upgraded_on_request_only(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening an older schema says so and changes nothing."""
    _set_revision(url, HEAD)
    monkeypatch.setattr(casimg.catalog.migrate, "HEAD", "9999")
    monkeypatch.setattr(casimg.catalog.migrate, "REVISIONS", (*REVISIONS, "9999"))
    with pytest.raises(RepositoryError, match="older"):
        Catalog.open(url)


def test_upgrade_of_a_current_schema_is_harmless(url: str) -> None:
    """Upgrading what is current answers with its revision and keeps its rows."""
    Catalog.create(url, "a-uuid", "main", "local").close()
    assert Catalog.upgrade(url) == HEAD
    opened = Catalog.open(url)
    assert opened.repo().repository_uuid == "a-uuid"
    opened.close()


def _set_revision(url: str, revision: str) -> None:
    made = Catalog.create(url, "a-uuid", "main", "local")
    made.transaction(
        lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    )
    made.close()


@needs_sqlite
def test_open_makes_nothing(tmp_path: Path) -> None:
    """A wrong path is refused and leaves no file behind."""
    for missing in (tmp_path / "none.sqlite", tmp_path / "no folder" / "none.sqlite"):
        with pytest.raises(RepositoryError, match="missing"):
            Catalog.open(f"sqlite:///{missing}")
        assert not missing.exists()


@needs_sqlite
def test_foreign_and_damaged_files_are_damage(tmp_path: Path) -> None:
    """A file that is no database, an empty one and a cut one are CatalogDamagedError, never an empty catalog."""
    path = tmp_path / "catalog.sqlite"
    url = f"sqlite:///{path}"
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(CatalogDamagedError, match="not a database"):
        Catalog.open(url)
    path.write_bytes(b"")
    with pytest.raises(CatalogDamagedError, match="no catalog"):
        Catalog.open(url)
    path.unlink()
    Catalog.create(url, "a-uuid", "main", "local").close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    with pytest.raises(CatalogDamagedError):
        Catalog.open(url).images()


@pytest.mark.parametrize("bad", ["sqlite://", "sqlite:///:memory:", "nonsense", "nodialect://host/db"])
def test_unusable_urls_are_config_errors(bad: str) -> None:
    """A URL that cannot name a catalog is a ConfigError, for create and open."""
    with pytest.raises(ConfigError):
        Catalog.open(bad)
    with pytest.raises(ConfigError):
        Catalog.create(bad, "a-uuid", "main", "local")


def test_errors_hide_the_password() -> None:
    """No message names the password of the database, even when the URL cannot be used."""
    with pytest.raises(ConfigError) as caught:
        Catalog.open("sqlite://user:secret@/catalog.sqlite")
    assert "secret" not in str(caught.value)


@needs_sqlite
def test_path_with_special_characters(tmp_path: Path) -> None:
    """Percent signs, spaces and quotes in the path of the catalog mean themselves."""
    folder = tmp_path / "100%s it's é"
    folder.mkdir()
    url = f"sqlite:///{folder / 'catalog.sqlite'}"
    Catalog.create(url, "a-uuid", "main", "local").close()
    Catalog.open(url).close()
    assert (folder / "catalog.sqlite").is_file()


@needs_sqlite
def test_sqlite_is_set_up_to_lose_nothing(catalog: Catalog) -> None:
    """SQLite runs with WAL, synchronous=FULL and foreign keys, in every connection."""

    def work(connection: Connection) -> list[object]:
        return [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert catalog.transaction(work) == ["wal", 2, 1]


def test_states_outside_the_rules_are_refused_by_the_database(catalog: Catalog) -> None:
    """The database refuses a state, a second repository row and a pack id that no rule knows."""
    pack_no = Save(catalog).add_packs()[0]
    with pytest.raises(CatalogDamagedError):
        catalog.transaction(lambda connection: connection.execute(update(packs).values(state="gone")))
    with pytest.raises(CatalogDamagedError):
        catalog.transaction(
            lambda connection: connection.execute(
                insert(repo).values(
                    one=2, repository_uuid="x", incarnation="x", epoch=1, change_no=0, collection_enabled=True
                )
            )
        )
    assert catalog.packs([pack_no])[0].state == "live"


def test_pack_numbers_are_never_used_again(catalog: Catalog) -> None:
    """The number of a pack whose row is gone is not given to another pack."""
    save = Save(catalog)
    last = save.add_packs(3)[-1]
    catalog.transaction(lambda connection: connection.execute(delete(packs)))
    assert save.add_packs()[0] == last + 1


@needs_sqlite
def test_catalog_is_one_file_after_closing(tmp_path: Path) -> None:
    """Closing leaves a database that any SQLite reads, with a sound structure."""
    url = f"sqlite:///{tmp_path / 'catalog.sqlite'}"
    Catalog.create(url, "a-uuid", "main", "local").close()
    with sqlite3.connect(tmp_path / "catalog.sqlite") as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert plain.execute("PRAGMA foreign_key_check").fetchall() == []
    plain.close()
