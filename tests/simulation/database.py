"""A catalog's database in memory that forgets a whole schedule at once: no file, no new schema, no new engine.

A schedule is one outer transaction that is rolled back when it is over; each transaction of the protocol is a
savepoint inside it. All code runs in one thread and a turn is given away only between transactions, so they are as
serial as SQLite makes them with BEGIN IMMEDIATE.
"""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from casimg.catalog.engine import translated

T = TypeVar("T")


class MemoryDatabase:
    """One SQLite database in memory, on one connection. Threads: one.

    Args:
        clock: microseconds UTC.
    """

    label = "simulation"
    sqlite_path = None

    def __init__(self, clock: Callable[[], int]) -> None:
        self._engine = create_engine("sqlite://", poolclass=StaticPool, execution_options={"casimg_clock": clock})
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        self._connection = self._engine.connect()
        raw = self._connection.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        self.raw = raw
        self._outer = self._connection.begin()

    def write(self, work: Callable[[Connection], T], *, try_count: int = 1) -> T:
        """Run one transaction. Raises: what `work` raises, as Database translates it."""
        self.raw.execute("SAVEPOINT one")
        try:
            result = work(self._connection)
        except BaseException as error:
            self.raw.execute("ROLLBACK TO one")
            self.raw.execute("RELEASE one")
            if isinstance(error, SQLAlchemyError):
                raise translated(self._engine, error) from error
            raise
        self.raw.execute("RELEASE one")
        return result

    def write_in_vain(self, work: Callable[[Connection], object]) -> None:
        """Run a transaction and roll it back."""
        self.raw.execute("SAVEPOINT one")
        try:
            work(self._connection)
        finally:
            self.raw.execute("ROLLBACK TO one")
            self.raw.execute("RELEASE one")

    def read(self, work: Callable[[Connection], T]) -> T:
        try:
            return work(self._connection)
        except SQLAlchemyError as error:
            raise translated(self._engine, error) from error

    def keep(self) -> None:
        """Make what is there now the state that `forget` returns to."""
        self._outer.commit()
        self._outer = self._connection.begin()

    def forget(self) -> None:
        """Return to the state that was kept."""
        self._outer.rollback()
        self._outer = self._connection.begin()

    def close(self) -> None:
        """The simulation keeps it."""


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON").close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
