"""`/v2/images/{id}/file`: bytes in, bytes out."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

from casimg.catalog import ImageRow
from casimg.errors import (
    CasimgError,
    DamageError,
    ImageDeletedError,
    ImageNotFoundError,
    NoSpaceError,
    NotQueuedError,
    TryAgainError,
)
from casimg.ids import ImageId
from casimg.registry import Inspected
from casimg.streaming import ContentStream
from casimg_api.answers import send_nothing
from casimg_api.byte_ranges import ManyRangesError, UnsatisfiableRangeError, parse_range
from casimg_api.cache_streams import Parts, Views
from casimg_api.context import VIEWS_KEY, Call
from casimg_api.errors import HttpError
from casimg_api.http_store import open_elsewhere
from casimg_api.images import visible_image
from casimg_api.inspection import inspection_of
from casimg_api.quota import size_limits
from casimg_api.requests import is_chunked, query
from casimg_api.routes import Route
from casimg_api.rules import image_id_of, is_uuid
from casimg_api.upload_body import ClientGoneError, UploadBody

_log = logging.getLogger("casimg_api.image_data")

OCTETS: Final = "application/octet-stream"
_SIZE_DIGITS_MAX: Final = 19


Keeping = Callable[[Call, str, int | None, UploadBody], None]
"""Does something with the data of a request: the call, the image's id, bytes that are announced, the body."""


def upload(call: Call, image_id: str) -> None:
    """PUT file: give a queued image its data; whatever goes wrong, it is queued again."""
    receive(call, image_id, _keep)


def receive(call: Call, image_id: str, keep: Keeping) -> None:
    """Take the data that a request brings, and answer with nothing. Raises: HttpError."""
    if is_chunked(call.req) and not call.req.env.get("wsgi.input_terminated"):
        raise HttpError(501, "The server does not pass on chunked bodies; send the length of the data.")
    body = UploadBody(call.req.env["wsgi.input"], _body_length(call))
    try:
        if (call.req.content_type or "").partition(";")[0].strip().lower() != OCTETS:
            raise HttpError(415, "", detail=f"Invalid content type {call.req.content_type}")
        keep(call, image_id, _declared_size(call), body)
    except ClientGoneError as error:
        _log.info("upload.client_gone image=%s request_id=%s why=%s", image_id, call.request_id, error)
        raise HttpError(400, "The client disconnected before all data had come.") from None
    except BaseException:
        body.drain()
        raise
    send_nothing(call)


def _keep(call: Call, image_id: str, declared: int | None, body: UploadBody) -> None:
    store = _asked_store(call)
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "upload_image", row)
    _check_ready(row)
    limits = size_limits(call)
    for limit in limits:
        limit.check(declared or 0)
    call.limits.check_upload(call.caller.project_id, declared)
    body.look(limits, inspection_of(row, call.config.data))

    def inspect() -> Inspected:
        # Others may have used up the quota since; what is certain is only known here.
        for limit in size_limits(call):
            limit.check(body.size)
        return Inspected(body.finish())

    try:
        parent_id = _parent(call, row)
        call.registry.upload(row.id, body, size=declared, parent_id=parent_id, inspect=inspect, store=store)
    except NotQueuedError as error:
        raise HttpError(409, str(error)) from None
    except ImageDeletedError:
        raise HttpError(
            410,
            f"Image {row.id} could not be found after upload. The image may have been deleted during the upload, "
            "cleaning up the chunks uploaded.",
        ) from None
    except NoSpaceError as error:
        _log.error("upload.no_space image=%s why=%s", row.id, error)
        raise HttpError(413, "Image storage media is full.") from None


def _declared_size(call: Call) -> int | None:
    """Return how many bytes are announced; None when nobody knows. Raises: HttpError 400."""
    text = call.req.get_header("X-Openstack-Image-Size")
    if text is None:
        return _body_length(call)
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > _SIZE_DIGITS_MAX:
        raise HttpError(400, "Invalid or missing image size in request headers.")
    # Zero is how those say that they do not know who must say something.
    return int(text) or None


def _body_length(call: Call) -> int | None:
    """Return the length of the body; None for a chunked one, which ends itself."""
    return None if is_chunked(call.req) else call.req.content_length or 0


def _asked_store(call: Call) -> str:
    """Return the store that data shall lie in. Raises: HttpError 400, 410."""
    stores = call.stores
    asked = call.req.get_header("X-Image-Meta-Store")
    if asked is None or not stores.is_shown:
        return stores.default
    found = stores.find(asked)
    if found is None:
        raise HttpError(400, f"Unknown scheme '{asked}' found in URI")
    if found.is_read_only:
        raise HttpError(410, "Error in store configuration. Adding images to store is disabled.")
    return found.name


def _check_ready(row: ImageRow) -> None:
    """Raise 409 or 400 for an image that takes no data now."""
    if row.status != "queued":
        raise HttpError(409, f"Image status transition from {row.status} to saving is not allowed")
    missing = [name for name in ("disk_format", "container_format") if not getattr(row, name)]
    if missing:
        raise HttpError(400, f"Properties {', '.join(missing)} must be set prior to saving data.")


def _parent(call: Call, row: ImageRow) -> ImageId | None:
    """Return the image that these data were made from, as Cinder and Nova say, when the caller may see it."""
    for named in (call.req.get_header("X-Openstack-Base-Image-Ref"), row.properties.get("base_image_ref")):
        if named is None or not is_uuid(named) or image_id_of(named) == row.id:
            continue
        try:
            return visible_image(call, named).id
        except ImageNotFoundError:
            continue
    return None


def download(call: Call, image_id: str) -> None:
    """GET file: the bytes of an image, or a range of them."""
    row = visible_image(call, image_id)
    if row.status == "deactivated" and not call.caller.is_admin:
        raise HttpError(403, "The requested image has been deactivated. Image data download is forbidden.")
    call.policy.enforce_on_image(call.caller, "download_image", row)
    preferred = _preferred(call, row)
    if row.size is None or row.status not in ("active", "deactivated"):
        send_nothing(call)
        return
    # Nobody can say that data elsewhere are what they were.
    tag = None if row.content_id is None else f'"{row.content_id}"'
    if tag is not None and _names(call.req.get_header("If-None-Match"), tag):
        call.resp.set_header("ETag", tag)
        send_nothing(call, 304)
        return
    found = _asked_range(call, row.size, tag)
    start, end = (0, row.size) if found is None else found
    stream = _open(call, row, start, end, preferred)
    resp = call.resp
    resp.status = 200 if found is None else 206
    resp.content_type = OCTETS
    resp.content_length = end - start
    if tag is not None:
        resp.set_header("ETag", tag)
        resp.set_header("Accept-Ranges", "bytes")
    if "md5" in row.hashes:
        resp.set_header("Content-MD5", row.hashes["md5"])  # in hex: clients of Glance compare it so
    if found is not None:
        resp.set_header("Content-Range", f"bytes {start}-{end - 1}/{row.size}")
    sending = Sending(stream, row.id, call.request_id, takes_views=VIEWS_KEY in call.req.env)
    resp.stream = cast("Iterator[bytes]", sending)


def _open(call: Call, row: ImageRow, start: int, end: int, stores: Sequence[str]) -> Parts:
    """Return a stream whose first part is there: what is wrong with it can still be told by a status."""
    caching = call.services.caching if row.status == "active" else None
    if caching is not None and (cached := caching.open(row, start, end)) is not None:
        return cached
    stream = _open_somewhere(call, row, start, end, stores)
    return stream if caching is None or (start, end) != (0, row.size) else caching.filling(row, stream)


def _open_somewhere(call: Call, row: ImageRow, start: int, end: int, stores: Sequence[str]) -> Parts:
    """Return a stream from the first store that can give one. Raises: as the repository, HttpError 400, 503."""
    http = call.stores.http
    own = tuple(name for name in stores if name != http)
    ways: list[Callable[[], Parts]] = []
    if row.content_id is not None:
        ways.append(lambda: _open_stored(call, row, start, end, own))
    if row.locations:
        at = 0 if stores[:1] == (http,) else len(ways)
        ways.insert(at, lambda: open_elsewhere(call.imports.http_store, row, start, end))
    while len(ways) > 1:
        try:
            return ways.pop(0)()
        except (DamageError, TryAgainError, HttpError) as error:
            if isinstance(error, HttpError) and error.status == 404:
                raise
            _log.warning("download.next_store image=%s request_id=%s why=%s", row.id, call.request_id, error)
    return ways[0]()


def _open_stored(call: Call, row: ImageRow, start: int, end: int, stores: Sequence[str]) -> ContentStream:
    try:
        stream = call.registry.stream(row, start, end, stores=stores)
        try:
            stream.begin()
        except BaseException:
            stream.close()
            raise
    except ImageNotFoundError:  # deleted since it was looked up
        raise HttpError(404) from None
    return stream


def _asked_range(call: Call, size: int, tag: str | None) -> tuple[int, int] | None:
    if_range = call.req.get_header("If-Range")
    if if_range is not None and if_range.strip() != tag:
        return None
    try:
        return parse_range(call.req.get_header("Range"), call.req.get_header("Content-Range"), size)
    except ManyRangesError as error:
        raise HttpError(400, str(error)) from None
    except UnsatisfiableRangeError as error:
        raise HttpError(416, str(error), headers={"Content-Range": f"bytes */{size}"}) from None


def _names(header: str | None, tag: str) -> bool:
    """Tell whether a list of entity tags holds this one."""
    return header is not None and tag in (one.strip() for one in header.split(","))


def _preferred(call: Call, row: ImageRow) -> tuple[str, ...]:
    """Return the stores to read from: what a client prefers, then the others by weight. Raises: HttpError 400, 403."""
    text = next((value for name, value in reversed(query(call.req)) if name == "prefer"), "")
    asked = [name.strip() for name in text.split(",") if name.strip()]
    usual = call.stores.names_of(row)
    if not asked:
        return usual
    call.policy.enforce_on_image(call.caller, "download_from_store", row)
    if not call.stores.is_shown:
        raise HttpError(400, "Store selection for download is not available when multiple backends are not enabled.")
    for name in asked:
        if call.stores.find(name) is None:
            raise HttpError(400, f"Store '{name}' is not configured.")
    # One that does not have the image is passed over.
    return tuple(dict.fromkeys((*(name for name in asked if name in usual), *usual)))


class Sending:
    """A stream on its way to a client; the server closes it, also when the client goes away.

    Args:
        takes_views: whether the server sends views, and each before it asks for the next part.
    """

    def __init__(self, stream: Parts, image_id: str, request_id: str, *, takes_views: bool = False) -> None:
        self._stream = stream
        self._parts: Iterator[bytes | memoryview] | Parts = stream
        if takes_views and isinstance(stream, Views):
            self._parts = stream.views()
        self._image_id = image_id
        self._request_id = request_id

    def __iter__(self) -> "Iterator[bytes | memoryview]":
        return self

    def __next__(self) -> bytes | memoryview:
        try:
            return next(self._parts)
        except CasimgError as error:  # the head is out: the server cuts the connection, so nobody takes it for all
            _log.error("download.failed image=%s request_id=%s why=%s", self._image_id, self._request_id, error)
            raise

    def close(self) -> None:
        self._stream.close()


ROUTES: Final = (
    Route("GET", "/images/{image_id}/file", download, rejects_body=True),
    Route("PUT", "/images/{image_id}/file", upload),
)
