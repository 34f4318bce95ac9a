"""The servers that are compared: how each is started, and a running one."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

APPLICATION: Final = "benchmarks.servers.application:application"
_BIN: Final = Path(sys.executable).parent
_START_TIME_MAX_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """One server.

    Attributes:
        package: that has it.
        command: makes the command for a port, processes, and threads of each.
    """

    name: str
    package: str
    command: Callable[[int, int, int], list[str]]

    @property
    def version(self) -> str | None:
        """Return the installed version; None when it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


def _gunicorn(port: int, processes: int, threads: int) -> list[str]:
    sizes = ["--workers", str(processes), "--threads", str(threads), "--worker-class", "gthread"]
    times = ["--timeout", "0", "--graceful-timeout", "60", "--no-control-socket"]
    return [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *sizes, *times, APPLICATION]


def _cheroot(port: int, processes: int, threads: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.servers.run_cheroot", str(port), str(processes), str(threads)]


def _granian(port: int, processes: int, threads: int) -> list[str]:
    sizes = ["--workers", str(processes), "--blocking-threads", str(threads), "--backpressure", str(2 * threads)]
    kind = ["--interface", "wsgi", "--http", "1", "--no-ws", "--host", "127.0.0.1", "--port", str(port)]
    return [str(_BIN / "granian"), *kind, *sizes, APPLICATION]


def _waitress(port: int, processes: int, threads: int) -> list[str]:  # noqa: ARG001 - it has one process
    limits = ["--max-request-body-size", str(1 << 40), "--channel-timeout", "600"]
    place = ["--listen", f"127.0.0.1:{port}", "--threads", str(threads)]
    return [str(_BIN / "waitress-serve"), *place, *limits, APPLICATION]


def _uwsgi(port: int, processes: int, threads: int) -> list[str]:
    sizes = ["--processes", str(processes), "--threads", str(threads), "--listen", "100"]
    ways = ["--master", "--lazy-apps", "--need-app", "--disable-logging"]
    stop = ["--hook-master-start", "unix_signal:15 gracefully_kill_them_all", "--worker-reload-mercy", "60"]
    place = ["--http11-socket", f"127.0.0.1:{port}", "--socket-timeout", "600", "--pythonpath", "."]
    return [str(_BIN / "uwsgi"), *place, *sizes, *ways, *stop, "--module", APPLICATION]


CANDIDATES: Final = (
    Candidate("gunicorn gthread", "gunicorn", _gunicorn),
    Candidate("cheroot", "cheroot", _cheroot),
    Candidate("granian", "granian", _granian),
    Candidate("waitress", "waitress", _waitress),
    Candidate("uWSGI", "pyuwsgi", _uwsgi),
)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    process: "subprocess.Popen[bytes]"
    port: int

    def stop(self, time_max_s: float = 30.0) -> float:
        """End it as an operator does and return how many seconds that took. Raises: TimeoutExpired after a kill."""
        begin_s = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(time_max_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise
        return time.monotonic() - begin_s


@contextmanager
def running(candidate: Candidate, config: Path, log: Path, processes: int, threads: int) -> Iterator[Running]:
    """Start a server and stop it at the end. Raises: RuntimeError when it does not answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("ab") as output:
        process = subprocess.Popen(
            candidate.command(port, processes, threads),
            stdout=output,
            stderr=output,
            env={**os.environ, "CASIMG_CONFIG": str(config)},
            start_new_session=True,  # so that what is left of it can be ended together
        )
    found = Running(process, port)
    try:
        _wait_for_answer(found, log)
        yield found
    finally:
        try:
            found.stop()
        except subprocess.TimeoutExpired:
            print(f"servers: {candidate.name} did not stop and was killed", file=sys.stderr)


def _wait_for_answer(server: Running, log: Path) -> None:
    give_up_s = time.monotonic() + _START_TIME_MAX_S
    while time.monotonic() < give_up_s and server.process.poll() is None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        try:
            connection.request("GET", "/healthcheck")
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    raise RuntimeError(f"no answer: {log.read_text()[-2000:]}")
