"""Servers as children: started, waited for, and ended with the block that wanted them, or with this process."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_S_MAX = 60.0
STOP_S_MAX = 30.0


@contextmanager
def running(
    command: Sequence[object],
    ready: Callable[[], bool],
    log: Path,
    *,
    stop: signal.Signals = signal.SIGTERM,
    folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    start_s_max: float = START_S_MAX,
) -> Iterator[None]:
    """Run a server until the end of the block.

    Args:
        ready: says whether it answers.
        log: file for what it prints; its end is told when the server does not start.
        stop: signal that ends it in order.
    Raises: SystemExit when it does not start.
    """
    name = Path(str(command[0])).name
    with log.open("ab") as file:
        process = subprocess.Popen([str(word) for word in command], stdout=file, stderr=file, cwd=folder, env=environ)
        try:
            begin_s = time.monotonic()
            while not ready():
                if process.poll() is not None or time.monotonic() - begin_s > start_s_max:
                    raise SystemExit(f"{name} did not start:\n{tail(log)}")
                time.sleep(0.1)
            yield
        finally:
            process.send_signal(stop)
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ending_with_us(command: Sequence[object]) -> list[object]:
    """Return a command whose process gets SIGTERM when this one ends in a way that leaves no time to stop it."""
    return ["setpriv", "--pdeathsig", "TERM", *command] if shutil.which("setpriv") else list(command)


def free_port() -> int:
    """Return a port of loopback that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def run_checked(command: Sequence[object], folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed. Raises: SystemExit with its output when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environ, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def tail(path: Path, line_count: int = 40) -> str:
    """Return the last lines of a file."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-line_count:])
