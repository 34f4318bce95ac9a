"""What clients send besides image data: bodies, queries and paths, read within limits.

Nothing is trusted: text that no database takes (NUL, lone surrogates) is refused here once for all handlers.
"""

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import falcon

from casimg_api.context import Call
from casimg_api.errors import HttpError

QUERY_FIELD_COUNT_MAX: Final = 200
"""Each is a condition of a query; SQLite takes about 1000 in one."""
DEPTH_MAX: Final = 64
DRAIN_COUNT_MAX: Final = 4
"""Times the largest body that is read of one that is too large."""


def has_body(req: falcon.Request) -> bool:
    """Return whether a request comes with a body."""
    return is_chunked(req) or bool(req.content_length)


def is_chunked(req: falcon.Request) -> bool:
    return "chunked" in req.env.get("HTTP_TRANSFER_ENCODING", "").lower()


def json_body(call: Call) -> Any:
    """Return the object or list that a request brings. Raises: HttpError 400, 413."""
    size_max = call.config.server.json_body_size_max
    if not has_body(call.req):
        raise HttpError(400, "Body expected in request.")
    # A server ends the stream of a chunked body itself; that of any other is bounded by its length.
    stream = call.req.env["wsgi.input"] if is_chunked(call.req) else call.req.bounded_stream
    data = bytearray()
    while len(data) <= size_max and (part := stream.read(size_max + 1 - len(data))):
        data += part
    if len(data) > size_max:
        _drain(stream, DRAIN_COUNT_MAX * size_max)
        raise HttpError(413)
    return parse_json(bytes(data))


def _drain(stream: Any, size: int) -> None:
    """Read on for a while: a client that is still sending would not read why it was refused."""
    while size > 0 and (part := stream.read(min(size, 1 << 16))):
        size -= len(part)


def parse_json(data: bytes) -> Any:
    """Return the object or list of a JSON text. Raises: HttpError 400."""
    try:
        found = json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise HttpError(400, "Malformed JSON in request body.") from None
    if not isinstance(found, (dict, list)):
        raise HttpError(400, "Unexpected body type. Expected list/dict.")
    _check_texts(found, 0)
    return found


def json_object(call: Call) -> dict[str, Any]:
    """Return the object that a request brings. Raises: HttpError 400, 413."""
    found = json_body(call)
    if not isinstance(found, dict):
        raise HttpError(400, "Request body must be a JSON object.")
    return found


def query(req: falcon.Request) -> list[tuple[str, str]]:
    """Return the fields of a query in their order. Raises: HttpError 400."""
    try:
        found = parse_qsl(
            req.query_string, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELD_COUNT_MAX
        )
    except ValueError:  # UnicodeDecodeError is one
        raise HttpError(400, "The query of the URL could not be decoded.") from None
    for name, value in found:
        check_text(name)
        check_text(value)
    return found


def check_path(environ: Mapping[str, Any]) -> None:
    """Raise 400 for a path that is no UTF-8: the framework would put another character in the place of what it is."""
    try:
        environ.get("PATH_INFO", "").encode("latin-1").decode()
    except UnicodeError:
        raise HttpError(400, "The path of the URL could not be decoded.") from None


def check_text(text: str) -> str:
    """Return a text that can be kept. Raises: HttpError 400 for one that no database takes."""
    if "\0" in text:
        raise HttpError(400, "NUL characters are not allowed.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise HttpError(400, "The request contains characters that could not be decoded.") from None
    return text


def _check_texts(value: object, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise HttpError(400, "Malformed JSON in request body.")
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key)
            _check_texts(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_texts(item, depth + 1)


def _no_constant(name: str) -> None:
    raise ValueError(name)
