"""Measure commands and calls: wall and CPU seconds, memory; describe the machine; write results down.

Every benchmark measures with these and writes `results/NAME.json`: {"name", "machine", "made_at", "commit", "command",
"settings", "rows"}; each row is flat, units last in its keys (`wall_s`, `cpu_s`, `stored_size` in bytes). The report is
made from those files alone.
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_SAMPLE_EVERY_S = 0.02
_COUNT_ERROR = 16 << 20  # the kernel counts memory by core and adds up now and then: two readings differ


class CommandFailedError(Exception):
    """A measured command ended with an error; the message holds its last output."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run took: seconds of wall and of CPU (user + system, with all children), bytes of memory at the peak.

    Attributes:
        rss_peak: the largest process of the tree, as the kernel counts it (shared and mapped pages included). Below our
            own size it is sampled: the kernel's count of a child begins with what its parent had before the exec.
        rss_anon_peak: anonymous memory of the whole tree, sampled every 20 ms.
    """

    wall_s: float
    cpu_s: float
    rss_peak: int
    rss_anon_peak: int


class TreeWatch(threading.Thread):
    """Samples the memory of a process and everything below it: anonymous of all, resident of the largest."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._over = threading.Event()
        self.peak = 0
        self.largest = 0

    def run(self) -> None:
        self.sample()
        while not self._over.wait(_SAMPLE_EVERY_S):
            self.sample()

    def sample(self) -> None:
        sizes = [_status_sizes(pid) for pid in _tree(self._pid)]
        self.peak = max(self.peak, sum(found.get("RssAnon", 0) for found in sizes))
        self.largest = max(self.largest, *(found.get("VmHWM", 0) for found in sizes))

    def stop(self) -> int:
        self._over.set()
        self.join()
        return self.peak


def rss_anon(pid: int | str = "self") -> int:
    """Return anonymous resident bytes of a process; 0 when it is gone."""
    return _status_sizes(pid).get("RssAnon", 0)


def memory_files_size(pid: int | str = "self") -> int:
    """Return the bytes of memory that files without a name hold for a process (memfd); 0 when it is gone."""
    found = {}
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if str(link.readlink()).startswith("/memfd:"):
                about = link.stat()
                found[about.st_ino] = about.st_blocks * 512
    except OSError:
        pass
    return sum(found.values())


def _status_sizes(pid: int | str) -> dict[str, int]:
    """Return the sizes in a process's status, bytes by the kernel's names; empty when it is gone."""
    lines = (line.split() for line in _lines(f"/proc/{pid}/status") if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in lines}


def _tree(pid: int) -> list[int]:
    found, todo = [], [pid]
    while todo:
        at = todo.pop()
        found.append(at)
        try:
            for task in Path(f"/proc/{at}/task").iterdir():
                todo.extend(int(child) for child in (task / "children").read_text().split())
        except OSError:
            continue
    return found


def run_command(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: Path | None = None,
    stdout: Path | None = None,
    accepted: Sequence[int] = (0,),
) -> Measured:
    """Run a command to its end and return what it took.

    Args:
        environment: variables added to ours.
        stdin, stdout: files; without one nothing comes in, and output is kept only to be shown when it fails.
        accepted: exit statuses that mean success.
    Raises: CommandFailedError.
    """
    log = Path(tempfile.gettempdir()) / f"measured-{os.getpid()}-{threading.get_ident()}.log"
    try:
        with (
            log.open("w+b") as kept,
            (stdin or Path(os.devnull)).open("rb") as source,
            stdout.open("wb") if stdout else log.open("ab") as target,
        ):
            own_peak = _status_sizes("self").get("VmHWM", 0)
            begin_s = time.monotonic()
            process = subprocess.Popen(
                [os.fspath(argument) for argument in arguments],
                stdin=source,
                stdout=target,
                stderr=kept,
                cwd=folder,
                env={**os.environ, **(environment or {})},
            )
            watch = TreeWatch(process.pid)
            watch.start()
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:  # an interrupt meant for us alone
                process.kill()
                process.wait()
                watch.stop()
                raise
            wall_s = time.monotonic() - begin_s
            anon_peak = watch.stop()
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in accepted:
            tail = log.read_bytes()[-2000:].decode(errors="replace")
            raise CommandFailedError(f"{arguments[0]} ended with {process.returncode}: {tail}")
    finally:
        log.unlink(missing_ok=True)
    rss_peak = usage.ru_maxrss * 1024
    if rss_peak <= own_peak + _COUNT_ERROR:
        rss_peak = watch.largest
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, rss_peak, anon_peak)


def run_call(call: Callable[[], T]) -> tuple[T, Measured]:
    """Call something in this process and return its result and what it took; `rss_peak` is the process's so far."""
    watch = TreeWatch(os.getpid())
    watch.start()
    before, begin_s = os.times(), time.monotonic()
    result = call()
    wall_s, after = time.monotonic() - begin_s, os.times()
    cpu_s = sum(after[:4]) - sum(before[:4])
    anon_peak = max(watch.stop(), rss_anon())
    return result, Measured(wall_s, cpu_s, _status_sizes("self").get("VmHWM", 0), anon_peak)


def median(runs: Sequence[Measured]) -> Measured:
    """Return the median of each figure; of memory the largest."""
    return Measured(
        statistics.median(run.wall_s for run in runs),
        statistics.median(run.cpu_s for run in runs),
        max(run.rss_peak for run in runs),
        max(run.rss_anon_peak for run in runs),
    )


def total(runs: Sequence[Measured]) -> Measured:
    """Return the figures of runs that are parts of one: seconds added, of memory the largest."""
    return Measured(
        sum(run.wall_s for run in runs),
        sum(run.cpu_s for run in runs),
        max((run.rss_peak for run in runs), default=0),
        max((run.rss_anon_peak for run in runs), default=0),
    )


def stored_size(folder: Path) -> int:
    """Return the bytes of disk below a folder: allocated blocks, each file with several names counted once."""
    seen: dict[tuple[int, int], int] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*files, *folders):
            found = os.lstat(Path(parent) / name)
            seen[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(seen.values())


def file_size(folder: Path) -> int:
    """Return the bytes of all files below a folder, as if the file system had no blocks; holes count."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def describe_machine(folder: Path) -> dict[str, Any]:
    """Describe this machine and the file system of a folder in plain words."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    place = shutil.which("findmnt")
    file_system = (
        subprocess.run(
            [place, "-n", "-o", "FSTYPE", "-T", folder], capture_output=True, text=True, check=False
        ).stdout.strip()
        if place
        else ""
    )
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_size": memory,
        "kernel": platform.release(),
        "system": release.get("PRETTY_NAME", platform.system()),
        "file_system": file_system,
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def save(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], **settings: object) -> Path:
    """Write the rows of a benchmark to `folder/NAME.json` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False
    ).stdout.strip()
    path = folder / f"{name}.json"
    text = json.dumps(
        {
            "name": name,
            "machine": describe_machine(folder),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "command": command_line(getattr(sys.modules["__main__"].__spec__, "name", "?"), sys.argv[1:]),
            "settings": settings,
            "rows": [dict(row) for row in rows],
        },
        indent=1,
    )
    path.write_text(text + "\n")
    return path


def command_line(module: str, arguments: Sequence[str]) -> str:
    """Return the command that runs a module; of absolute paths only the name, which is all that others can use."""
    shown = [f"*/{Path(argument).name}" if argument.startswith("/") else argument for argument in arguments]
    return " ".join(["python -m", module.removesuffix(".__main__"), *shown])


def as_row(measured: Measured) -> dict[str, float | int]:
    """Return the figures of a run as a part of a row, seconds to the millisecond."""
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(measured).items()}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
