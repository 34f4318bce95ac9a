"""What the candidates serve: the service, and below /bare an application that only reads and writes.

`/bare/sink` reads a body and says its size, after waiting as many seconds as the query says; `/bare/source` writes as
many bytes as the query says; `/bare/handed` says how many of the last source's a server has taken.
"""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from casimg_api.wsgi import application as service

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

PART_SIZE: Final = 256 << 10
_PART: Final = b"x" * PART_SIZE
_handed = {"size": 0}


def application(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
    """Serve one request."""
    path = environ["PATH_INFO"]
    if not path.startswith("/bare/"):
        return service(environ, start_response)
    number = int(environ.get("QUERY_STRING") or 0)
    if path == "/bare/source":
        start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(number))])
        return _source(number)
    size = _handed["size"]
    if path == "/bare/sink" and _is_chunked(environ) and not environ.get("wsgi.input_terminated"):
        start_response("501 Not Implemented", [("Content-Length", "0")])  # the server leaves the chunks to us
        return []
    if path == "/bare/sink":
        time.sleep(number)
        size = _sink(environ)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(str(size))))])
    return [str(size).encode()]


def _sink(environ: dict[str, Any]) -> int:
    """Read a body to its end, as the service does, and return its size."""
    left = -1 if _is_chunked(environ) else int(environ.get("CONTENT_LENGTH") or 0)
    size = 0
    while left:
        part = environ["wsgi.input"].read(PART_SIZE if left < 0 else min(left, PART_SIZE))
        if not part:
            break
        size += len(part)
        left -= 0 if left < 0 else len(part)
    return size


def _is_chunked(environ: dict[str, Any]) -> bool:
    return "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "")


def _source(size: int) -> Iterator[bytes]:
    _handed["size"] = 0
    while _handed["size"] < size:
        part = _PART[: min(PART_SIZE, size - _handed["size"])]
        _handed["size"] += len(part)
        yield part
