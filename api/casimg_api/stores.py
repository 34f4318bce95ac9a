"""Backends of the repository as stores, as clients of Glance know them. Pure.

A store is named as its backend. Those that are read-only hold data that lie elsewhere, and nothing is put there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from casimg.catalog import STORED_STATUSES, ImageRow
from casimg.errors import ConfigError
from casimg.registry import StoreInfo
from casimg_api.config import Config, StoreOptions

_KINDS: Final[Mapping[str, str]] = {"local": "file"}
"""Kinds of backends that Glance has a name of its own for."""


@dataclass(frozen=True, slots=True)
class Store:
    """One store; the one with the highest weight is read first."""

    name: str
    kind: str
    is_default: bool = False
    is_read_only: bool = False
    description: str = ""
    weight: int = 0


class Stores:
    """The stores of a site. Threads: any.

    Args:
        infos: the repository's backends.
        read_only: kinds of stores that are no backends, by name; web servers are of the kind `http`.
    Raises: ConfigError when the configuration names a store that there is not.
    """

    def __init__(self, config: Config, infos: Sequence[StoreInfo], read_only: Mapping[str, str] | None = None) -> None:
        self.is_shown = config.store.multi_store
        """Whether clients know that there are several; else none is ever named."""
        usual = next(info.name for info in infos if info.is_default)
        self.default: str = config.store.default_backend or usual
        self.writable: tuple[str, ...] = tuple(info.name for info in infos)
        for name in read_only or {}:
            if name in self.writable:
                raise ConfigError("configuration of the server", f"http_store.name is {name!r}, as a backend is named")
        self.http: str | None = next((name for name, kind in (read_only or {}).items() if kind == "http"), None)
        """The store of web servers; None when there is none."""
        kinds = {**{info.name: _KINDS.get(info.kind, info.kind) for info in infos}, **(read_only or {})}
        where = "configuration of the server"
        for name in config.stores:
            if name not in kinds:
                raise ConfigError(where, f"[stores.{name}]: the repository has no such backend; it has {_told(kinds)}")
        if self.default not in self.writable:
            why = f"store.default_backend is {self.default!r}; the repository has {_told(self.writable)}"
            raise ConfigError(where, why)
        self.all: tuple[Store, ...] = tuple(
            _store(name, kind, config.stores.get(name, StoreOptions()), self.default, self.writable)
            for name, kind in kinds.items()
        )
        self._by_name = {store.name: store for store in self.all}
        # Equal weights: the default store is read first, whatever came first.
        self._is_weighted = any(store.weight for store in self.all)

    def find(self, name: str) -> Store | None:
        """Return a store by its name; None when there is none."""
        return self._by_name.get(name)

    def names_of(self, row: ImageRow) -> tuple[str, ...]:
        """Return the stores that hold an image's data, in the order in which they are read; none of data kept aside."""
        own = row.stores if row.status in STORED_STATUSES else ()
        return self.ordered((*own, self.http) if row.locations and self.http is not None else own)

    def ordered(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return names by weight, the highest first; those of equal weight keep their order."""
        if not self._is_weighted:
            return tuple(names)
        return tuple(sorted(names, key=self._weight, reverse=True))

    def _weight(self, name: str) -> int:
        found = self._by_name.get(name)
        return 0 if found is None else found.weight


def _store(name: str, kind: str, options: StoreOptions, default: str, writable: Sequence[str]) -> Store:
    return Store(name, kind, name == default, name not in writable, options.store_description, options.weight)


def _told(names: Iterable[str]) -> str:
    return ", ".join(names)
