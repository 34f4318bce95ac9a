"""Use the instance disk until it is its next generation: packages, logs, files, a database; then unmount in order.

The file is changed the way a virtual machine changes it, through a mounted file system with discard, so that blocks are
freed and reused by ext4's allocator and database pages are overwritten where they lie.
"""

import random
import string
from collections.abc import Iterator
from pathlib import Path

from benchmarks.images.build import package_list
from benchmarks.images.databases import use_postgresql, use_sqlite
from benchmarks.images.mounts import in_root, machine
from benchmarks.images.programs import run, step
from benchmarks.images.recipe import SEED, Change, Recipe

_LOGS = ("access", "application", "audit")
_HOST_COUNT = 400
_FILE_SIZES = (2_000, 20_000, 60_000, 250_000)
_EPOCH_DAY_S = 86_400


def apply(recipe: Recipe, change: Change, image: Path, later: Path, work: Path) -> str:
    """Change a raw image in place into a generation and return its list of packages.

    Args:
        later: the folder of packages to install, as `Builder` fetched them.
        work: an empty folder for the mount point.
    """
    with machine(image, work / "machine") as root:
        if change.remove:
            with step(f"remove {len(change.remove)} packages"):
                in_root(root, ["dpkg", "--purge", *change.remove])
        if any(later.glob("*.deb")):
            with step("install and upgrade packages"):
                _install(root, later)
        with step("logs and files"):
            append_logs(root / "var/log/service", change.generation, change.log_size)
            change_files(root / "srv/data", change.generation, change.file_count)
        with step(f"database ({recipe.database})"):
            if recipe.database == "postgresql":
                use_postgresql(root, change, recipe.database_scale)
            else:
                use_sqlite(root / "var/lib/service", change, recipe.database_scale)
        packages = package_list(root)
    run(["fallocate", "--dig-holes", image])
    return packages


def _install(root: Path, later: Path) -> None:
    """Install downloaded packages as apt would: they are on the disk meanwhile and deleted afterwards."""
    archives = root / "var/cache/apt/archives"
    archives.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in later.glob("*.deb"))
    run(["cp", "-t", archives, *(later / name for name in names)])
    inside = [f"/var/cache/apt/archives/{name}" for name in names]
    # Auto-deconfigure, as apt does: an upgraded package may break the old one of another that comes after it.
    in_root(root, ["dpkg", "--force-confold", "--auto-deconfigure", "--install", *inside])
    for name in names:
        (archives / name).unlink()


def log_lines(name: str, generation: int) -> Iterator[str]:
    """Yield the lines of a service's log for a generation: the same for the same seed, without end."""
    rng = random.Random(f"{SEED} {name} {generation}")
    hosts = [f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}" for _ in range(_HOST_COUNT)]
    paths = [f"/api/v1/{''.join(rng.choices(string.ascii_lowercase, k=7))}" for _ in range(60)]
    clock_ms = generation * _EPOCH_DAY_S * 1000
    while True:
        clock_ms += rng.randrange(1, 900)
        seconds, ms = divmod(clock_ms, 1000)
        hours = f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}"
        yield (
            f"2025-12-{seconds // _EPOCH_DAY_S % 28 + 1:02}T{hours}Z {name} {rng.choice(hosts)} "
            f'"GET {rng.choice(paths)}/{rng.randrange(10**6)}" {rng.choice((200, 200, 200, 304, 404, 500))} '
            f"{rng.randrange(200, 90_000)} request={rng.getrandbits(64):016x}\n"
        )


def append_logs(folder: Path, generation: int, size: int) -> None:
    """Append about `size` bytes to the log files of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _LOGS:
        left = size // len(_LOGS)
        with (folder / f"{name}.log").open("a", encoding="ascii") as file:
            for line in log_lines(name, generation):
                if left <= 0:
                    break
                left -= file.write(line)


def change_files(folder: Path, generation: int, count: int) -> None:
    """Delete a third of the files of a folder and write `count` new ones that do not compress."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(f"{SEED} files {generation}")
    present = sorted(folder.iterdir())
    for path in rng.sample(present, len(present) // 3):
        path.unlink()
    for number in range(count):
        size = rng.choice(_FILE_SIZES) + rng.randrange(2_000)
        (folder / f"{generation}-{number:04}.bin").write_bytes(rng.randbytes(size))
