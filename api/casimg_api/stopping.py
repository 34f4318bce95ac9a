"""What must be told when a process of the server stops: work in the background, which no request waits for.

`casimg serve` calls `hurry_all` when a worker is told to stop, while it still answers what has begun, and `stop_all`
when it ends; under other servers the interpreter calls the latter, at its exit.
"""

import atexit
import threading
from collections.abc import Callable

_lock = threading.RLock()  # a signal may come to the thread that has it
_stops: list[Callable[[], None]] = []
_hurries: list[Callable[[], None]] = []


def at_stop(stop: Callable[[], None], hurry: Callable[[], None] | None = None) -> None:
    """Have something called once when the process stops; it must return soon, and not raise.

    Args:
        hurry: called before, as soon as it is known that the process will stop; must return at once.
    """
    with _lock:
        if not _stops:
            atexit.register(stop_all)
        _stops.append(stop)
        if hurry is not None:
            _hurries.append(hurry)


def hurry_all() -> None:
    """Say that the process will stop; again is harmless. May be called by a signal's handler."""
    with _lock:
        hurries = list(_hurries)
        _hurries.clear()
    for hurry in hurries:
        hurry()


def stop_all() -> None:
    """Stop everything; again is harmless."""
    with _lock:
        stops = list(_stops)
        _stops.clear()
    for stop in stops:
        stop()
