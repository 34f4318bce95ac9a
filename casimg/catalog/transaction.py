"""A database with its two ways in: `write`, one transaction that is retried whole, and `read`, a plain snapshot."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from casimg.catalog.engine import make_engine, run_transaction, translated

T = TypeVar("T")
IN_COUNT_MAX = 500
"""Members of one IN list; SQLite takes 32,766 variables, old ones 999."""


class Database:
    """Engines of one catalog. Threads: any."""

    def __init__(self, url: str) -> None:
        self._writer = make_engine(url, writes=True)
        self._reader = make_engine(url, writes=False)

    @property
    def label(self) -> str:
        """The URL without its password."""
        return self._writer.url.render_as_string(hide_password=True)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, again from the start when it must be. Raises: as run_transaction."""
        return run_transaction(self._writer, work)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run statements that only read; nothing is decided by them alone (rule T2)."""
        try:
            with self._reader.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise translated(self._reader, error) from error

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()


def batches(items: Sequence[T], size: int = IN_COUNT_MAX) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
