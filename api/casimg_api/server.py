"""The WSGI server behind `casimg serve`; nothing else knows which one it is."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


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
        return self._make()


def serve(make: "Callable[[], WSGIApplication]", host: str, port: int, workers: int, threads: int) -> None:
    """Serve until a signal ends it; never returns.

    Args:
        make: called once in every worker process: a repository is not carried over a fork.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = {
        "bind": where,
        "workers": workers,
        "threads": threads,
        "worker_class": "gthread",
        "limit_request_line": 8190,
        "timeout": 0,  # an upload may take hours
        "control_socket_disable": True,
    }
    _Server(make, options).run()
