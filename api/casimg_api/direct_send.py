"""Answers that go to the socket without a copy: views of memory, past a server that takes nothing but `bytes`.

gunicorn sends the head of an answer with its first part, and wants `bytes`. Behind this, an application may also hand
out views, which are sent from where they are before it is asked for the next part.
"""

import socket
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from casimg_api.context import VIEWS_KEY

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

SOCKET_KEY: Final = "gunicorn.socket"


class DirectSends:
    """Let an application hand out views where the answer goes to a plain socket; any thread may call it."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        connection = environ.get(SOCKET_KEY)
        # Answers to HEAD have no body, and what is encrypted or framed is the server's to write.
        if type(connection) is not socket.socket or environ["REQUEST_METHOD"] != "GET":
            return self._app(environ, start_response)
        environ[VIEWS_KEY] = True
        return _Sending(self._app(environ, start_response), connection)


class _Sending:
    """Parts of an answer: `bytes` for the server, views for the socket."""

    def __init__(self, parts: "Iterable[bytes | memoryview]", connection: socket.socket) -> None:
        self._parts = parts
        self._connection = connection

    def __iter__(self) -> Iterator[bytes]:
        is_head_sent = False
        for part in self._parts:
            if isinstance(part, bytes):
                is_head_sent = True
                yield part
                continue
            if not is_head_sent:
                is_head_sent = True
                yield b""
            self._connection.sendall(part)

    def close(self) -> None:
        """End the answer: called by the server in any case."""
        if hasattr(self._parts, "close"):
            self._parts.close()
