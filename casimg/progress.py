"""What long work tells its caller while it runs. Pure."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from casimg.errors import CancelledError


@dataclass(frozen=True, slots=True)
class Progress:
    """A report of work under way; all sizes are bytes.

    Attributes:
        stage: what runs now: "read", "restore", "verify", "index", "check", "repair", "gc", "mark", "repack", "gather",
            "recover", "estimate".
        done_size: plain bytes done, holes included.
        total_size: plain bytes in all, None when the source cannot tell.
        hole_size: of `done_size`, bytes in holes.
        new_size: of `done_size`, plain bytes that were not stored before.
        stored_size: bytes written for them.
    """

    stage: str
    done_size: int
    total_size: int | None
    hole_size: int = 0
    new_size: int = 0
    stored_size: int = 0


ProgressCallback = Callable[[Progress], None]
"""Called from the thread that called the library, several times a second at most; an exception stops the work."""


def check_cancel(cancel: threading.Event | None, what: str) -> None:
    """Raise CancelledError when the caller asked to stop."""
    if cancel is not None and cancel.is_set():
        raise CancelledError(what)
