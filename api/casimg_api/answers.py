"""What goes back: documents and nothing from handlers, refusals from what stands before them."""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from casimg_api.context import Call
from casimg_api.errors import HttpError, error_body

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

JSON: Final = "application/json"
HTML: Final = "text/html; charset=UTF-8"
BODILESS: Final = frozenset({204, 304})
"""Statuses of answers that have no type, because they cannot have a body."""


def send_json(call: Call, document: Any, status: int = 200) -> None:
    """Answer with a JSON document."""
    call.resp.status = status
    call.resp.content_type = JSON
    call.resp.data = json.dumps(document, ensure_ascii=False).encode()


def send_nothing(call: Call, status: int = 204) -> None:
    """Answer that it is done."""
    call.resp.status = status
    call.resp.data = None
    if status not in BODILESS:
        # As Glance: clients of it take an empty body of JSON for a broken one.
        call.resp.content_type = HTML


def refuse(environ: "WSGIEnvironment", start_response: "StartResponse", error: HttpError) -> Iterable[bytes]:
    """Answer a request with an error, outside of handlers."""
    body = error_body(error, environ.get("HTTP_ACCEPT", ""), environ["REQUEST_METHOD"])
    headers = {**error.headers, "Content-Type": body.content_type, "Content-Length": str(len(body.data))}
    start_response(body.status_line, list(headers.items()))
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body.data]
