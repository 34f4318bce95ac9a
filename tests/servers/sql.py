"""Run the catalog's tests on a real PostgreSQL and a real MariaDB.

    python -m tests.servers.sql [postgresql] [mariadb] [-- pytest arguments]

Installs the servers with apt when they are missing and this is root. Each runs on loopback, on a free port, with its
data in a temporary folder, and is stopped at the end. Durability is off: these tests kill clients, not the server.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_START_TIMEOUT_S = 60.0
_TESTS = [
    "tests/unit/catalog",
    "tests/integration/test_catalog_processes.py",
    "tests/integration/test_catalog_repack_races.py",
]


def main(arguments: list[str]) -> int:
    """Run the tests on each server named, all by default; returns the first failing exit code."""
    names, _, rest = " ".join(arguments).partition("--")
    servers: dict[str, Callable[[Path], Iterator[str]]] = {"postgresql": _postgresql, "mariadb": _mariadb}
    for name in names.split() or list(servers):
        with (
            tempfile.TemporaryDirectory(prefix="casimg-sql-") as folder,
            contextmanager(servers[name])(Path(folder)) as url,
        ):
            print(f"== catalog tests on {name}", flush=True)
            command = [sys.executable, "-m", "pytest", "-q", "-n", "2", *(rest.split() or _TESTS)]
            done = subprocess.run(command, env={**os.environ, "CASIMG_TEST_CATALOG_SERVER": url}, check=False)
            if done.returncode:
                return done.returncode
    return 0


def _postgresql(folder: Path) -> Iterator[str]:
    if not _binaries():
        _install("postgresql")
    binaries = _binaries()
    if binaries is None:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
    port = _free_port()
    # PostgreSQL refuses to run as root.
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    if prefix:
        folder.chmod(0o755)
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"
    _run([*prefix, f"{binaries}/initdb", "-D", data, "-U", "casimg", "-A", "trust", "-E", "UTF8", "--no-sync"], folder)
    options = ["-c", "fsync=off", "-c", "max_connections=100", "-c", "logging_collector=off"]
    server = [*prefix, f"{binaries}/postgres", "-D", data, "-h", "127.0.0.1", "-p", port, "-k", folder, *options]
    ready = [f"{binaries}/pg_isready", "-q", "-h", "127.0.0.1", "-p", port]
    # SIGINT is a fast shutdown; SIGTERM would wait for clients that were killed.
    with _running(server, ready, folder, signal.SIGINT):
        yield f"postgresql+psycopg://casimg@127.0.0.1:{port}/postgres"


def _binaries() -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return str(found[-1].parent) if found else None


def _mariadb(folder: Path) -> Iterator[str]:
    if shutil.which("mariadbd", path=_path()) is None:
        _install("mariadb-server")
    port = _free_port()
    user = ["--user=root"] if os.geteuid() == 0 else []
    data, at = folder / "data", folder / "my.sock"
    _run(
        ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--auth-root-authentication-method=normal"],
        folder,
    )
    server = [
        *(shutil.which("mariadbd", path=_path()) or "mariadbd", "--no-defaults", *user, f"--datadir={data}"),
        *(f"--socket={at}", f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={folder / 'pid'}"),
        *("--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--max-connections=100"),
    ]
    client = ["mariadb", "--no-defaults", "-uroot", "-S", at, "-e"]
    with _running(server, [*client, "select 1"], folder, signal.SIGTERM):
        grant = "create user casimg@'127.0.0.1' identified by 'casimg'; grant all on *.* to casimg@'127.0.0.1'"
        _run([*client, grant], folder)
        yield f"mysql+pymysql://casimg:casimg@127.0.0.1:{port}/mysql"


@contextmanager
def _running(server: Sequence[object], ready: Sequence[object], folder: Path, stop: signal.Signals) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(word) for word in server], stdout=log, stderr=log, cwd=folder)
        try:
            begin_s = time.monotonic()
            while subprocess.run([str(word) for word in ready], capture_output=True, check=False).returncode:
                if process.poll() is not None or time.monotonic() - begin_s > _START_TIMEOUT_S:
                    raise SystemExit("the server did not start:\n" + (folder / "log").read_text(errors="replace"))
                time.sleep(0.1)
            yield
        finally:
            process.send_signal(stop)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _run(command: Sequence[object], folder: Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def _install(package: str) -> None:
    if os.geteuid() != 0:
        raise SystemExit(f"{package} is missing: apt-get install {package}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
            raise SystemExit(f"apt-get could not install {package}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
