"""What parts of the service that live in the catalog alone need of an open repository."""

from typing import Protocol

from casimg.catalog import Catalog


class Opened(Protocol):
    """An open repository; `casimg.wiring.Wiring` is one."""

    @property
    def catalog(self) -> Catalog: ...
    def check_open(self) -> None:
        """Raise ClosedError or ForkError when it cannot be used here and now."""
