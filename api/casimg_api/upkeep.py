"""Collections that the server does by itself: each process looks now and then, and who gets the turn has one done.

It is done by a process of its own, of low priority: in a thread it would take the interpreter from requests (measured
in docs/decisions/0009-collections-of-servers.md). It ends when its server does, whatever way that ends.
"""

import logging
import random
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from casimg.errors import CasimgError
from casimg.upkeep import GcRules
from casimg_api.config import room

if TYPE_CHECKING:
    from casimg.repository import Repository
    from casimg.upkeep import Turn
    from casimg_api.config import Config, UpkeepConfig

_log = logging.getLogger("casimg_api.upkeep")
_STOP_TIME_MAX_S: Final = 5.0
"""So long a collection may take to end by itself; killed, it leaves a little more to the next one."""


def rules_of(config: "UpkeepConfig") -> GcRules | None:
    """Return when a collection is due, None for never."""
    size, share = room(config.gc_when_free_below)
    if not (config.gc_every_h or size or share):
        return None
    every_s = config.gc_every_h * 3600.0 if config.gc_every_h else None
    return GcRules(every_s, size or None, share or None, config.gc_pause_s)


class Collector:
    """Looks and collects, in a thread of each process that serves. Threads: `begin` and `stop` one, once."""

    def __init__(self, repository: "Repository", config: "Config") -> None:
        self._upkeep = repository.upkeep()
        self._path = repository.path
        self._log_level = config.log.level
        self._look_every_s = config.upkeep.look_every_s
        self._rules = rules_of(config.upkeep) or GcRules()
        self._stopping = threading.Event()
        self._lock = threading.RLock()  # a signal may come to the thread that has it
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Start looking; in the process that serves, after all forks."""
        self._thread = threading.Thread(target=self._work, name="casimg-upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End a collection that is being done, and stop looking. Never raises."""
        self.hurry()
        if self._thread is not None:
            self._thread.join(_STOP_TIME_MAX_S)
            with self._lock:
                if self._child is not None:
                    self._child.kill()
            self._thread.join(_STOP_TIME_MAX_S)

    def hurry(self) -> None:
        """Begin to stop, and return at once."""
        self._stopping.set()
        with self._lock:
            if self._child is not None and self._child.stdin is not None:
                with suppress(OSError):
                    self._child.stdin.close()

    def _work(self) -> None:
        # Processes that were started together need not ask together.
        while not self._stopping.wait(self._look_every_s * random.uniform(0.8, 1.2)):
            try:
                turn = self._upkeep.take_turn(self._rules)
                if turn is not None:
                    self._collect(turn)
            except CasimgError as error:
                _log.warning("upkeep.look_failed why=%s", error)
            except Exception:
                _log.exception("upkeep.look_failed")

    def _collect(self, turn: "Turn") -> None:
        """Have a collection done, and see that its turn ends."""
        why = "it could not be started"
        try:
            why = self._run(turn)
        finally:
            # Nothing, when the turn ended as it should.
            if self._stopping.is_set():
                self._upkeep.end_turn(turn)
            else:
                self._upkeep.fail_turn(turn, why)

    def _run(self, turn: "Turn") -> str:
        command = [interpreter(), "-m", "casimg_api.collecting", str(self._path), turn.turn_id, turn.reason]
        with self._lock:
            if self._stopping.is_set():
                return "the server stops"
            self._child = subprocess.Popen([*command, self._log_level], stdin=subprocess.PIPE)
        # The pipe stays open: its end tells the child that this process has ended.
        code = self._child.wait()
        with self._lock:
            if self._child.stdin is not None:
                self._child.stdin.close()
            self._child = None
        return f"its process ended with {code}"


def interpreter() -> str:
    """Return the Python that runs this; under servers that embed it, the executable is the server."""
    if Path(sys.executable).name.startswith("python"):
        return sys.executable
    return str(Path(sys.prefix) / "bin" / f"python{sys.version_info.major}")
