"""The cache of one server in one process: right bytes whatever happens to its files, its disk and its rows."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from casimg.constants import MIB, SEGMENT_SIZE
from casimg.errors import BackendUnavailableError, DamageError, ImageNotFoundError
from casimg.ids import ImageId
from casimg.image_cache import ImageCache
from casimg.registry import NewEntry, Registry, Viewer
from casimg.repository import Repository
from casimg.streaming import ContentStream
from casimg_api import caching
from casimg_api.cache_streams import CachedStream, FillingStream, Parts
from casimg_api.cached_file import BLOCK_SIZE
from casimg_api.caching import Caching, node_of
from casimg_api.config import CacheConfig
from tests.conftest import mixed_bytes

DATA = bytes(mixed_bytes(SEGMENT_SIZE + 300_000))
ADMIN = Viewer(None, is_admin=True)
Make = Callable[..., Caching]


@pytest.fixture
def registry(repo: Repository) -> Registry:
    return repo.registry()


@pytest.fixture
def rows(repo: Repository) -> ImageCache:
    return repo.image_cache("here")


@pytest.fixture
def make(registry: Registry, rows: ImageCache, tmp_path: Path) -> Iterator[Make]:
    """Make caches of one folder; they are stopped when the test ends."""
    made: list[Caching] = []

    def begin(**config: Any) -> Caching:
        made.append(Caching(registry, rows, CacheConfig(image_cache_dir=str(tmp_path / "cache"), **config)))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def stored(registry: Registry, data: bytes = DATA) -> ImageId:
    made = registry.create(NewEntry(name="x", disk_format="raw", container_format="bare", owner="p"))
    registry.upload(made.id, iter([data]))
    return made.id


def download(cache: Caching, registry: Registry, image_id: ImageId, start: int = 0, end: int | None = None) -> bytes:
    """Download as the handler does."""
    stream = opened(cache, registry, image_id, start, end)
    with closing(stream):
        return b"".join(iter(lambda: next(stream, b""), b""))


def opened(cache: Caching, registry: Registry, image_id: ImageId, start: int = 0, end: int | None = None) -> Parts:
    row = registry.show(image_id, ADMIN)
    end = row.size or 0 if end is None else end
    cached = cache.open(row, start, end)
    if cached is not None:
        return cached
    stream = registry.stream(row, start, end)
    return cache.filling(row, stream) if (start, end) == (0, row.size) else stream


def way(cache: Caching, registry: Registry, image_id: ImageId) -> type:
    """Return how a download of an image would be sent."""
    with closing(opened(cache, registry, image_id)) as stream:
        return type(stream)


def wait_for(is_true: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 20
    while not is_true():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def cached(cache: Caching) -> set[ImageId]:
    return {image.image_id for image in cache.rows.images("cached")}


def filled(cache: Caching, registry: Registry, data: bytes = DATA) -> ImageId:
    """Store an image and have it in the cache."""
    image_id = stored(registry, data)
    assert download(cache, registry, image_id) == data
    wait_for(lambda: image_id in cached(cache))
    return image_id


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 16]))


def unfinished(cache: Caching) -> list[str]:
    return [path.name for path in cache.folder.incomplete.iterdir()]


def test_the_second_download_is_the_files(make: Make, registry: Registry) -> None:
    """The first one fills, the next ones and ranges are read from the file alone, and are counted."""
    cache = make()
    image_id = stored(registry)
    assert way(cache, registry, image_id) is FillingStream
    image_id = filled(cache, registry)
    assert way(cache, registry, image_id) is CachedStream
    assert download(cache, registry, image_id) == DATA
    assert download(cache, registry, image_id, 5, BLOCK_SIZE + 7) == DATA[5 : BLOCK_SIZE + 7]
    assert [image.hits for image in cache.state()] == [3]


def test_of_many_first_downloads_one_writes(make: Make, registry: Registry) -> None:
    """All clients get their bytes, and one file is written."""
    cache = make()
    image_id = stored(registry)
    streams = [opened(cache, registry, image_id) for _ in range(5)]
    assert [isinstance(stream, FillingStream) for stream in streams].count(True) == 1
    for stream in streams:
        assert b"".join(iter(partial(next, stream, b""), b"")) == DATA
        stream.close()
    wait_for(lambda: cached(cache) == {image_id})


def test_a_client_that_goes_away(make: Make, registry: Registry) -> None:
    """Half an image is no image: nothing of it stays, and the next download fills."""
    cache = make()
    image_id = stored(registry)
    stream = opened(cache, registry, image_id)
    next(stream)
    assert len(unfinished(cache)) == 2
    stream.close()
    assert unfinished(cache) == []
    assert cached(cache) == set()
    assert download(cache, registry, image_id) == DATA
    wait_for(lambda: cached(cache) == {image_id})


@pytest.mark.parametrize("place", [0, BLOCK_SIZE, len(DATA) - 1, len(DATA) + 5])
def test_damage(make: Make, registry: Registry, place: int) -> None:
    """Wherever a file is damaged, the client gets the right bytes, and the file goes; the next download fills."""
    cache = make()
    image_id = filled(cache, registry)
    flip(cache.folder.path / image_id, place)
    assert download(cache, registry, image_id, 0, len(DATA)) == DATA
    wait_for(lambda: unfinished(cache) == [])
    assert download(cache, registry, image_id) == DATA
    wait_for(lambda: cached(cache) == {image_id})


def test_damage_in_the_middle(make: Make, registry: Registry) -> None:
    """Bytes that were sent already are not sent again: the repository is read from where the file stops."""
    cache = make()
    image_id = filled(cache, registry)
    flip(cache.folder.path / image_id, 2 * BLOCK_SIZE + 77)
    assert download(cache, registry, image_id, 10, len(DATA) - 3) == DATA[10:-3]
    assert not (cache.folder.path / image_id).exists()
    assert cached(cache) == set()


def test_damage_where_the_repository_has_nothing_either(make: Make, registry: Registry, repo: Repository) -> None:
    """When the image went meanwhile, the download ends with an error, never with wrong bytes."""
    cache = make()
    image_id = filled(cache, registry)
    flip(cache.folder.path / image_id, 2 * BLOCK_SIZE)
    stream = opened(cache, registry, image_id)
    found = next(stream)
    content_id = registry.show(image_id, ADMIN).content_id
    registry.delete(image_id)
    repo.plan_gc().execute()
    assert content_id is not None
    repo._wiring.forget_reader(content_id)  # it has the bytes in memory
    with pytest.raises(ImageNotFoundError):  # noqa: PT012 - what came before the error is looked at
        while True:
            found += next(stream)
    assert found == DATA[: 2 * BLOCK_SIZE]
    stream.close()


def test_a_file_of_other_bytes(make: Make, registry: Registry) -> None:
    """A whole file of another image, under this one's name, is not sent."""
    cache = make()
    other = filled(cache, registry, b"other" * 1000)
    image_id = filled(cache, registry)
    (cache.folder.path / other).rename(cache.folder.path / image_id)
    assert download(cache, registry, image_id) == DATA


def test_a_disk_that_is_full(make: Make, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write finds no room, the client gets all bytes, and nothing stays."""
    cache = make()
    image_id = stored(registry)
    write, left = os.pwrite, [0]

    def refuse(*given: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "no space")
        return write(*given)

    monkeypatch.setattr(os, "pwrite", refuse)
    for count in (0, 1, 5, len(DATA) // BLOCK_SIZE + 1):
        left[0] = count
        assert download(cache, registry, image_id) == DATA
        wait_for(lambda: unfinished(cache) == [])
        assert cached(cache) == set()
        assert cache.folder.images() == []
    left[0] = 1000
    assert download(cache, registry, image_id) == DATA
    wait_for(lambda: cached(cache) == {image_id})


def test_a_folder_that_went(make: Make, registry: Registry) -> None:
    """Without its folder the server sends images as before."""
    cache = make()
    image_id = filled(cache, registry)
    cache.folder.incomplete.rmdir()
    (cache.folder.path / image_id).unlink()
    cache.folder.path.rmdir()
    assert download(cache, registry, image_id) == DATA
    assert cache.clean() == 1
    assert cached(cache) == set()


def test_too_many_open_files(make: Make, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be opened now is not taken for a damaged one."""
    cache = make()
    image_id = filled(cache, registry)

    really = os.open

    def refuse(path: Any, *given: Any, **more: Any) -> int:
        if str(path).endswith(image_id):
            raise OSError(errno.EMFILE, "too many open files")
        return really(path, *given, **more)

    monkeypatch.setattr(os, "open", refuse)
    assert cache.open(registry.show(image_id, ADMIN), 0, 5) is None
    monkeypatch.undo()
    assert download(cache, registry, image_id) == DATA
    assert way(cache, registry, image_id) is CachedStream


def test_pruning_takes_what_was_not_used_for_longest(make: Make, registry: Registry) -> None:
    """Least recently used first, until the rest fits; its size is what the files take."""
    cache = make()
    ids = [filled(cache, registry, bytes(mixed_bytes(MIB, seed=seed)) + bytes(8 * MIB)) for seed in range(3)]
    for image_id in (ids[1], ids[0], ids[2]):
        time.sleep(0.01)
        download(cache, registry, image_id, 0, 1)
        cache.state()
    sizes = {image.image_id: image.stored_size for image in cache.rows.images()}
    assert max(sizes.values()) < 2 * MIB
    assert cache.prune() == (0, 0)
    small = make(image_cache_max_size=sizes[ids[0]] + sizes[ids[2]])
    assert small.prune() == (1, sizes[ids[1]])
    assert small.folder.images() == sorted([ids[0], ids[2]])
    assert make(image_cache_max_size=0).prune()[0] == 2
    assert cached(cache) == set()


def test_filling_prunes(make: Make, registry: Registry) -> None:
    """The cache stays small by itself; what can never fit is not written at all."""
    cache = make(image_cache_max_size=3 * MIB)
    first = filled(cache, registry, bytes(mixed_bytes(2 * MIB, seed=1)))
    second = filled(cache, registry, bytes(mixed_bytes(2 * MIB, seed=2)))
    wait_for(lambda: cached(cache) == {second})
    assert cache.folder.images() == [second]
    assert first != second
    large = stored(registry, os.urandom(4 * MIB))
    assert way(cache, registry, large) is ContentStream
    cache.enqueue(large)
    cache.begin()
    wait_for(lambda: cache.rows.images("queued") == [])
    assert cache.folder.images() == [second]


def test_cleaning(make: Make, registry: Registry, rows: ImageCache) -> None:
    """Files without rows, rows without files, damaged ends, links, deleted images and what the dead left all go."""
    cache = make()
    good, untold, missing, cut, deleted = (filled(cache, registry, b"%d" % number * 9999) for number in range(5))
    rows.drop(untold)
    (cache.folder.path / missing).unlink()
    os.truncate(cache.folder.path / cut, 100)
    registry.delete(deleted)
    (cache.folder.path / "00000000-0000-4000-8000-000000000000").symlink_to("/etc/hostname")
    (cache.folder.incomplete / f"{good}.0123456789abcdef").write_text("left by the dead")
    (cache.folder.path / "notes").write_text("mine")
    # A file whose writer is about to tell of it has its lock.
    lock = cache.folder.begin(told_soon := stored(registry), registry.show(told_soon, ADMIN).content_id, 1)  # type: ignore[arg-type]  # it has one
    assert lock is not None
    (cache.folder.path / told_soon).write_text("not looked at")
    cache.clean()
    assert cached(cache) == {good}
    assert cache.folder.images() == sorted([good, told_soon])
    assert (cache.folder.path / "notes").exists()
    lock.abandon()
    cache.clean()
    assert cache.folder.images() == [good]
    assert unfinished(cache) == []
    assert download(cache, registry, good) == b"0" * 9999


def test_an_image_that_others_deleted(make: Make, registry: Registry) -> None:
    """The next look of the node takes the file away, and the queue's entry too."""
    cache = make()
    image_id, queued = filled(cache, registry), stored(registry)
    cache.enqueue(queued)
    registry.delete(image_id)
    registry.delete(queued)
    assert cache.state() == []
    assert cache.folder.images() == []


def test_deleted_while_it_is_filled(make: Make, registry: Registry) -> None:
    """A file that is whole after its image went is not kept."""
    cache = make()
    image_id = stored(registry)
    stream = opened(cache, registry, image_id)
    while next(stream, None) is not None:
        pass
    registry.delete(image_id)
    cache.forget_quietly(image_id)
    stream.close()
    wait_for(lambda: unfinished(cache) == [])
    assert (cache.folder.images(), cache.rows.images()) == ([], [])


def test_what_is_asked_for_is_fetched(make: Make, registry: Registry) -> None:
    """A thread fetches it, also what other processes have asked for; again is harmless."""
    asking, fetching = make(), make()
    image_id = stored(registry)
    asking.enqueue(image_id)
    asking.enqueue(image_id)
    assert [(image.image_id, image.state) for image in asking.state()] == [(image_id, "queued")]
    fetching.begin()
    wait_for(lambda: cached(asking) == {image_id})
    assert way(asking, registry, image_id) is CachedStream
    asking.enqueue(image_id)
    assert [image.state for image in asking.state()] == ["cached"]


class Slow:
    """A registry whose streams wait between their parts, or fail."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.go = threading.Event()
        self.begun = threading.Event()
        self.errors: list[Exception] = []

    def stream(self, *given: Any) -> "Slow":
        if self.errors:
            raise self.errors.pop()
        self._stream = self._registry.stream(*given)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)

    def __iter__(self) -> "Slow":
        return self

    def __next__(self) -> bytes:
        part = next(self._stream)
        self.begun.set()
        assert self.go.wait(20)
        return part

    def close(self) -> None:
        self._stream.close()


@pytest.fixture
def slow(registry: Registry, rows: ImageCache, tmp_path: Path) -> Iterator[tuple[Slow, Caching]]:
    found = Slow(registry)
    cache = Caching(found, rows, CacheConfig(image_cache_dir=str(tmp_path / "cache")))  # type: ignore[arg-type]  # it does what is asked of it
    yield found, cache
    found.go.set()
    cache.stop()


@pytest.mark.parametrize("how", ["dropped", "deleted"])
def test_taken_from_the_queue_while_it_is_fetched(slow: tuple[Slow, Caching], registry: Registry, how: str) -> None:
    """Nobody wants it any more, so it is not kept."""
    source, cache = slow
    image_id = stored(registry)
    cache.enqueue(image_id)
    cache.begin()
    assert source.begun.wait(20)
    if how == "deleted":
        registry.delete(image_id)
    cache.forget(image_id)
    source.go.set()
    wait_for(lambda: unfinished(cache) == [])
    assert (cache.folder.images(), cache.rows.images()) == ([], [])


def test_stopped_while_it_fetches(slow: tuple[Slow, Caching], registry: Registry) -> None:
    """A stop does not wait for all of an image; what was queued stays so, and nothing half done is left."""
    source, cache = slow
    image_id = stored(registry)
    cache.enqueue(image_id)
    cache.begin()
    assert source.begun.wait(20)
    stopper = threading.Thread(target=cache.stop)
    stopper.start()
    source.go.set()
    stopper.join(20)
    assert not stopper.is_alive()
    assert [image.state for image in cache.rows.images()] == ["queued"]
    assert unfinished(cache) == []


def test_a_fetch_that_fails(slow: tuple[Slow, Caching], registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may go better later is tried again; damage is not; an image that is not active is forgotten."""
    monkeypatch.setattr(caching, "RETRY_AFTER_S", 0.0)
    monkeypatch.setattr(caching, "LOOK_EVERY_S", 0.05)
    source, cache = slow
    source.go.set()
    source.errors = [BackendUnavailableError("s3", "slow down"), OSError(errno.EIO, "disk")]
    first = stored(registry)
    cache.enqueue(first)
    cache.begin()
    wait_for(lambda: cached(cache) == {first})
    source.errors = [DamageError("lost")]
    lost, off = stored(registry), stored(registry)
    cache.enqueue(lost)
    wait_for(lambda: cache.rows.images("queued") == [])
    source.errors = [BackendUnavailableError("s3", "slow down")] * 5
    cache.enqueue(off)
    registry.deactivate(off)
    wait_for(lambda: cache.rows.images("queued") == [])
    assert cached(cache) == {first}


def test_a_slow_client_does_not_hold_others_up(make: Make, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others want while somebody takes it slowly is fetched by the server itself."""
    cache = make()
    cache.begin()
    image_id = stored(registry)
    stream = opened(cache, registry, image_id)
    next(stream)
    assert download(cache, registry, image_id) == DATA
    assert cache.rows.images() == []
    monkeypatch.setattr(caching, "SLOW_FILL_S", -1.0)
    assert download(cache, registry, image_id) == DATA
    wait_for(lambda: cached(cache) == {image_id})
    stream.close()
    assert download(cache, registry, image_id) == DATA


def test_clearing(make: Make, registry: Registry) -> None:
    """The cache and the queue are emptied apart; of the cache also what no row tells."""
    cache = make()
    first, second, queued = filled(cache, registry), filled(cache, registry, b"x"), stored(registry)
    cache.enqueue(queued)
    cache.rows.drop(second)
    assert cache.clear("queued") == 1
    assert cached(cache) == {first}
    cache.enqueue(queued)
    assert cache.clear("cached") == 2
    assert [image.image_id for image in cache.state()] == [queued]
    assert cache.folder.images() == []


def test_names_of_nodes() -> None:
    """Two folders of a machine have two names; a name that is given counts; a long path has a name that fits."""
    one, other = (node_of(CacheConfig(image_cache_dir=path)) for path in ("/cache/1", "/cache/2"))
    assert one != other
    assert node_of(CacheConfig(image_cache_dir="/c", worker_self_reference_url="http://a:9292")) == "http://a:9292"
    long = [node_of(CacheConfig(image_cache_dir="/" + "x/" * 200 + end)) for end in "ab"]
    assert len(set(long)) == 2
    assert max(len(name) for name in long) <= 255
