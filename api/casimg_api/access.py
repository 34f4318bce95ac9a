"""One line in the log for every request, when its answer is sent: who, what, with which end, how much, how long."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from casimg_api.context import CALLER_KEY, REQUEST_ID_KEY

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_log = logging.getLogger("casimg_api.access")

PATH_COUNT_MAX: Final = 500


class AccessLog:
    """WSGI middleware; any thread may call it. Queries, headers and tokens are not logged."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        began = time.monotonic()
        method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
        status = ["-"]

        def start(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            status[0] = line.partition(" ")[0]
            return start_response(line, headers) if exc_info is None else start_response(line, headers, exc_info)

        def done(sent: int, end: str) -> None:
            caller = environ.get(CALLER_KEY)
            _log.info(
                "request.done request_id=%s method=%s path=%s status=%s project=%s user=%s sent=%d end=%s "
                "duration_ms=%d",
                environ.get(REQUEST_ID_KEY, "-"),
                quote(method),
                quote(path[:PATH_COUNT_MAX], encoding="latin-1"),
                status[0],
                quote(getattr(caller, "project_id", None) or "-"),
                quote(getattr(caller, "user_id", None) or "-"),
                sent,
                end,
                (time.monotonic() - began) * 1000,
            )

        return _Counted(self._app(environ, start), done)


class _Counted:
    """An answer on its way; says how many bytes of it went out, and whether that was all."""

    def __init__(self, parts: Iterable[bytes], done: Any) -> None:
        self._parts = parts
        self._done = done
        self._sent = 0
        self._end = "cut"

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            yield part
            self._sent += len(part)
        self._end = "whole"

    def close(self) -> None:
        """End the answer: called by the server in any case."""
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            self._done(self._sent, self._end)
