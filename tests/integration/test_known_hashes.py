"""Uploads of what is known, in whole or in part: their hashes are always those of the bytes, hashed anew or not."""

import hashlib
import io
import random
import threading
from collections.abc import Iterator
from itertools import chain

import pytest

from casimg.constants import SEGMENT_SIZE
from casimg.errors import CancelledError, DamageError
from casimg.frames import FrameCache
from casimg.hashing import PassHashes
from casimg.ids import ImageId
from casimg.registry import ImageRow, NewEntry, Registry, Viewer
from casimg.repository import Repository
from tests.conftest import mixed_bytes
from tests.fault.damage import damage, packs_of

ADMIN = Viewer(None, is_admin=True)
_DATA = bytes(mixed_bytes(4 * SEGMENT_SIZE + 4321, seed=3))


@pytest.fixture
def registry(repo: Repository) -> Registry:
    return repo.registry()


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all that is hashed from now on."""
    sizes: list[int] = []
    give = PassHashes.give

    def watched(hashes: PassHashes, part: bytes | memoryview) -> None:
        sizes.append(len(part))
        give(hashes, part)

    monkeypatch.setattr(PassHashes, "give", watched)
    return sizes


def parts(data: bytes, size: int = 1_000_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def uploaded(registry: Registry, data: bytes, size: int | None = None) -> ImageRow:
    """Upload bytes to a new image and hold what comes of it against them."""
    row = registry.upload(registry.create(NewEntry(name="image")).id, parts(data), size=size)
    right(registry, row, data)
    return row


def right(registry: Registry, row: ImageRow, data: bytes) -> None:
    assert row.status == "active"
    assert row.hashes == {"md5": hashlib.md5(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()}
    with registry.open_image(row.id) as file:
        assert file.read() == data


@pytest.mark.parametrize("size", [len(_DATA), SEGMENT_SIZE, 2 * SEGMENT_SIZE, 1000])
@pytest.mark.parametrize("is_said", [True, False])
def test_a_known_content_is_not_hashed(registry: Registry, hashed: list[int], size: int, is_said: bool) -> None:
    """Sent again, with its size or without, a content takes over the hashes of the one that is there."""
    data = _DATA[:size]
    uploaded(registry, data)
    assert sum(hashed) == size
    hashed.clear()
    uploaded(registry, data, size if is_said else None)
    assert hashed == []


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("is_said", [True, False])
def test_one_segment_differs(registry: Registry, hashed: list[int], at: int, is_said: bool) -> None:
    """Wherever the first new byte is, in the first segment, the middle or the last: all is hashed, and once."""
    uploaded(registry, _DATA)
    hashed.clear()
    changed = bytearray(_DATA)
    changed[min(at * SEGMENT_SIZE + 4000, len(_DATA) - 1)] ^= 1
    uploaded(registry, bytes(changed), len(_DATA) if is_said else None)
    assert sum(hashed) == len(_DATA)


@pytest.mark.parametrize("is_said", [True, False])
def test_a_beginning_and_more(registry: Registry, is_said: bool) -> None:
    """A part of a content, and one with something behind it, are others than it."""
    uploaded(registry, _DATA)
    for data in (
        _DATA[: 2 * SEGMENT_SIZE],
        _DATA[: 3 * SEGMENT_SIZE + 5],
        _DATA[:-1],
        _DATA + b"x",
        _DATA + bytes(SEGMENT_SIZE),
    ):
        uploaded(registry, data, len(data) if is_said else None)


def test_known_segments_in_another_order(registry: Registry, hashed: list[int]) -> None:
    """Segments that are all known make no known content: what was not hashed while it came is hashed in the end."""
    uploaded(registry, _DATA)
    segments = [_DATA[at * SEGMENT_SIZE : (at + 1) * SEGMENT_SIZE] for at in range(4)]
    random.Random(1).shuffle(segments)
    data = b"".join(segments) + _DATA[4 * SEGMENT_SIZE :]
    hashed.clear()
    uploaded(registry, data, len(data))
    assert sum(hashed) == len(data)


@pytest.mark.parametrize("is_said", [True, False])
def test_zeros(registry: Registry, hashed: list[int], is_said: bool) -> None:
    """Zeros at the beginning, at the end and throughout are bytes like others."""
    size = 3 * SEGMENT_SIZE + 7
    zeros = bytes(size)
    uploaded(registry, zeros)
    hashed.clear()
    uploaded(registry, zeros, size if is_said else None)
    assert hashed == []
    for data in (zeros[:-1], zeros + b"\0", zeros[:-1] + b"x", bytes(2 * SEGMENT_SIZE) + b"x" * (SEGMENT_SIZE + 7)):
        uploaded(registry, data, len(data) if is_said else None)


def test_a_content_without_hashes(repo: Repository, registry: Registry) -> None:
    """What the command line has put has no hashes to take over."""
    repo.put(io.BytesIO(_DATA), name="put")
    for size in (len(_DATA), None):
        uploaded(registry, _DATA, size)


def test_nothing_at_all(registry: Registry) -> None:
    """An empty content has the hashes of nothing, however often."""
    for size in (None, 0, 0):
        uploaded(registry, b"", size)


def test_staged_data(registry: Registry, hashed: list[int]) -> None:
    """What is kept aside and imported takes over hashes too, and gives its own on."""
    for number in range(2):
        image_id = registry.create(NewEntry(name=f"staged-{number}")).id
        registry.stage(image_id, parts(_DATA), size=len(_DATA))
        right(registry, registry.import_staged(image_id), _DATA)
    assert sum(hashed) == len(_DATA)


@pytest.mark.parametrize("is_equal", [True, False])
def test_what_is_known_goes_meanwhile(repo: Repository, registry: Registry, is_equal: bool) -> None:
    """The image that the bytes are known from is deleted and collected in the middle: nothing is lost or wrong."""
    row = uploaded(registry, _DATA)
    data = _DATA if is_equal else _DATA[:-1] + b"x"

    def sent() -> Iterator[bytes]:
        yield data[: 3 * SEGMENT_SIZE]
        registry.delete(row.id)
        repo.plan_gc().execute()
        yield data[3 * SEGMENT_SIZE :]

    again = registry.upload(registry.create(NewEntry(name="again")).id, sent(), size=len(data))
    right(registry, again, data)
    repo.plan_gc().execute()
    right(registry, again, data)
    assert repo.check(read_data=True).problems == ()


def test_many_at_once(registry: Registry) -> None:
    """Known ones, new ones and ones that differ late, all at the same time."""
    uploaded(registry, _DATA)
    wanted = [_DATA if number % 3 == 0 else _DATA[: -number - 1] + b"x" * (number + 1) for number in range(9)]
    ids = [registry.create(NewEntry(name=f"image-{number}")).id for number in range(9)]

    def upload(number: int) -> None:
        registry.upload(ids[number], parts(wanted[number]), size=len(_DATA))

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for image_id, data in zip(ids, wanted, strict=True):
        right(registry, registry.show(image_id, ADMIN), data)


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("casimg-")}


def test_what_was_known_cannot_be_read_back(repo: Repository, registry: Registry) -> None:
    """A beginning that is damaged in the repository fails the upload; the next try does without it."""
    row = uploaded(registry, _DATA)
    data = _DATA[:-1] + b"x"

    def sent() -> Iterator[bytes]:
        yield data[: 4 * SEGMENT_SIZE]
        for path in packs_of(repo, row.id, 0).values():
            damage(path, "zero", random.Random(1))
        repo._wiring.frames = FrameCache()
        yield data[4 * SEGMENT_SIZE :]

    image_id = registry.create(NewEntry(name="again")).id
    with pytest.raises(DamageError):
        registry.upload(image_id, sent(), size=len(data))
    assert registry.show(image_id, ADMIN).status == "queued"
    assert not _threads() & {"casimg-md5", "casimg-sha512", "casimg-read-back"}
    again = registry.upload(image_id, parts(data), size=len(data))
    assert again.hashes["md5"] == hashlib.md5(data).hexdigest()


@pytest.mark.parametrize("how", ["breaks", "cancelled"])
def test_an_upload_that_ends_while_it_is_read_back(registry: Registry, how: str) -> None:
    """A client that goes, and an upload that is called off: the image is queued again, and no thread is left."""
    uploaded(registry, _DATA)
    cancel = threading.Event()
    new = bytes(mixed_bytes(SEGMENT_SIZE, seed=9))

    def sent() -> Iterator[bytes]:
        yield from chain(parts(_DATA[: 4 * SEGMENT_SIZE]), [new] * 20)
        if how == "breaks":
            raise RuntimeError("gone")
        cancel.set()
        yield from [new] * 40

    image_id: ImageId = registry.create(NewEntry(name="again")).id
    with pytest.raises(RuntimeError if how == "breaks" else CancelledError):
        registry.upload(image_id, sent(), cancel=cancel)
    assert registry.show(image_id, ADMIN).status == "queued"
    assert not _threads() & {"casimg-md5", "casimg-sha512", "casimg-read-back"}
    right(registry, registry.upload(image_id, [_DATA]), _DATA)
