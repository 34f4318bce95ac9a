"""Images whose data lie elsewhere, at locations that somebody else keeps: said, hashed, given up.

What is at a location is fetched by whoever serves the image; the repository only keeps where it is, its size and its
hashes. Lists of locations are changed by `Registry.edit`, with everything else that is said of an image. Threads: any.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection

from casimg.catalog import STORED_STATUSES, ImageRow, Location, locating
from casimg.catalog.locations import Located
from casimg.entry import check_located
from casimg.ids import ImageId
from casimg.records import try_flush
from casimg.wiring import Wiring

T = TypeVar("T")
OWN_SCHEME: Final = "casimg"


class Locations:
    """The images of an open repository whose data lie elsewhere; `Registry.locations()` gives one.

    Every method raises CatalogBusyError, NoSpaceError and CatalogDamagedError for what the database refuses.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def own_url(self, image_id: ImageId, store: str) -> str:
        """Return how data that the repository keeps are told of: a name, which no path can be made of."""
        return f"{OWN_SCHEME}://{self._wiring.config.repository_uuid}/{store}/{image_id}"

    def begin(self, image_id: ImageId, located: Located, *, is_checked: bool = False) -> ImageRow:
        """Say where the data of a queued image are: it is active then.

        Args:
            located: with the size of the data; with an algorithm but no hash, that is still to be computed.
            is_checked: it is `importing` until `finish`, and queued again after `give_up`.
        Raises: ImageNotFoundError, BadStatusError, InputError.
        """
        check_located(located)
        return self._change(
            image_id, partial(locating.begin, image_id=image_id, located=located, is_checked=is_checked)
        )

    def finish(self, image_id: ImageId, algo: str, value: str, checksum: str) -> ImageRow:
        """Keep hashes that were computed, in hexadecimal; an image that waited for them is active.

        Args:
            checksum: md5 of the same bytes.
        Raises: ImageNotFoundError, BadStatusError when nobody waits for such a hash.
        """
        work = partial(locating.finish, image_id=image_id, algo=algo, value=value, checksum=checksum)
        return self._change(image_id, work)

    def give_up(self, image_id: ImageId, *, only_waiting: bool = False) -> None:
        """Say that no hash will come: an image that waited for it is queued again, others go on without one.

        Args:
            only_waiting: say nothing of images that are in use; `unhashed` still has them.
        Raises: ImageNotFoundError.
        """
        self._change(image_id, partial(locating.give_up, image_id=image_id, only_waiting=only_waiting))

    def unhashed(self) -> list[ImageId]:
        """Return the images in use whose hash is still to be computed, oldest first."""
        self._wiring.check_open()
        return self._wiring.catalog.read(locating.unhashed)

    def _change(self, image_id: ImageId, work: Callable[[Connection], object]) -> ImageRow:
        self._wiring.check_open()
        self._wiring.reserve.spend(lambda: self._wiring.catalog.transaction(work))
        if self._wiring.catalog.image(image_id).status in STORED_STATUSES:
            try_flush(self._wiring, image_id)
        return self._wiring.catalog.image(image_id)  # which names its record now


__all__ = ["OWN_SCHEME", "Located", "Location", "Locations"]
