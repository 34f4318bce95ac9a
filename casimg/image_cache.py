"""Which images a server keeps whole in a cache of its own, told in the catalog to all servers of a repository.

The files are the server's business; here is only what is told of them. Threads: any.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from sqlalchemy import Connection

from casimg.catalog import image_cache as sql
from casimg.catalog.image_cache import NODE_COUNT_MAX, CachedImage, State
from casimg.catalog.query import is_text
from casimg.errors import InputError
from casimg.ids import ImageId
from casimg.opened import Opened

T = TypeVar("T")


class ImageCache:
    """The cache of one node, as the catalog of an open repository has it; `Repository.image_cache` gives one.

    Args:
        node: the name of the server, or of all that share its folder; at most 255 characters.
    Every method raises CatalogBusyError, NoSpaceError and CatalogDamagedError for what the database refuses.
    Raises: InputError for a name that cannot be kept.
    """

    def __init__(self, opened: Opened, node: str) -> None:
        if not node or len(node) > NODE_COUNT_MAX or not is_text(node):
            raise InputError(f"the name of a cache has 1 to {NODE_COUNT_MAX} characters, not {len(node)}")
        self.node = node
        self._opened = opened

    def enqueue(self, image_id: ImageId) -> bool:
        """Ask the node to fetch an active image; False when it has it, or was asked. Raises: ImageNotFoundError."""
        return self._write(lambda connection: sql.enqueue(connection, self.node, image_id))

    def keep(self, image_id: ImageId, size: int, stored_size: int, *, only_queued: bool = False) -> bool:
        """Tell that the node has an image whole.

        Args:
            size, stored_size: bytes of the image, and what its file takes without holes.
            only_queued: refuse, with False, when it was taken from the queue meanwhile.
        Raises: ImageNotFoundError when it was deleted meanwhile.
        """
        return self._write(
            lambda connection: sql.keep(connection, self.node, image_id, size, stored_size, only_queued=only_queued)
        )

    def count_hits(self, hits: Mapping[ImageId, int]) -> None:
        """Add downloads to what the node has, and say that it was used now."""
        self._write(lambda connection: sql.count_hits(connection, self.node, hits))

    def drop(self, image_id: ImageId, state: State | None = None) -> bool:
        """Take an image from the cache and the queue, or from one of them; whether it was there."""
        return self._write(lambda connection: sql.drop(connection, self.node, image_id, state))

    def images(self, state: State | None = None) -> list[CachedImage]:
        """Return what the node has and shall have, oldest first."""
        return self._read(lambda connection: sql.rows(connection, self.node, state))

    def gone(self) -> list[ImageId]:
        """Return the images of the node that are stored no more: their files can go."""
        return self._read(lambda connection: sql.gone(connection, self.node))

    def nodes(self, image_id: ImageId) -> list[str]:
        """Return all nodes that have an image whole, by name."""
        return self._read(lambda connection: sql.nodes(connection, image_id))

    def _read(self, work: Callable[[Connection], T]) -> T:
        self._opened.check_open()
        return self._opened.catalog.read(work)

    def _write(self, work: Callable[[Connection], T]) -> T:
        self._opened.check_open()
        return self._opened.catalog.transaction(work)
