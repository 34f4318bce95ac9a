"""What other WSGI servers than that of `casimg serve` need, so that the application sees the same from all of them.

In goes the environ as gunicorn, uWSGI and mod_wsgi make it; out goes one whose body ends itself.
"""

import importlib
import ipaddress
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from casimg_api.answers import refuse
from casimg_api.errors import HttpError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication

_UWSGI_KEY: Final = "uwsgi.version"
_STOP_SIGNAL: Final = signal.SIGHUP
"""By which the master of uWSGI tells a process to end in order."""
_GUNICORN_KEY: Final = "gunicorn.socket"


class AnyServer:
    """The application behind any server; any thread may call it.

    Args:
        large_reads: what stands before the application under gunicorn, whose bodies it reads itself.
        is_open: whether whoever reaches the server may do everything: then it answers this machine alone.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        *,
        is_open: bool,
        large_reads: "Callable[[WSGIApplication], WSGIApplication] | None" = None,
    ) -> None:
        self._app = app
        self._is_open = is_open
        self._for_gunicorn = None if large_reads is None else large_reads(app)

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        if self._is_open and not is_loopback(environ.get("REMOTE_ADDR", "")):
            text = "There is no authentication, so only this machine may call; auth.mode changes that."
            return refuse(environ, start_response, HttpError(403, text))
        if _UWSGI_KEY in environ and "HTTP_TRANSFER_ENCODING" in environ:
            environ["wsgi.input"] = UwsgiChunks(importlib.import_module("uwsgi").chunked_read)
            environ["wsgi.input_terminated"] = True
        if _UWSGI_KEY in environ:
            return Undisturbed(self._app(environ, start_response))
        if self._for_gunicorn is not None and _GUNICORN_KEY in environ:
            return self._for_gunicorn(environ, start_response)
        return self._app(environ, start_response)


class Undisturbed:
    """An answer that goes out whole also when its process is told to stop. Threads: one.

    uWSGI tells a process by a signal to the thread that has its first core, and takes a wait for a client that the
    signal interrupts for the client's end. Here the signal waits until the answer is out.
    """

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts
        self._mask: set[int] | None = None

    def __iter__(self) -> Iterator[bytes]:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {_STOP_SIGNAL})
        yield from self._parts

    def close(self) -> None:
        """End the answer: called by the server in any case."""
        try:
            if hasattr(self._parts, "close"):
                self._parts.close()
        finally:
            if self._mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
                self._mask = None


class UwsgiChunks:
    """`wsgi.input` of a chunked body under uWSGI, which hands out chunks by a function of its own. Threads: one.

    Args:
        next_chunk: `uwsgi.chunked_read`: bytes of the next chunk, none after the last one; OSError for one that is
            cut, malformed, or larger than `chunked-input-limit`.
    """

    def __init__(self, next_chunk: Callable[[], bytes]) -> None:
        self._next_chunk = next_chunk
        self._left = memoryview(b"")
        self._has_ended = False

    def readinto(self, view: memoryview) -> int:
        """Put bytes into `view` and return how many; 0 at the end. Raises: OSError when the body breaks."""
        if not len(view) or not self._fill():
            return 0
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def read(self, size: int = -1) -> bytes:
        """Return `size` bytes, fewer only at the end; all that are left when it is negative."""
        parts = []
        while size and self._fill():
            part = self._left if size < 0 else self._left[:size]
            parts.append(part)
            self._left = self._left[len(part) :]
            size = max(-1, size - len(part)) if size > 0 else size
        return b"".join(parts)

    def _fill(self) -> bool:
        """Tell whether there are bytes to hand out."""
        if not len(self._left) and not self._has_ended:
            self._left = memoryview(self._next_chunk())
            self._has_ended = not len(self._left)
        return bool(len(self._left))


def is_loopback(host: str) -> bool:
    """Tell whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
