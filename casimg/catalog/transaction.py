"""A database with its two ways in: `write`, one transaction that is retried whole, and `read`, plain reads."""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from casimg.catalog.engine import BUSY_TIMEOUT_S, is_retryable, label_of, make_engine, translated
from casimg.errors import CatalogBusyError

T = TypeVar("T")
IN_COUNT_MAX = 500
"""Members of one IN list; SQLite takes 32,766 variables, old ones 999."""

TRY_COUNT_MAX = 12
"""With SQLite's busy timeout of 5 s a caller waits about a minute for a stopped holder of the lock."""


class Database:
    """Engines of one catalog. Threads: any."""

    def __init__(
        self,
        url: str,
        *,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], int] | None = None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            busy_timeout_s: as `make_engine`.
            sleep, jitter: wait seconds between tries; a factor from 0 to 1.
            clock: microseconds UTC, instead of the database's own; for simulations.
        Raises: ConfigError; SQLAlchemy's and ImportError for a URL or driver that is none.
        """
        self._writer = make_engine(url, writes=True, busy_timeout_s=busy_timeout_s, clock=clock)
        self._reader = make_engine(url, writes=False, busy_timeout_s=busy_timeout_s, clock=clock)
        self._sleep = sleep
        self._jitter = jitter

    @property
    def label(self) -> str:
        """The URL without its password."""
        return label_of(self._writer)

    @property
    def sqlite_path(self) -> str | None:
        """The file of a SQLite database, None for a server."""
        url = self._writer.url
        return url.database if url.get_backend_name() == "sqlite" else None

    def write(self, work: Callable[[Connection], T], *, try_count: int = TRY_COUNT_MAX) -> T:
        """Run `work` in one transaction and commit; begin again from the start when the database says so.

        Args:
            work: may run several times; nothing but the database may remember a failed run.
            try_count: 1 for what may as well not be done: it does not wait for a lock that is held long.
        Raises: CatalogBusyError, NoSpaceError, CatalogDamagedError, RepositoryError, and what `work` raises.
        """
        return self._run(self._writer, work, try_count)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run statements that only read; nothing is decided by them alone (rule T2). Raises: as `write`."""
        return self._run(self._reader, work, TRY_COUNT_MAX)

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    def _run(self, engine: Engine, work: Callable[[Connection], T], try_count: int) -> T:
        last: SQLAlchemyError | None = None
        for attempt in range(try_count):
            if attempt > 0:
                self._sleep(min(2.0, 0.01 * 2**attempt) * (0.5 + self._jitter()))
            try:
                # Leaving the block commits, or rolls back the whole: MariaDB's 1205 undoes only one statement.
                with engine.begin() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                if not is_retryable(error):
                    raise translated(engine, error) from error
                last = error
        raise CatalogBusyError(f"{try_count} tries failed, last: {getattr(last, 'orig', last)}") from last


def batches(items: Iterable[T], size: int = IN_COUNT_MAX) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
