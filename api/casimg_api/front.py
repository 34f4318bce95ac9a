"""What every request passes first: its id, the way by version, and what needs no token.

In goes any path; out goes `/v2/...`, or `/casimg/...`, to the application behind the authentication.
"""

import json
import logging
import re
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from casimg_api.answers import JSON, refuse
from casimg_api.config import Config
from casimg_api.context import REQUEST_ID_KEY
from casimg_api.discovery import is_disabled, prefixes, versions_document
from casimg_api.errors import TITLES, HttpError
from casimg_api.routes import EXTENSION

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("casimg_api.front")

REQUEST_ID_HEADER: Final = "x-openstack-request-id"
MEDIA_TYPE_PREFIX: Final = "application/vnd.openstack.images-"

_SPELLINGS: Final = {
    "content-md5": "Content-MD5",
    "etag": "ETag",
    "openstack-image-import-methods": "OpenStack-image-import-methods",
    "openstack-image-store-ids": "OpenStack-image-store-ids",
    "www-authenticate": "WWW-Authenticate",
}
_ID: Final = re.compile(r"[A-Za-z0-9._:-]+")


class Front:
    """The outermost application; any thread may call it."""

    def __init__(self, app: "WSGIApplication", config: Config) -> None:
        self._app = app
        self._config = config
        self._prefixes = prefixes(config)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        sent = environ.get("HTTP_X_OPENSTACK_REQUEST_ID", "")
        too_long = 0 < self._config.auth.max_request_id_length < len(sent)
        request_id = environ[REQUEST_ID_KEY] = _request_id("" if too_long else sent)
        started = False

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal started
            started = True
            kept = [(_spelling(name), value) for name, value in headers if name.lower() != REQUEST_ID_HEADER]
            kept.append((REQUEST_ID_HEADER, request_id))
            return start_response(status, kept) if exc_info is None else start_response(status, kept, exc_info)

        if too_long:
            limit = self._config.auth.max_request_id_length
            return refuse(environ, start, HttpError(431, f"{REQUEST_ID_HEADER} is too long, max size {limit}"))
        framing = environ.get("HTTP_TRANSFER_ENCODING")
        if framing is not None and environ.get("CONTENT_LENGTH"):
            # Two ends of one body: whoever stands before the server may take the other one.
            return refuse(environ, start, HttpError(400, "A body has a length or comes in chunks, not both."))
        if framing is not None and framing.strip().lower() != "chunked":
            return refuse(environ, start, HttpError(501, "A body may come in chunks, and be encoded in no other way."))
        try:
            return self._dispatch(environ, start)
        except Exception:
            if started:
                raise
            _log.exception("request.failed request_id=%s", request_id)
            return refuse(environ, start, HttpError(500))

    def _dispatch(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "").lstrip("/")
        first, slash, rest = path.partition("/")
        if first == "healthcheck" and not rest:
            return self._health(environ, start)
        if first == "versions":
            return self._versions(environ, start, 200)
        if first == EXTENSION.split("/")[1]:
            environ["PATH_INFO"] = f"/{path}"
            return self._app(environ, start)
        accept = environ.get("HTTP_ACCEPT", "")
        if accept.startswith(MEDIA_TYPE_PREFIX):
            first, slash, rest = accept.removeprefix(MEDIA_TYPE_PREFIX), "/", path
        if first not in self._prefixes:
            return self._versions(environ, start, 300)
        environ["PATH_INFO"] = f"/v2{slash}{rest}"
        return self._app(environ, start)

    def _versions(self, environ: "WSGIEnvironment", start: "StartResponse", status: int) -> Iterable[bytes]:
        data = json.dumps(versions_document(environ, self._config)).encode()
        line = "200 OK" if status == 200 else f"{status} {TITLES[status]}"
        return _send(environ, start, line, JSON, data)

    def _health(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refuse(environ, start, HttpError(405, "", headers={"Allow": "GET, HEAD"}))
        disabled = is_disabled(self._config)
        reason = "DISABLED BY FILE" if disabled else "OK"
        line = f"503 {TITLES[503]}" if disabled else "200 OK"
        if environ.get("HTTP_ACCEPT", "").startswith(JSON):
            data = json.dumps({"detailed": False, "reasons": [reason]}).encode()
            return _send(environ, start, line, JSON, data)
        return _send(environ, start, line, "text/plain; charset=UTF-8", reason.encode())


def _send(
    environ: "WSGIEnvironment", start: "StartResponse", line: str, content_type: str, data: bytes
) -> Iterable[bytes]:
    start(line, [("Content-Type", content_type), ("Content-Length", str(len(data)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [data]


def _spelling(name: str) -> str:
    """Return a header's name as Glance spells it; the framework sends lower case, and some programs compare."""
    return _SPELLINGS.get(name) or (name.title() if name.islower() else name)


def _request_id(sent: str) -> str:
    """Return the id of a request: the client's if it sends one, which begins with `req-` in any case."""
    if not _ID.fullmatch(sent):
        return f"req-{uuid.uuid4()}"
    return sent if sent.startswith("req-") else f"req-{sent}"
