"""Run the catalog's tests on a real PostgreSQL and a real MariaDB.

    python -m tests.servers.sql [postgresql] [mariadb] [-- pytest arguments]

Installs the servers with apt when they are missing and this is root. Each runs on loopback, on a free port, with its
data in a temporary folder, and is stopped at the end. Durability is off: these tests kill clients, not the server.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.processes import free_port, run_checked, running

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
    port = free_port()
    # PostgreSQL refuses to run as root.
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    if prefix:
        folder.chmod(0o755)
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    data = folder / "data"
    initdb = [*prefix, f"{binaries}/initdb", "-D", data, "-U", "casimg", "-A", "trust", "-E", "UTF8", "--no-sync"]
    run_checked(initdb, folder)
    options = ["-c", "fsync=off", "-c", "max_connections=100", "-c", "logging_collector=off"]
    server = [*prefix, f"{binaries}/postgres", "-D", data, "-h", "127.0.0.1", "-p", port, "-k", folder, *options]
    ready = [f"{binaries}/pg_isready", "-q", "-h", "127.0.0.1", "-p", port]
    # SIGINT is a fast shutdown; SIGTERM would wait for clients that were killed.
    with running(server, lambda: _succeeds(ready), folder / "log", stop=signal.SIGINT, folder=folder):
        yield f"postgresql+psycopg://casimg@127.0.0.1:{port}/postgres"


def _binaries() -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return str(found[-1].parent) if found else None


def _mariadb(folder: Path) -> Iterator[str]:
    if shutil.which("mariadbd", path=_path()) is None:
        _install("mariadb-server")
    port = free_port()
    user = ["--user=root"] if os.geteuid() == 0 else []
    data, at = folder / "data", folder / "my.sock"
    run_checked(
        ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--auth-root-authentication-method=normal"],
        folder,
    )
    server = [
        *(shutil.which("mariadbd", path=_path()) or "mariadbd", "--no-defaults", *user, f"--datadir={data}"),
        *(f"--socket={at}", f"--port={port}", "--bind-address=127.0.0.1", f"--pid-file={folder / 'pid'}"),
        *("--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0", "--max-connections=100"),
    ]
    client = ["mariadb", "--no-defaults", "-uroot", "-S", at, "-e"]
    ready = [*client, "select 1"]
    with running(server, lambda: _succeeds(ready), folder / "log", folder=folder):
        grant = "create user casimg@'127.0.0.1' identified by 'casimg'; grant all on *.* to casimg@'127.0.0.1'"
        run_checked([*client, grant], folder)
        yield f"mysql+pymysql://casimg:casimg@127.0.0.1:{port}/mysql"


def _succeeds(command: Sequence[object]) -> bool:
    return not subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode


def _install(package: str) -> None:
    if os.geteuid() != 0:
        raise SystemExit(f"{package} is missing: apt-get install {package}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", package]):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode:
            raise SystemExit(f"apt-get could not install {package}")


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
