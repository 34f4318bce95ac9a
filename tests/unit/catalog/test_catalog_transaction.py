"""Transactions: tried again whole, bounded, and the database's errors in our words."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from casimg.catalog import Catalog
from casimg.catalog.engine import is_retryable, make_engine, now_us, translated
from casimg.catalog.schema import repo
from casimg.catalog.transaction import TRY_COUNT_MAX, Database, batches
from casimg.errors import CatalogBusyError, CatalogDamagedError, NoSpaceError, RepositoryError
from tests.catalog_making import SERVER_URL, database_url

needs_sqlite = pytest.mark.skipif(bool(SERVER_URL), reason="about locks and errors of SQLite")


def sqlite_error(code: int) -> DBAPIError:
    original = sqlite3.OperationalError("injected")
    original.sqlite_errorcode = code
    return OperationalError("statement", None, original)


class ServerError(Exception):
    """What a driver of a server raises, as far as we look at it."""

    def __init__(self, sqlstate: str | None, *args: object) -> None:
        super().__init__(*args)
        self.sqlstate = sqlstate


def server_error(sqlstate: str | None, *args: object) -> DBAPIError:
    return OperationalError("statement", None, ServerError(sqlstate, *args))


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with database_url(tmp_path) as given:
        Catalog.create(given, "a-uuid", "main", "local").close()
        yield given


class Sleeps(list[float]):
    """A clock that does not wait."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def database(url: str, sleeps: Sleeps) -> Iterator[Database]:
    opened = Database(url, busy_timeout_s=0, sleep=sleeps, jitter=lambda: 0.5)
    yield opened
    opened.close()


def add_epoch(connection: Connection) -> None:
    connection.execute(update(repo).values(epoch=repo.c.epoch + 1))


def epoch(connection: Connection) -> int:
    return int(connection.execute(select(repo.c.epoch)).scalar_one())


def test_busy_transaction_is_run_again_whole(database: Database, sleeps: Sleeps) -> None:
    """What a failed try wrote is rolled back, so two failures and a success count once."""
    tries = []

    def work(connection: Connection) -> str:
        add_epoch(connection)
        tries.append(epoch(connection))
        if len(tries) < 3:
            raise sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT)
        return "done"

    assert database.write(work) == "done"
    assert tries == [2, 2, 2]
    assert database.read(epoch) == 2
    assert sleeps == [0.02, 0.04]


def test_tries_are_bounded(database: Database, sleeps: Sleeps) -> None:
    """A database that stays busy ends in CatalogBusyError; waits grow to a limit and nothing is written."""

    def work(connection: Connection) -> None:
        add_epoch(connection)
        raise sqlite_error(sqlite3.SQLITE_BUSY)

    with pytest.raises(CatalogBusyError, match="injected"):
        database.write(work)
    assert len(sleeps) == TRY_COUNT_MAX - 1
    assert sleeps == sorted(sleeps)
    assert sleeps[-1] == 2.0
    assert database.read(epoch) == 1


def test_reads_are_tried_again_too(database: Database) -> None:
    """A plain read that meets a busy database is asked again."""
    tries = iter([sqlite_error(sqlite3.SQLITE_BUSY), None])

    def work(connection: Connection) -> int:
        if (error := next(tries)) is not None:
            raise error
        return epoch(connection)

    assert database.read(work) == 1


def test_other_errors_are_not_tried_again(database: Database, sleeps: Sleeps) -> None:
    """An error of the work itself comes through at once, and its transaction is rolled back."""

    def work(connection: Connection) -> None:
        add_epoch(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        database.write(work)
    with pytest.raises(CatalogDamagedError, match="no_such_table"):
        database.write(lambda connection: connection.execute(text("SELECT * FROM no_such_table")))
    assert sleeps == []
    assert database.read(epoch) == 1


@needs_sqlite
def test_lock_of_another_writer_is_waited_out(url: str, tmp_path: Path) -> None:
    """A write that finds the file locked waits and succeeds when the other writer ends."""
    other = sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            other.execute("COMMIT")

    database = Database(url, busy_timeout_s=0, sleep=sleep)
    database.write(add_epoch)
    assert len(waits) == 2
    assert database.read(epoch) == 2
    database.close()
    other.close()


@needs_sqlite
def test_readers_wait_for_no_writer(url: str, tmp_path: Path) -> None:
    """A read answers with the last committed rows while a writer holds the lock."""
    other = sqlite3.connect(tmp_path / "catalog.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE repo SET epoch = 77")
    database = Database(url, busy_timeout_s=0, sleep=lambda _: pytest.fail("it waited"))
    assert database.read(epoch) == 1
    other.execute("ROLLBACK")
    other.close()
    database.close()


@needs_sqlite
def test_full_disk_is_no_space(database: Database) -> None:
    """A database that cannot grow is NoSpaceError, keeps its rows and can still be read."""

    def work(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        add_epoch(connection)
        connection.exec_driver_sql("UPDATE repo SET incarnation = hex(zeroblob(1000000))")

    with pytest.raises(NoSpaceError):
        database.write(work)
    assert database.read(epoch) == 1


@needs_sqlite
def test_unreadable_place_is_not_load(tmp_path: Path) -> None:
    """A path that cannot hold a database is RepositoryError: trying again would not help."""
    database = Database(f"sqlite:///{tmp_path}", sleep=lambda _: pytest.fail("it tried again"))
    with pytest.raises(RepositoryError):
        database.write(add_epoch)
    database.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), True),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), True),
        (sqlite_error(sqlite3.SQLITE_LOCKED), True),
        (sqlite_error(sqlite3.SQLITE_FULL), False),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), False),
        (server_error("40001"), True),
        (server_error("40P01"), True),
        (server_error("55P03"), True),
        (server_error("23505"), False),
        (server_error(None, 1213, "deadlock"), True),
        (server_error(None, 1205, "lock wait"), True),
        (server_error(None, 1020, "changed"), True),
        (server_error(None, 2013, "lost connection"), False),
        (PoolTimeoutError("pool"), False),
    ],
)
def test_which_errors_mean_again(error: DBAPIError, expected: bool) -> None:
    """Exactly the errors that roll back by another's fault are tried again; a lost connection may have committed."""
    assert is_retryable(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), NoSpaceError),
        (sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE), NoSpaceError),
        (sqlite_error(sqlite3.SQLITE_NOTADB), CatalogDamagedError),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), CatalogDamagedError),
        (sqlite_error(sqlite3.SQLITE_READONLY), RepositoryError),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), RepositoryError),
        (sqlite_error(sqlite3.SQLITE_IOERR), CatalogBusyError),
        (server_error("08006"), CatalogBusyError),
        (server_error(None, 2013, "lost connection"), CatalogBusyError),
        (server_error(None, 4025, "CHECK"), CatalogDamagedError),
        (PoolTimeoutError("pool"), CatalogBusyError),
        (IntegrityError("statement", None, ServerError("23505")), CatalogDamagedError),
    ],
)
def test_errors_in_our_words(tmp_path: Path, error: DBAPIError, expected: type[Exception]) -> None:
    """Load, full disk, damage and a place that cannot be used never share a class."""
    engine = make_engine(f"sqlite:///{tmp_path / 'x'}", writes=True)
    assert type(translated(engine, error)) is expected
    engine.dispose()


def test_clock_is_utc_microseconds(database: Database) -> None:
    """The database's clock counts UTC microseconds since 1970 and does not go back."""
    first, second = database.read(now_us), database.read(now_us)
    assert 1_600_000_000_000_000 < first <= second
    assert second - first < 60_000_000


def test_many_threads_share_one_database(url: str) -> None:
    """More threads than the pool has connections all get their turn, and no update is lost."""
    database = Database(url)
    barrier = threading.Barrier(20)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            barrier.wait()
            database.write(add_epoch)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert database.read(epoch) == 21
    database.close()


def test_batches_hold_every_item_once() -> None:
    """Batches are full but the last, and together are the items in order."""
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches([], 2)) == []
