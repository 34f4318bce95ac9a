"""Errors on the wire: one table from exceptions to statuses, and bodies in the type that the client asks for.

HTTP statuses of casimg's errors are nowhere else. Bodies have the shape that webob gives Glance's.
"""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import Final

from casimg import errors as casimg_errors
from casimg_api.accept import HTML, JSON, error_type

TITLES: Final[Mapping[int, str]] = {
    300: "Multiple Choices",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    410: "Gone",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    416: "Request Range Not Satisfiable",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}

EXPLANATIONS: Final[Mapping[int, str]] = {
    400: "The server could not comply with the request since it is either malformed or otherwise incorrect.",
    401: "This server could not verify that you are authorized to access the document you requested.",
    403: "Access was denied to this resource.",
    404: "The resource could not be found.",
    405: "The method is not allowed for this resource.",
    409: "There was a conflict when trying to complete your request.",
    410: "This resource is no longer available. No forwarding address is given.",
    413: "The body of your request was too large for this server.",
    415: "The request media type is not supported by this server.",
    416: "The Range requested is not available.",
    431: "A header of the request is too long.",
    500: "The server has either erred or is incapable of performing the requested operation.",
    501: "The request method is not implemented for this server.",
    503: "The server is currently unavailable. Please try again at a later time.",
}

STATUSES: Final[tuple[tuple[type[casimg_errors.CasimgError], int], ...]] = (
    (casimg_errors.MarkerNotFoundError, 400),
    (casimg_errors.ImageDeletedError, 410),
    (casimg_errors.NotFoundError, 404),
    (casimg_errors.ProtectedImageError, 403),
    (casimg_errors.ProtectedMetadefError, 403),
    (casimg_errors.NotQueuedError, 409),
    (casimg_errors.BadStatusError, 403),
    (casimg_errors.SizeMismatchError, 400),
    (casimg_errors.ConflictError, 409),
    (casimg_errors.InputError, 400),
    (casimg_errors.NoSpaceError, 413),
    (casimg_errors.TryAgainError, 503),
)
"""The first family that an error belongs to counts; one of none is a fault of the server: 500, told in the log."""


class HttpError(Exception):
    """A status other than success, and why.

    Args:
        explanation: what happened, for people; None takes the usual words of the status.
        detail: what to do next.
        headers: to add to the answer.
    """

    def __init__(
        self,
        status: int,
        explanation: str | None = None,
        *,
        detail: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.explanation = EXPLANATIONS.get(status, "") if explanation is None else explanation
        self.detail = detail
        self.headers = dict(headers or {})
        super().__init__(f"{status} {self.explanation}")


def http_error_of(error: casimg_errors.CasimgError) -> HttpError | None:
    """Return what an error of the library is on the wire; None when it is a fault of the server."""
    if type(error) is casimg_errors.ImageNotFoundError:
        return HttpError(404, f"No image found with ID {error.ref}")
    for family, status in STATUSES:
        if isinstance(error, family):
            # what backends and disks say stays in the log
            return HttpError(status, None if status in {413, 503} else str(error))
    return None


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error ready to be sent."""

    status_line: str
    content_type: str
    data: bytes


_PAGE = Template(
    "<html>\n <head>\n  <title>$status</title>\n </head>\n <body>\n  <h1>$status</h1>\n  $body\n </body>\n</html>"
)
_BREAK = re.compile(r"<br.*?>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<.*?>", re.DOTALL)


def error_body(error: HttpError, accept: str, method: str) -> ErrorBody:
    """Return the body of an error.

    Args:
        accept: the Accept header of the request; empty when there is none.
        method: of the request.
    """
    title = TITLES[error.status]
    status_line = f"{error.status} {title}"
    chosen = error_type(accept)
    if chosen == HTML:
        page = _PAGE.substitute(status=status_line, body=_message(error, method, escape=True))
        return ErrorBody(status_line, "text/html; charset=UTF-8", page.encode("ascii", "xmlcharrefreplace"))
    message = _message(error, method, escape=False)
    if chosen == JSON:
        document = {"message": message, "code": status_line, "title": title}
        return ErrorBody(status_line, JSON, json.dumps(document).encode())
    words = _TAG.sub("", _BREAK.sub("\n", message.replace("\n", " ").replace("\r", "")))
    return ErrorBody(status_line, "text/plain; charset=UTF-8", f"{status_line}\n\n{words}".encode("utf-8", "replace"))


def _message(error: HttpError, method: str, *, escape: bool) -> str:
    def shown(text: str) -> str:
        return html.escape(text) if escape else text

    if error.status == 405 and not error.explanation:
        return f"The method {shown(method)} is not allowed for this resource. <br /><br />\n{shown(error.detail)}"
    return f"{shown(error.explanation)}<br /><br />\n{shown(error.detail)}\n\n"
