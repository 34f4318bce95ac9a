"""The WSGI server behind `casimg serve`; nothing but `server_body.py` and `direct_send.py` knows which one it is.

docs/decisions/0005-wsgi-server.md says why it is this one.
"""

import signal
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gunicorn.app.base import BaseApplication

from casimg_api.direct_send import DirectSends
from casimg_api.server_body import LargeReads
from casimg_api.stopping import hurry_all, stop_all

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


STOP_TIME_MAX_S: Final = 60
"""So long a stop waits for what has begun; what was cut then is queued again by the next collection."""
KEEPALIVE_S: Final = 65
"""Longer than the pools of clients keep connections; an idle one takes no thread."""


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, make: "Callable[[], WSGIApplication]", options: dict[str, Any]) -> None:
        self._make = make
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            if name in self.cfg.settings:  # not every version knows all of them
                self.cfg.set(name, value)

    def load(self) -> "WSGIApplication":
        return DirectSends(LargeReads(self._make()))


def serve(
    make: "Callable[[], WSGIApplication]", host: str, port: int, workers: int, threads: int, idle_timeout_s: int
) -> None:
    """Serve until a signal ends it; never returns.

    Args:
        make: called once in every worker process: a repository is not carried over a fork.
        idle_timeout_s: so long a client may neither send nor take a byte while it has a thread; 0 for ever.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = {
        "bind": where,
        "workers": workers,
        "threads": threads,
        "worker_class": "gthread",
        "limit_request_line": 8190,
        "timeout": 0,  # an upload may take hours
        "graceful_timeout": STOP_TIME_MAX_S,
        "keepalive": KEEPALIVE_S,
        "control_socket_disable": True,
        "when_ready": limit_idleness(idle_timeout_s),
        "post_worker_init": hurry_at_signals,
        "worker_exit": stop_work,
    }
    _Server(make, options).run()


def hurry_at_signals(_worker: Any) -> None:
    """Tell work in the background at once; the worker's own handlers let requests end first. A hook of gunicorn."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        before = signal.getsignal(number)

        def hurry(number: int, frame: Any, before: Any = before) -> None:
            hurry_all()
            if callable(before):
                before(number, frame)

        signal.signal(number, hurry)


def stop_work(_arbiter: Any, _worker: Any) -> None:
    """Give back what work in the background has not finished; a hook of gunicorn."""
    stop_all()


def limit_idleness(idle_timeout_s: int) -> Callable[[Any], None]:
    """Return a hook that lets the kernel end calls that wait for a client too long.

    Connections have the options of their listener. A timeout of the server's own would count the whole of an upload,
    however well it goes on.
    """
    limit = struct.pack("ll", idle_timeout_s, 0)

    def when_ready(arbiter: Any) -> None:
        for listener in arbiter.LISTENERS:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                listener.setsockopt(socket.SOL_SOCKET, option, limit)

    return when_ready
