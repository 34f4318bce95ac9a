"""Where the three databases differ, and nowhere else: connecting, isolation, clock, what may be tried again.

SQLite: the driver in autocommit, BEGIN IMMEDIATE, WAL, synchronous=FULL. PostgreSQL and MariaDB: READ COMMITTED, set
explicitly. Source: docs/protocol.md, rule T.
"""

import random
import sqlite3
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from casimg.errors import CasimgError, CatalogBusyError, CatalogDamagedError, NoSpaceError

T = TypeVar("T")

_RETRY_COUNT_MAX = 12
_BUSY_TIMEOUT_MS = 30_000
_RETRYABLE_PG = {"40001", "40P01", "55P03"}
_RETRYABLE_MY = {1213, 1205, 1020}


def make_engine(url: str | URL, *, writes: bool) -> Engine:
    """Return an engine whose transactions are as rule T demands.

    Args:
        writes: False for plain reads, which on SQLite then wait for nobody.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, isolation_level="READ COMMITTED", pool_pre_ping=True)
    engine = create_engine(parsed, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000})
    # A transaction that would write later must not begin as a reader: SQLITE_BUSY_SNAPSHOT cannot be waited out.
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def run_transaction(
    engine: Engine,
    work: Callable[[Connection], T],
    *,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> T:
    """Run `work` in one transaction and commit; begin again from the start when the database says so.

    Args:
        work: may run several times; nothing but the database may remember a failed run.
        sleep, jitter: seconds to wait, and a factor from 0 to 1.
    Raises: CatalogBusyError, NoSpaceError, CatalogDamagedError, and what `work` raises.
    """
    for attempt in range(_RETRY_COUNT_MAX):
        try:
            with engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            if not is_retryable(error):
                raise translated(engine, error) from error
            last = error
        sleep(min(2.0, 0.01 * 2**attempt) * (0.5 + jitter()))
    raise CatalogBusyError(f"{_RETRY_COUNT_MAX} tries failed, last: {last}")


def is_retryable(error: SQLAlchemyError) -> bool:
    """Tell whether the whole transaction may be tried again."""
    if not isinstance(error, DBAPIError) or error.orig is None:
        return False
    original: Any = error.orig
    if isinstance(original, sqlite3.OperationalError):
        return getattr(original, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if code in _RETRYABLE_PG:
        return True
    arguments: tuple[object, ...] = getattr(original, "args", ())
    return bool(arguments) and arguments[0] in _RETRYABLE_MY


def translated(engine: Engine, error: SQLAlchemyError) -> CasimgError:
    """Return our error for one of the database's."""
    where = engine.url.render_as_string(hide_password=True)
    original = getattr(error, "orig", None)
    code = getattr(original, "sqlite_errorcode", None)
    if code is not None:
        primary = code & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            return NoSpaceError(where)
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return CatalogDamagedError(where, str(original))
        if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
            return CatalogBusyError(f"{where} cannot be used: {original}")
    if isinstance(error, OperationalError):
        return CatalogBusyError(f"{where}: {original}")
    return CatalogDamagedError(where, str(original or error))


def now_us(connection: Connection) -> int:
    """Return the database's clock, microseconds UTC: one clock for all who share a catalog."""
    dialect = connection.dialect.name
    if dialect == "sqlite":
        expression = text("SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000")
    elif dialect == "postgresql":
        expression = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")
    else:
        expression = text("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED)")
    return int(connection.execute(expression).scalar_one())


__all__ = ["is_retryable", "make_engine", "now_us", "run_transaction", "translated"]
