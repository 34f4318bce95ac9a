"""What is asked of both services: each trial is timed on one of them while the other is idle."""

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.glance.client import Client, UnexpectedAnswerError
from benchmarks.glance.disks import Disks
from benchmarks.glance.services import Running, tree
from benchmarks.measure import memory_files_size, rss_anon
from casimg.constants import KIB, MIB

PAGE_COUNT: Final = 1000
SHOWN_COUNT: Final = 300
_SEED: Final = 20261125
_MANY: Final = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What a trial took: seconds on the wall, and of CPU in the service."""

    wall_s: float
    cpu_s: float


Trial = Callable[[Client], None]


def timed(server: Running, client: Client, trial: Trial) -> Cost:
    """Run a trial and return what it took."""
    before, begin_s = server.cpu_s(), time.monotonic()
    trial(client)
    wall_s = time.monotonic() - begin_s
    return Cost(wall_s, max(0.0, server.cpu_s() - before))


def uploads(server: Running, disks: Disks) -> Iterator[tuple[str, Cost]]:
    """Upload into an empty service and yield what each upload took; the images stay, named as the disks are."""
    client = Client(server.port)
    steps = (
        ("upload new, length sent", disks.new, False, "new"),
        ("upload new, chunked", disks.other, True, "other"),
        ("upload new, no holes, chunked", disks.dense, True, "dense"),
        ("upload the same again, length sent", disks.new, False, "again"),
        ("upload the same again, chunked", disks.new, True, "again"),
        ("upload the same again, no holes, chunked", disks.dense, True, "again"),
        ("", disks.before, True, "before"),  # what the next one is the next generation of
        ("upload the next generation, chunked", disks.after, True, "after"),
    )
    for what, path, chunked, name in steps:
        image_id = client.create(name)
        _warm(path)
        cost = timed(server, client, lambda one, i=image_id, p=path, c=chunked: one.upload(i, p, chunked=c))  # type: ignore[misc]
        if what:
            yield what, cost
    client.close()


def _warm(path: Path) -> None:
    """Read a file, so that no upload waits for the disk."""
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def image_ids(server: Running) -> dict[str, str]:
    """Return the ids of uploaded images by name."""
    client = Client(server.port)
    found = {str(image["name"]): str(image["id"]) for image in client.show("/v2/images?limit=100")["images"]}
    client.close()
    return found


def downloads(ids: Mapping[str, str], disks: Disks) -> Iterator[tuple[str, Trial]]:
    """Yield the trials of whole images."""
    for what, name, path in (
        ("download", "new", disks.new),
        ("download, no holes", "dense", disks.dense),
        ("download, the next generation", "after", disks.after),
    ):
        size = path.stat().st_size

        def trial(client: Client, image_id: str = ids[name], size: int = size) -> None:
            if client.download(image_id) != size:
                raise UnexpectedAnswerError("an image came with another size")

        yield what, trial

    yield f"download, no holes, {_MANY} clients at once", partial(_download_at_once, image_id=ids["dense"])


def _download_at_once(client: Client, image_id: str) -> None:
    clients = [Client(client.port) for _ in range(_MANY)]
    side_by_side([partial(one.download, image_id) for one in clients])
    for one in clients:
        one.close()


def first_downloads(server: Running, ids: Mapping[str, str], *, drops: bool) -> Iterator[tuple[str, Cost]]:
    """Yield what the first download after a start took, of each image by itself.

    Args:
        drops: the machine's page cache too; needs a superuser.
    """
    for words, trial in (
        ("", partial(_download, image_id=ids["new"])),
        (", no holes", partial(_download, image_id=ids["dense"])),
        (f", no holes, {_MANY} clients at once", partial(_download_at_once, image_id=ids["dense"])),
    ):
        server.restart()
        if drops:
            drop_page_cache()
        client = Client(server.port)
        cost = timed(server, client, trial)
        client.close()
        yield f"first download after a start{words}{', from the disk' if drops else ''}", cost


def _download(client: Client, image_id: str) -> None:
    client.download(image_id)


def drop_page_cache() -> None:
    """Let the kernel forget what it has of files. Raises: PermissionError."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def may_drop_page_cache() -> bool:
    """Tell whether this process can."""
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def side_by_side(jobs: Sequence[Callable[[], object]]) -> None:
    """Run jobs on a thread each. Raises: what the first of them that fails raises."""
    failed: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # told by the caller's thread
            failed.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def ranges(ids: Mapping[str, str], disks: Disks, *, small: bool) -> Iterator[tuple[str, Trial, bool]]:
    """Yield the trials of ranges, and whether connections are kept."""
    size, image_id = disks.dense.stat().st_size, ids["dense"]

    def random_ranges(count: int, each: int) -> Trial:
        starts = [Random(_SEED).randrange(0, size - each) for _ in range(count)]

        def trial(client: Client) -> None:
            for start in starts:
                client.skim(image_id, start, each)

        return trial

    def everything(client: Client) -> None:
        step = 4 * MIB
        for start in range(0, size, step):
            client.skim(image_id, start, min(step, size - start))

    many = 200 if small else 1000
    yield "64 random ranges of 1 MiB", random_ranges(64, MIB), True
    yield f"{many:,} random ranges of 64 KiB", random_ranges(many, 64 * KIB), True
    yield f"{many:,} random ranges of 64 KiB, a connection each", random_ranges(many, 64 * KIB), False
    yield "all of an image by ranges of 4 MiB", everything, True


def lists(count: int, image_id: str) -> Iterator[tuple[str, Trial]]:
    """Yield the trials of what is said of images."""

    def walk(client: Client, query: str = "", wanted: int = count) -> None:
        path, found = f"/v2/images?limit={PAGE_COUNT}{query}", 0
        while path:
            page = client.show(path)
            found += len(page["images"])
            path = page.get("next", "")
        if found < wanted:
            raise UnexpectedAnswerError(f"a list of {wanted} images came with {found}")

    def filtered(client: Client) -> None:
        walk(client, "&property_8=value-3", count // 10)

    def shown(client: Client) -> None:
        for _ in range(SHOWN_COUNT):
            client.show(f"/v2/images/{image_id}")

    yield f"list {count:,} images by pages of {PAGE_COUNT:,}", walk
    yield f"list one in ten of {count:,} images by a property", filtered
    yield f"show an image, {SHOWN_COUNT} times", shown


def check(server: Running, ids: Mapping[str, str], disks: Disks) -> None:
    """Hold what comes back against the disks: whole images, and ranges. Raises: UnexpectedAnswerError."""
    client = Client(server.port)
    for name, path in (("new", disks.new), ("dense", disks.dense), ("after", disks.after)):
        with path.open("rb") as file:
            wanted = hashlib.file_digest(file, "sha512").hexdigest()
            if client.sha512(ids[name]) != wanted:
                raise UnexpectedAnswerError(f"{server.name}: other bytes of {name} came back")
            for number in range(8):
                start = Random(number).randrange(0, path.stat().st_size - MIB)
                file.seek(start)
                if client.range(ids[name], start, 300_001) != file.read(300_001):
                    raise UnexpectedAnswerError(f"{server.name}: other bytes of a range of {name} came back")
    client.close()


def memory(server: Running, ids: Mapping[str, str], disks: Disks) -> tuple[int, int]:
    """Return the peaks of anonymous memory, and of files in memory, while four upload and four download at once."""
    failed: list[BaseException] = []

    def work(number: int) -> None:
        client = Client(server.port)
        try:
            if number % 2:
                client.upload(client.create(f"many-{number}"), disks.dense, chunked=True)
            else:
                client.download(ids["dense"])
        except BaseException as error:  # told by the caller's thread
            failed.append(error)
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2 * _MANY)]
    for thread in threads:
        thread.start()
    anonymous = shared = 0
    while any(thread.is_alive() for thread in threads):
        pids = tree(server.process.pid)
        anonymous = max(anonymous, sum(rss_anon(pid) for pid in pids))
        shared = max(shared, sum(memory_files_size(pid) for pid in pids))
        time.sleep(0.05)
    if failed:
        raise failed[0]
    return anonymous, shared
