"""What surrounds the protocol code in the simulation: one clock, one source of chance, one thread, small sizes.

`simulated()` patches the library while schedules run; `ENVIRONMENT` is what the patched functions ask.
"""

import importlib
import pkgutil
import random
import secrets
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, tzinfo
from types import ModuleType, SimpleNamespace
from unittest import mock

import casimg
from casimg.catalog import processes

BLOCK_SIZE = 4096
SEGMENT_BLOCKS = 4
FRAME_BLOCKS = 2
PACK_BLOCKS = 3

_SIZES = {
    "SEGMENT_SIZE": SEGMENT_BLOCKS * BLOCK_SIZE,
    "FRAME_PLAIN_TARGET": FRAME_BLOCKS * BLOCK_SIZE,
    "PACK_SIZE_TARGET": PACK_BLOCKS * BLOCK_SIZE,
}
"""Small enough that an image of ten blocks has several segments, frames and packs."""

CLOCK_START_US = 1_800_000_000_000_000


class Environment:
    """Clock, chance and whose turn it is."""

    def __init__(self) -> None:
        self.clock_us = CLOCK_START_US
        self.rng = random.Random(0)
        self.process_number: Callable[[], int] = lambda: -1
        self.host: Callable[[], int] = lambda: 0
        self.is_dead: Callable[[int], bool] = lambda _: False

    def reset(self, rng: random.Random) -> None:
        self.clock_us = CLOCK_START_US
        self.rng = rng


ENVIRONMENT = Environment()


def _monotonic() -> float:
    return ENVIRONMENT.clock_us / 1_000_000


def _sleep(seconds: float) -> None:
    ENVIRONMENT.clock_us += int(seconds * 1_000_000)


class _Time(SimpleNamespace):
    monotonic = staticmethod(_monotonic)
    time = staticmethod(_monotonic)
    sleep = staticmethod(_sleep)
    monotonic_ns = staticmethod(lambda: ENVIRONMENT.clock_us * 1000)


class _Secrets(SimpleNamespace):
    token_bytes = staticmethod(lambda size=32: ENVIRONMENT.rng.randbytes(size))
    token_hex = staticmethod(lambda size=32: ENVIRONMENT.rng.randbytes(size).hex())


class _Uuid(SimpleNamespace):
    UUID = uuid.UUID
    uuid4 = staticmethod(lambda: uuid.UUID(bytes=ENVIRONMENT.rng.randbytes(16), version=4))


class _Datetime(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(ENVIRONMENT.clock_us / 1_000_000, tz or UTC)


class _Job:
    """A future without a thread: it runs when somebody asks for it, or earlier by chance."""

    def __init__(self, executor: "SteppedExecutor", work: Callable[[], object]) -> None:
        self._executor = executor
        self._work = work
        self._result: object = None
        self._error: Exception | None = None
        self.is_done = False

    def run(self) -> None:
        self.is_done = True
        try:
            self._result = self._work()
        except Exception as error:  # as a real future: whoever asks gets it
            self._error = error

    def result(self) -> object:
        self._executor.run_through(self)
        if self._error is not None:
            raise self._error
        return self._result

    def done(self) -> bool:
        if not self.is_done and ENVIRONMENT.rng.random() < 0.5:
            self._executor.run_through(self)
        return self.is_done

    def cancel(self) -> bool:
        return False


class SteppedExecutor:
    """Stands in for a ThreadPoolExecutor: jobs run in the caller's turn, in the order they were given.

    The shipper's may wait, so that an ingest decides on more chunks while packs are on their way.
    """

    def __init__(self, max_workers: int | None = None, thread_name_prefix: str = "") -> None:
        self._may_wait = thread_name_prefix == "casimg-ship"
        self._jobs: deque[_Job] = deque()

    def submit(self, work: Callable[..., object], *args: object) -> _Job:
        job = _Job(self, lambda: work(*args))
        self._jobs.append(job)
        if not self._may_wait or ENVIRONMENT.rng.random() < 0.5:
            self.run_through(job)
        return job

    def run_through(self, last: _Job) -> None:
        """Run everything up to `last`."""
        while not last.is_done:
            self._jobs.popleft().run()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while self._jobs and not cancel_futures:
            self._jobs.popleft().run()
        self._jobs.clear()

    def __enter__(self) -> "SteppedExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


_FIRST_PID = 1000


def _own_pid() -> tuple[int, int]:
    return _FIRST_PID + ENVIRONMENT.process_number(), 1


def _node_name() -> str:
    return f"host-{ENVIRONMENT.host()}"


def _is_gone(pid: int, start: int) -> bool:
    return ENVIRONMENT.is_dead(pid - _FIRST_PID)


_REPLACED: tuple[tuple[object, object], ...] = (
    (time, _Time()),
    (secrets, _Secrets()),
    (uuid, _Uuid()),
    (datetime, _Datetime),
    (ThreadPoolExecutor, SteppedExecutor),
    (processes.own_pid, _own_pid),
    (processes.node_name, _node_name),
    (processes.is_gone, _is_gone),
)


def library_modules() -> list[ModuleType]:
    """Return every module of the library, imported."""
    for found in pkgutil.walk_packages(casimg.__path__, "casimg."):
        if not found.name.startswith(("casimg.cli", "casimg.__main__", "casimg.catalog.migrations")):
            importlib.import_module(found.name)
    return [module for name, module in sorted(sys.modules.items()) if name.startswith("casimg.")]


@contextmanager
def simulated() -> Iterator[None]:
    """Patch the library: clock, chance, threads, processes and sizes are the simulation's."""
    with ExitStack() as stack:
        for module in library_modules():
            for name, value in list(vars(module).items()):
                for original, stand_in in _REPLACED:
                    if value is original:
                        stack.enter_context(mock.patch.object(module, name, stand_in))
                if name in _SIZES:
                    stack.enter_context(mock.patch.object(module, name, _SIZES[name]))
        yield
