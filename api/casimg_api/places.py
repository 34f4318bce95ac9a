"""Where images' data are, as clients are told: in the repository, under names of its own, and at other locations. Pure.

What lies in the repository lies in packs that many images share, so its location is a name that leads nowhere: clients
that know no such scheme take the data from the service. Own data come first in a list, whatever was asked for: they
are verified when they are read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from casimg.catalog import ImageRow
from casimg.ids import ImageId
from casimg_api.config import ImagesConfig
from casimg_api.stores import Stores

OwnUrl = Callable[[ImageId, str], str]
"""Names data of the repository, given an image and a store."""


@dataclass(frozen=True, slots=True)
class Place:
    """One location of an image.

    Attributes:
        store: the store that it is in; None of locations in a store that is no more.
        is_own: whether the repository has the data.
    """

    url: str
    metadata: dict[str, Any]
    store: str | None
    is_own: bool


class Places:
    """The locations of images of a site. Threads: any."""

    def __init__(self, config: ImagesConfig, stores: Stores, own_url: OwnUrl) -> None:
        self._config = config
        self._stores = stores
        self._own_url = own_url

    def of(self, row: ImageRow) -> list[Place]:
        """Return the locations of an image in their order."""
        names = self._stores.ordered(row.stores)
        own = [Place(self._own_url(row.id, name), self.metadata({}, name), name, is_own=True) for name in names]
        http = self._stores.http
        return [*own, *(Place(one.url, self.metadata(one.metadata, http), http, is_own=False) for one in row.locations)]

    def metadata(self, metadata: Any, store: str | None) -> dict[str, Any]:
        """Return the metadata of a location as they are told: with its store where stores are told."""
        return {**metadata, "store": store} if self._stores.is_shown and store is not None else dict(metadata)

    def read_order(self, row: ImageRow) -> list[Place]:
        """Return the locations of an image in the order in which they are read: by the weights of their stores."""
        ranks = {name: rank for rank, name in enumerate(self._stores.names_of(row))}
        return sorted(self.of(row), key=lambda place: ranks.get(place.store or "", len(ranks)))

    def shown(self, row: ImageRow) -> dict[str, Any]:
        """Return what an image tells of its locations."""
        view: dict[str, Any] = {}
        if self._config.show_multiple_locations:
            view["locations"] = [told(place) for place in self.of(row)]
        if self._config.show_image_direct_url and (places := self.read_order(row)):
            view["direct_url"] = places[0].url
        return view


def told(place: Place) -> dict[str, Any]:
    """Return a location as JSON has it."""
    return {"url": place.url, "metadata": place.metadata}
