"""Each server started as an operator starts it: with the configuration that is shipped for it, its places filled in."""

import grp
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from casimg_api.config import SAMPLES
from casimg_api.wsgi_loading import CONFIG_VARIABLE
from tests.integration.api.data.serving import START_TIME_MAX_S, Server
from tests.servers.processes import ending_with_us, free_port, run_checked
from tests.wsgi.install import Programs, apache

_NOBODY_ID = 65534
WORKER_COUNT = 2
"""Processes that answer, as the shipped configurations have it."""


@dataclass(slots=True)
class WsgiServer(Server):
    """A running server that has loaded `casimg_api.wsgi`."""

    name: str = ""
    stop_signal: signal.Signals = signal.SIGTERM
    runtime: Path | None = None

    def stop(self) -> int:
        """End it as its documentation says, and return its exit status."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(self.stop_signal)
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            for pid in reversed(self.pids()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            if self.runtime is not None:
                shutil.rmtree(self.runtime, ignore_errors=True)

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many processes of uWSGI have ever been ready: it tells one that starts nothing of a stop."""
        give_up_s = time.monotonic() + START_TIME_MAX_S
        while self.name == "uwsgi" and (text := self.log.read_text()).count(" ready in ") < count:
            assert time.monotonic() < give_up_s, text[-3000:]
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """Return the processes that the application runs in: those that have its C extension in memory."""
        found = []
        for pid in self.pids():
            with suppress(OSError):
                if "/_native" in Path(f"/proc/{pid}/maps").read_text():
                    found.append(pid)
        return found


def start(
    name: str, programs: Programs, folder: Path, config: str, changed: Mapping[str, str] | None = None
) -> WsgiServer:
    """Start a server over a configuration of the service; returns when it answers.

    Args:
        changed: what stands for words of uWSGI's shipped configuration.
    """
    port = free_port()
    settings = folder / "server.toml"
    settings.write_text(config)
    environ = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    runtime = None
    if name == "gunicorn":
        places = {"/etc/casimg/server.toml": str(settings), "127.0.0.1:9292": f"127.0.0.1:{port}"}
        path = _filled(name, folder, places)
        command: list[object] = [sys.executable, "-m", "gunicorn", "--config", path]
    elif name == "uwsgi":
        path = _filled(name, folder, {"127.0.0.1:9292": f"127.0.0.1:{port}", **(changed or {})})
        command = [programs.uwsgi, "--ini", path]
    else:
        # Apache's own processes are nobody's: a folder that they can enter.
        runtime = Path(tempfile.mkdtemp(prefix="casimg-apache-"))
        runtime.chmod(0o777)
        program, modules = apache()
        path = _apache_conf(programs, folder, runtime, modules, port)
        command = [program, "-f", path, "-D", "FOREGROUND"]
    environ[CONFIG_VARIABLE] = str(settings)
    command = ending_with_us(command)
    if name == "mod_wsgi" and os.getuid() == 0:
        command = _as_nobody(folder, command)
    log = folder / "server.log"
    with log.open("ab") as output:
        words = [str(word) for word in command]
        process = subprocess.Popen(words, stdout=output, stderr=output, env=environ, cwd=folder)
    stop_signal = signal.SIGWINCH if name == "mod_wsgi" else signal.SIGTERM
    server = WsgiServer(process, port, log, name=name, stop_signal=stop_signal, runtime=runtime)
    server.wait_for_answer()
    server.wait_for_workers(WORKER_COUNT)
    return server


def _as_nobody(folder: Path, command: list[object]) -> list[object]:
    """Return a command that root runs as nobody who may read all: mod_wsgi runs nothing as root."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, _NOBODY_ID, _NOBODY_ID)
    who = [f"--reuid={_NOBODY_ID}", f"--regid={_NOBODY_ID}", "--clear-groups"]
    return ["setpriv", *who, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", *command]


def _daemon_user() -> str:
    uid, gid = (_NOBODY_ID, _NOBODY_ID) if os.getuid() == 0 else (os.getuid(), os.getgid())
    return f"user={pwd.getpwuid(uid).pw_name} group={grp.getgrgid(gid).gr_name}"


def _filled(name: str, folder: Path, places: Mapping[str, str]) -> Path:
    """Write the configuration that is shipped for a server, with other places; returns where it is."""
    sample = SAMPLES[name]
    text = sample.read_text()
    for shipped, ours in places.items():
        assert shipped in text, f"{sample.name} does not say {shipped}"
        text = text.replace(shipped, ours)
    path = folder / sample.name
    path.write_text(text)
    return path


def _apache_conf(programs: Programs, folder: Path, runtime: Path, modules: Path, port: int) -> Path:
    """Write what Debian has in apache2.conf, as little as there can be, around the shipped site."""
    package = Path(SAMPLES["mod_wsgi"]).parents[1]
    site = _filled(
        "mod_wsgi",
        folder,
        {
            "127.0.0.1:9292": f"127.0.0.1:{port}",
            "/srv/casimg/venv/lib/python3.11/site-packages/casimg_api": str(package),
            "/srv/casimg/venv": str(programs.venv),
            "home=/srv/casimg ": f"home={folder} ",
            "user=casimg group=casimg": _daemon_user(),
        },
    )
    loaded = run_checked([programs.express, "module-config"], folder).splitlines()
    lines = [
        f"ServerRoot {runtime}",
        "ServerName localhost",
        f"PidFile {runtime}/pid",
        f"DefaultRuntimeDir {runtime}",
        f"WSGISocketPrefix {runtime}/wsgi",
        f"ErrorLog {folder}/server.log",
        "LogLevel warn",
        *(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in ("mpm_event", "authz_core", "reqtimeout")),
        next(line for line in loaded if line.startswith("LoadModule")),
        f"Include {site}",
    ]
    path = folder / "apache.conf"
    path.write_text("\n".join(sorted(lines, key=lambda line: not line.startswith("LoadModule"))) + "\n")
    return path
