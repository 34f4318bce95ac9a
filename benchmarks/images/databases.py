"""Real databases on the instance disk whose 8 KiB pages are updated where they lie.

PostgreSQL runs in the chroot and is stopped in order, whatever happens. SQLite, for the small family, is written by
this process through the mount.
"""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from benchmarks.images.mounts import in_root
from benchmarks.images.recipe import MIB, SEED, Change

PAGE_SIZE = 8192
_CLUSTER = "main"
_USER = "postgres"
_LOG = "/var/log/postgresql/benchmark.log"
_SETTINGS = """\
autovacuum = off
checkpoint_timeout = 1h
listen_addresses = ''
max_wal_senders = 0
max_wal_size = 128MB
min_wal_size = 80MB
shared_buffers = 128MB
synchronous_commit = off
wal_level = minimal
"""
"""Minimal WAL lets the first filling pass it by: written there too, it fills a 2 GiB disk.

Vacuum and timed checkpoints would come at another moment on each run; the network is never wanted."""
_FILLFACTOR = 90
"""Room in each page for updated rows, so that updates stay in their page."""


def use_postgresql(root: Path, change: Change, scale: int) -> None:
    """Fill the database in generation 1; update scattered pages in later ones; checkpoint and stop."""
    version = sorted(path.name for path in (root / "usr/lib/postgresql").iterdir())[-1]
    if change.generation == 1:
        in_root(root, ["make-ssl-cert", "generate-default-snakeoil", "--force-overwrite"])
        in_root(root, ["ssh-keygen", "-A"])
        in_root(root, ["pg_createcluster", "--locale=C.UTF-8", version, _CLUSTER])
        with (root / f"etc/postgresql/{version}/{_CLUSTER}/postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
    with _server(root, version):
        if change.generation == 1:
            in_root(root, ["createdb", "bench"], user=_USER)
            in_root(root, ["pgbench", "-q", "-i", "-s", str(scale), "-F", str(_FILLFACTOR), "bench"], user=_USER)
        if change.update_count:
            seed = f"--random-seed={SEED + change.generation}"
            updates = ["pgbench", "-n", "-c", "1", "-t", str(change.update_count), seed, "bench"]
            in_root(root, updates, user=_USER)
        in_root(root, ["psql", "-q", "-c", "CHECKPOINT", "bench"], user=_USER)


@contextmanager
def _server(root: Path, version: str) -> Iterator[None]:
    sockets = root / "run/postgresql"
    sockets.mkdir(exist_ok=True)
    in_root(root, ["chown", f"{_USER}:{_USER}", "/run/postgresql"])
    control = [f"/usr/lib/postgresql/{version}/bin/pg_ctl", "-D", f"/var/lib/postgresql/{version}/{_CLUSTER}", "-w"]
    options = f"-c config_file=/etc/postgresql/{version}/{_CLUSTER}/postgresql.conf"
    # A start that fails or is interrupted may have left a server all the same.
    try:
        in_root(root, [*control, "-l", _LOG, "-o", options, "start"], user=_USER)
        yield
    finally:
        if (root / f"var/lib/postgresql/{version}/{_CLUSTER}/postmaster.pid").exists():
            in_root(root, [*control, "-m", "fast", "stop"], user=_USER)


def use_sqlite(folder: Path, change: Change, size_mib: int) -> None:
    """Fill a database of 8 KiB pages in generation 1; update rows in scattered pages in later ones."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{SEED} sqlite {change.generation}")
    with closing(sqlite3.connect(folder / "service.db")) as database:
        if change.generation == 1:
            # Not vacuumed and no journal left behind: an update rewrites the row's page and nothing else.
            database.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            database.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER, note TEXT, token TEXT)")
            rows = ((key, rng.randrange(10**6), *_texts(rng)) for key in range(_row_count(size_mib)))
            database.executemany("INSERT INTO account VALUES (?, ?, ?, ?)", rows)
        for _ in range(change.update_count):
            changed = (rng.randrange(10**6), rng.randrange(_row_count(size_mib)))
            database.execute("UPDATE account SET balance = ? WHERE id = ?", changed)
        database.commit()


def _row_count(size_mib: int) -> int:
    return size_mib * MIB // 160


def _texts(rng: random.Random) -> tuple[str, str]:
    """Return a text that compresses well and one that does not: pages shrink to about half, as a database's do."""
    return f"transfer pending since day {rng.randrange(300)}, no remarks, branch {rng.randrange(40):05}", rng.randbytes(
        32
    ).hex()
