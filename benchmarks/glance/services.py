"""The two services: how each is set up in an empty folder, started, filled with images, and ended."""

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
from pathlib import Path
from typing import Final

import casimg
from benchmarks.glance.install import GlanceTool
from benchmarks.measure import stored_size

CASIMG: Final = "casimg"
GLANCE: Final = "Glance"
_START_TIME_MAX_S: Final = 90.0
_LOG: Final = "server.log"
_RESTART_PATIENCE_S: Final = 10.0
"""Now and then uWSGI waits a minute for a worker; nothing is under way when a service is restarted."""
_PASTE: Final = "cors http_proxy_to_wsgi versionnegotiation osprofiler context rootapp"
"""Glance's pipeline for Keystone without `authtoken`, which needs one."""
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Service:
    """One of the two.

    Attributes:
        set_up: makes what it needs in an empty folder; returns the command for a port, and variables for it.
        fill: enters so many images without data.
        data: what below the folder is its data.
    """

    name: str
    version: str
    set_up: Callable[[Path, int], tuple[list[str], dict[str, str]]]
    fill: Callable[[Path, int], None]
    data: tuple[str, ...]


@dataclass(slots=True)
class Running:
    """A service that answers."""

    service: Service
    process: "subprocess.Popen[bytes]"
    port: int
    folder: Path
    command: list[str]
    environment: dict[str, str]

    @property
    def name(self) -> str:
        return self.service.name

    def restart(self) -> None:
        """End it and start it again: what its processes had in memory is gone. Raises: RuntimeError."""
        self.stop(_RESTART_PATIENCE_S)
        self.process = _start(self.command, self.environment, self.folder)
        _wait_for_answer(self, self.folder / _LOG)

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its processes so far, with those of children that ended."""
        return sum(_cpu_s(pid) for pid in tree(self.process.pid))

    def stored_size(self) -> int:
        """Return the bytes of disk that its data take."""
        return sum(stored_size(self.folder / name) for name in self.service.data)

    def stop(self, patience_s: float = 60.0) -> None:
        """End it as an operator does; what does not end in time is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def glance(tool: GlanceTool, processes: int, threads: int) -> Service:
    """Return Glance under uWSGI with so many processes, and threads of each."""

    def set_up(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
        for name in ("store", "staging", "tasks"):
            (folder / name).mkdir()
        shipped = (tool.folder / "etc/glance/glance-api-paste.ini").read_text()
        lines = [f"default = {_PASTE}" if line.startswith("default = ") else line for line in shipped.splitlines()]
        (folder / "paste.ini").write_text("\n".join(lines) + "\n")
        (folder / "glance-api.conf").write_text(_GLANCE_CONF.format(folder=folder, port=port))
        config = ["--config-file", str(folder / "glance-api.conf")]
        subprocess.run([tool.program("glance-manage"), *config, "db_sync"], check=True, capture_output=True)
        more = f"threads = {threads}\n" if threads > 1 else ""
        (folder / "uwsgi.ini").write_text(_UWSGI_INI.format(port=port, processes=processes) + more)
        return [tool.program("uwsgi"), "--ini", str(folder / "uwsgi.ini")], {"OS_GLANCE_CONFIG_DIR": str(folder)}

    def fill(folder: Path, count: int) -> None:
        script = Path(__file__).with_name("fill_glance.py")
        command = [tool.program("python"), str(script), str(folder / "glance.sqlite"), str(count)]
        subprocess.run(command, check=True, capture_output=True)

    return Service(GLANCE, tool.version, set_up, fill, ("store", "glance.sqlite"))


def our(workers: int, threads: int, *, caches_on_disk: bool = False) -> Service:
    """Return `casimg serve` with so many processes, and threads of each.

    Args:
        caches_on_disk: keep images whole in a cache on the disk, and nothing in memory.
    """

    def set_up(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
        casimg.create(folder / "repository").close()
        options = ["--workers", str(workers), "--threads", str(threads)]
        if caches_on_disk:
            (folder / "cache").mkdir()
            config = folder / "casimg-api.toml"
            config.write_text('[cache]\nmemory_size_max = 0\nimage_cache_dir = "cache"\n')
            options += ["--config", str(config)]
        place = [str(folder / "repository"), "--port", str(port)]
        return [sys.executable, "-m", "casimg", "serve", *place, *options], {}

    def fill(folder: Path, count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.glance.fill_casimg", str(folder / "repository"), str(count)]
        subprocess.run(command, check=True, capture_output=True)

    return Service(CASIMG, casimg.__version__, set_up, fill, ("repository",))


@contextmanager
def running(service: Service, folder: Path) -> Iterator[Running]:
    """Set a service up in an empty folder, start it, and stop it at the end. Raises: RuntimeError when it is dumb."""
    folder = folder.absolute()
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command, environment = service.set_up(folder, port)
    found = Running(service, _start(command, environment, folder), port, folder, command, environment)
    try:
        _wait_for_answer(found, folder / _LOG)
        yield found
    finally:
        found.stop()


def _start(command: list[str], environment: dict[str, str], folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / _LOG).open("ab") as output:
        return subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            start_new_session=True,  # so that what is left of it can be ended together
        )


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
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


def _cpu_s(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # user, system, and both of children that were waited for; the name before them may hold blanks.
    return sum(map(int, text.rpartition(")")[2].split()[11:15])) / _TICKS_PER_S


def _wait_for_answer(server: Running, log: Path) -> None:
    give_up_s = time.monotonic() + _START_TIME_MAX_S
    while time.monotonic() < give_up_s and server.process.poll() is None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        try:
            connection.request("GET", "/healthcheck")
            if connection.getresponse().status == 200:
                return
        except (OSError, HTTPException):
            time.sleep(0.05)
        finally:
            connection.close()
    raise RuntimeError(f"{server.name} does not answer: {log.read_text()[-2000:]}")


_GLANCE_CONF: Final = """\
[DEFAULT]
enabled_backends = local:file
worker_self_reference_url = http://127.0.0.1:{port}
[database]
connection = sqlite:///{folder}/glance.sqlite
[glance_store]
default_backend = local
[local]
filesystem_store_datadir = {folder}/store
[os_glance_staging_store]
filesystem_store_datadir = {folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {folder}/tasks
[paste_deploy]
config_file = {folder}/paste.ini
"""

_UWSGI_INI: Final = """\
[uwsgi]
socket-timeout = 600
http-auto-chunked = true
http-chunked-input = true
http-raw-body = true
chmod-socket = 666
lazy-apps = true
add-header = Connection: close
buffer-size = 65535
thunder-lock = true
enable-threads = true
exit-on-reload = true
die-on-term = true
disable-logging = true
master = true
processes = {processes}
http-socket = 127.0.0.1:{port}
module = glance.wsgi.api:application
"""
"""As `httpd/glance-api-uwsgi.ini`, with a longer timeout and no log of requests, which casimg does not write."""
