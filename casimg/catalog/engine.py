"""Where the three databases differ, and nowhere else: connecting, isolation, clock, what their errors mean.

SQLite: the driver in autocommit, BEGIN IMMEDIATE, WAL, synchronous=FULL. PostgreSQL and MariaDB: READ COMMITTED, set
explicitly. Source: docs/protocol.md, rule T.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from casimg.errors import CasimgError, CatalogBusyError, CatalogDamagedError, ConfigError, NoSpaceError, RepositoryError

BUSY_TIMEOUT_S = 5.0
"""How long SQLite itself waits for the one writer before a try counts as failed."""

_IDLE_TIMEOUT_S = 60
"""A writer that stops inside a transaction keeps its locks no longer than this, where the database can see to it."""

_RETRYABLE_PG = {"40001", "40P01", "55P03"}
_RETRYABLE_MY = {1213, 1205, 1020}
_REFUSED_MY = {3819, 4025}
"""A CHECK that fails, which the drivers of MySQL and MariaDB call operational."""

_UNUSABLE_SQLITE = (
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH),
)


def make_engine(
    url: str | URL,
    *,
    writes: bool,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
    clock: Callable[[], int] | None = None,
) -> Engine:
    """Return an engine whose transactions are as rule T demands.

    Args:
        writes: False for plain reads, which on SQLite then wait for nobody.
        busy_timeout_s: for SQLite; servers have their own lock timeouts.
        clock: microseconds UTC, instead of the database's own; for simulations.
    Raises: ConfigError for a SQLite database in memory, which two engines cannot share.
    """
    parsed = make_url(url)
    name = parsed.get_backend_name()
    if name != "sqlite":
        engine = create_engine(
            parsed, isolation_level="READ COMMITTED", pool_pre_ping=True, execution_options={"casimg_clock": clock}
        )
        event.listen(engine, "connect", _configure_postgresql if name == "postgresql" else _configure_mariadb)
        return engine
    if parsed.database in (None, "", ":memory:") or "mode=memory" in str(parsed):
        raise ConfigError("[catalog] url", "a catalog needs a file; a database in memory ends with its process")
    engine = create_engine(parsed, connect_args={"timeout": busy_timeout_s}, execution_options={"casimg_clock": clock})
    # A transaction that would write later must not begin as a reader: SQLITE_BUSY_SNAPSHOT cannot be waited out.
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    event.listen(engine, "connect", _configure_sqlite)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _configure_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_TIMEOUT_S}s'")
    connection.commit()


def _configure_mariadb(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        if "MariaDB" in str(cursor.fetchone()):  # MySQL has no such limit
            cursor.execute(f"SET SESSION idle_write_transaction_timeout = {_IDLE_TIMEOUT_S}")
    connection.commit()


def is_retryable(error: SQLAlchemyError) -> bool:
    """Tell whether the whole transaction may be tried again."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    original: Any = error.orig
    if isinstance(original, sqlite3.Error):
        return getattr(original, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if code in _RETRYABLE_PG:
        return True
    arguments: tuple[object, ...] = getattr(original, "args", ())
    return bool(arguments) and arguments[0] in _RETRYABLE_MY


def translated(engine: Engine, error: SQLAlchemyError) -> CasimgError:
    """Return our error for one of the database's."""
    where = label_of(engine)
    original = getattr(error, "orig", None)
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None:
        primary = code & 0xFF
        if primary == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE:
            return NoSpaceError(where)
        # SQLITE_ERROR is a statement that does not fit the schema, although the driver calls it operational.
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            return CatalogDamagedError(where, str(original))
        if primary in _UNUSABLE_SQLITE:
            return RepositoryError(where, f"the catalog cannot be used: {original}")
    if "Could not decode to UTF-8" in str(original):
        return CatalogDamagedError(where, str(original))
    if original is not None and original.args[:1] and original.args[0] in _REFUSED_MY:
        return CatalogDamagedError(where, str(original))
    # The pool gives up when all its connections are in use: load, not damage.
    if isinstance(error, (OperationalError, PoolTimeoutError)):
        return CatalogBusyError(f"{where}: {original or error}")
    return CatalogDamagedError(where, str(original or error))


def label_of(engine: Engine) -> str:
    """Return the URL without its password, for messages."""
    return engine.url.render_as_string(hide_password=True)


def now_us(connection: Connection) -> int:
    """Return the database's clock, microseconds UTC: one clock for all who share a catalog.

    A clock given to `make_engine` stands in for it.
    """
    clock = connection.get_execution_options().get("casimg_clock")
    if clock is not None:
        return int(clock())
    dialect = connection.dialect.name
    if dialect == "sqlite":
        expression = text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000")
    elif dialect == "postgresql":
        expression = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")
    else:
        expression = text("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)")
    return int(connection.execute(expression).scalar_one())


__all__ = ["BUSY_TIMEOUT_S", "is_retryable", "label_of", "make_engine", "now_us", "translated"]
