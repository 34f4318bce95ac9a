"""What must be told when a process of the server stops: work in the background, which no request waits for.

`casimg serve` calls `stop_all` when a worker ends; under other servers the interpreter does, at its exit.
"""

import atexit
import threading
from collections.abc import Callable

_lock = threading.Lock()
_stops: list[Callable[[], None]] = []


def at_stop(stop: Callable[[], None]) -> None:
    """Have something called once when the process stops; it must return soon, and not raise."""
    with _lock:
        if not _stops:
            atexit.register(stop_all)
        _stops.append(stop)


def stop_all() -> None:
    """Stop everything; again is harmless."""
    with _lock:
        stops = list(_stops)
        _stops.clear()
    for stop in stops:
        stop()
