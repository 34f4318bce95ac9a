"""The process that collects for a server: `python -m casimg_api.collecting REPO TURN REASON LEVEL`.

It gives way to everything else on the machine, and ends when told to, or when its standard input does: whoever started
it is gone then. Ending it in any way loses nothing.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from typing import Final

import casimg
from casimg.errors import CancelledError, CasimgError
from casimg.upkeep import Turn

_NICE: Final = 10
_GRACE_S: Final = 2.0
"""After that long the process ends in the middle of what it does: its server must stop."""
GIVEN_UP: Final = 75


def main() -> int:
    """Collect in a turn that was taken; returns the exit code."""
    path, turn_id, reason, level = sys.argv[1:]
    os.nice(_NICE)
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format=form)
    logging.getLogger("casimg").setLevel(level.upper())
    cancel = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: cancel.set())
    threading.Thread(target=_wait_for_end, args=(cancel,), daemon=True).start()
    threading.Thread(target=_end_late, args=(cancel,), daemon=True).start()
    try:
        with casimg.open(path) as repo:
            repo.upkeep().collect(Turn(turn_id, reason), cancel)
    except CancelledError:
        return GIVEN_UP
    except CasimgError as error:
        logging.getLogger("casimg.upkeep").warning("upkeep.gc_broken_off why=%s", error)
        return 1
    return 0


def _wait_for_end(cancel: threading.Event) -> None:
    with contextlib.suppress(OSError):
        sys.stdin.buffer.read()
    cancel.set()


def _end_late(cancel: threading.Event) -> None:
    cancel.wait()
    time.sleep(_GRACE_S)
    os._exit(GIVEN_UP)


if __name__ == "__main__":
    sys.exit(main())
