"""Web servers as a store that is only read: data of images stay there and are passed on.

Where may be asked, and at which addresses, is said by the rules that imports have, for each hop. What comes is counted:
no byte more is sent on than the image has, and a whole download whose hash is known is cut before its last part when
the bytes do not have it.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Generator, Iterator
from typing import Final

from casimg.catalog import ImageRow
from casimg.errors import CasimgError
from casimg_api.config import HttpStoreConfig
from casimg_api.errors import HttpError
from casimg_api.fetch_rules import FetchRefusedError, FetchRules
from casimg_api.fetching import Body, Fetcher, FetchError, NoRangesError
from casimg_api.views import HASH_ALGORITHM

_log = logging.getLogger("casimg_api.http_store")
ALGORITHMS: Final = ("md5", "sha1", "sha256", "sha512")
"""What hashes of data elsewhere may be made by."""
_PART_SIZE: Final = 256 << 10


class ElsewhereError(CasimgError):
    """Data at a location cannot be had, or are not what they were."""

    def __init__(self, image_id: str, why: str) -> None:
        self.image_id = image_id
        super().__init__(f"image {image_id}: {why}")


class RemoteStream:
    """Bytes of an image as a web server sends them: as many as were promised, and those that were promised.

    An iterator of `bytes`; whoever has it closes it. Threads: one at a time.

    Args:
        body: what the server sends.
        size: bytes that there must be.
        hashed: algorithm and value of all that must come; None when that is not known, or only a part comes.
        close: called once.
    """

    def __init__(
        self, image_id: str, body: Body, size: int, hashed: tuple[str, str] | None, close: Callable[[], None]
    ) -> None:
        self._image_id = image_id
        self._body = body
        self._size = size
        self._hashed = hashed
        self._close = close
        self._first: bytes | None = None
        self._parts = self._read()
        self._closed = False

    def begin(self) -> None:
        """Wait for the first part: what is wrong with it is raised here. Raises: ElsewhereError."""
        self._first = next(self._parts, None)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return next(self._parts)

    def close(self) -> None:
        """Stop reading; twice is harmless."""
        if not self._closed:
            self._closed = True
            self._parts.close()
            self._close()

    def _read(self) -> Generator[bytes, None, None]:
        """Yield parts, each when the next one has come: the last is kept back until all is known to be right."""
        digest = None if self._hashed is None else hashlib.new(self._hashed[0], usedforsecurity=False)
        left, held = self._size, b""
        while part := self._next():
            left -= len(part)
            if left < 0:
                raise ElsewhereError(self._image_id, "its location has more bytes than the image")
            if digest is not None:
                digest.update(part)
            if held:
                yield held
            held = part
        if left:
            raise ElsewhereError(self._image_id, f"its location ended {left} bytes before the image")
        if digest is not None and self._hashed is not None and digest.hexdigest() != self._hashed[1].lower():
            raise ElsewhereError(self._image_id, f"the bytes at its location do not have its {self._hashed[0]}")
        if held:
            yield held

    def _next(self) -> bytes:
        try:
            return self._body.read(_PART_SIZE)
        except FetchError as error:
            raise ElsewhereError(self._image_id, str(error)) from None


class HttpStore:
    """Images' data on web servers. Threads: any."""

    def __init__(self, fetcher: Fetcher, retry_count: int = 0) -> None:
        self._fetcher = fetcher
        self.retry_count = retry_count

    @classmethod
    def of(cls, config: HttpStoreConfig, rules: FetchRules) -> "HttpStore | None":
        """Return the store that a configuration has."""
        if not config.enabled:
            return None
        return cls(Fetcher(rules, config.connect_timeout_s, config.read_timeout_s), config.http_retries)

    def size(self, url: str) -> int:
        """Return how many bytes are at a URL. Raises: FetchRefusedError, FetchError when that is not said, or none."""
        size = self._fetcher.size(url)
        if not size:
            raise FetchError(
                "the server does not say how many bytes there are" if size is None else "there are no bytes"
            )
        return size

    def open(self, row: ImageRow, url: str, start: int, end: int, *, verify: bool = True) -> RemoteStream:
        """Open bytes [start, end) of an image from one of its locations.

        Args:
            verify: hold a whole image against its hash.
        Raises: FetchRefusedError, FetchError, NoRangesError for a part from a server that gives none, ElsewhereError.
        """
        is_whole = (start, end) == (0, row.size)
        with contextlib.ExitStack() as stack:
            body = stack.enter_context(self._fetcher.open(url, span=None if is_whole else (start, end)))
            if body.length is not None and body.length != end - start:
                raise ElsewhereError(row.id, f"its location has {body.length} bytes, not {end - start}")
            if body.total is not None and body.total != row.size:
                raise ElsewhereError(row.id, f"its location has {body.total} bytes, not {row.size}")
            hashed = _hash_of(row) if is_whole and verify else None
            stream = RemoteStream(row.id, body, end - start, hashed, stack.pop_all().close)
        try:
            stream.begin()
        except BaseException:
            stream.close()
            raise
        return stream


def open_elsewhere(store: HttpStore | None, row: ImageRow, start: int, end: int) -> RemoteStream:
    """Open bytes [start, end) of an image from the first of its locations that can give them.

    Raises: HttpError 503 when none can, 400 when they give whole images only.
    """
    gives_all = False
    for one in row.locations:
        if store is None:
            break
        try:
            return store.open(row, one.url, start, end)
        except NoRangesError as error:
            gives_all = True
            _log.info("location.no_ranges image=%s why=%s", row.id, error)
        except (FetchRefusedError, FetchError, ElsewhereError) as error:
            _log.warning("location.failed image=%s why=%s", row.id, error)
    if gives_all:
        raise HttpError(400, "Range requests are not supported by the store of this image.")
    raise HttpError(503, f"The data of image {row.id} cannot be had from their location now.")


def _hash_of(row: ImageRow) -> tuple[str, str] | None:
    """Return the best hash that is known of an image: algorithm and value."""
    found = next((algo for algo in (row.hash_algo or HASH_ALGORITHM, "md5") if algo in row.hashes), None)
    return (found, row.hashes[found]) if found in ALGORITHMS else None


__all__ = ["ALGORITHMS", "ElsewhereError", "HttpStore", "RemoteStream", "open_elsewhere"]
