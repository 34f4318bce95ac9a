"""Streams of stored images: what they hold while they are read, and what they let go of."""

import threading
import time
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest

import casimg
from casimg import streaming
from casimg.assemble import ContentReader
from casimg.catalog import reading
from casimg.constants import SEGMENT_SIZE
from casimg.errors import DamageError, ImageNotFoundError
from casimg.formats.node import Leaf
from casimg.frames import FrameCache
from casimg.ids import ImageId
from casimg.kept import KeptSegment, KeptSegments
from casimg.pieces import pieces, read_piece
from casimg.read_ahead import ReadAhead
from casimg.registry import Registry, Viewer
from casimg.repository import Repository
from casimg.streaming import ContentStream
from tests.conftest import mixed_bytes

_ADMIN = Viewer(None, is_admin=True)
_DATA = bytes(mixed_bytes(6 * SEGMENT_SIZE + 99))
_DATA_SIZE = 6 * SEGMENT_SIZE
"""Bytes of its segments that are not zeros throughout."""


@pytest.fixture
def registry(repo: Repository) -> Registry:
    """The registry of a repository with an image of seven segments."""
    repo.put([_DATA], name="a")
    return repo.registry()


def _id(repo: Repository) -> ImageId:
    return repo._wiring.catalog.find("a").id


def _plenty() -> tuple[int, int]:
    """Of memory, whatever the machine has."""
    return 8 << 30, 16 << 30


def _keep(repo: Repository) -> None:
    """Let streams keep what they read."""
    repo._wiring.shared.kept._free_size = _plenty
    repo.registry().keep(64 << 20)


def _lease_count(repo: Repository) -> int:
    wiring = repo._wiring
    content_id = wiring.catalog.image(_id(repo)).content_id
    assert content_id is not None
    return wiring.catalog.read(lambda connection: reading.lease_count(connection, [content_id]))


def test_a_stream_holds_a_lease_until_it_is_closed(repo: Repository, registry: Registry) -> None:
    """What is being read is leased; closing in the middle, or after the end, gives it free, and twice is harmless."""
    row = registry.show(_id(repo), _ADMIN)
    assert _lease_count(repo) == 0
    stream = registry.stream(row)
    next(stream)
    assert _lease_count(repo) == 1
    stream.close()
    stream.close()
    assert _lease_count(repo) == 0
    whole = registry.stream(row)
    assert b"".join(whole) == _DATA
    whole.close()
    assert _lease_count(repo) == 0


def test_an_image_deleted_and_collected_while_it_is_read_is_read_to_its_end(
    repo: Repository, registry: Registry
) -> None:
    """A delete and a collection in the middle of a stream take nothing from it, and a new stream is refused."""
    row = registry.show(_id(repo), _ADMIN)
    stream = registry.stream(row)
    parts = [next(stream)]
    registry.delete(row.id)
    repo.plan_gc().execute()
    parts.extend(stream)
    stream.close()
    assert b"".join(parts) == _DATA
    repo.plan_gc().execute()
    with pytest.raises(ImageNotFoundError):
        registry.stream(row)


def test_a_short_range_is_all_there_before_its_first_byte_and_holds_nothing(
    repo: Repository, registry: Registry
) -> None:
    """Two segments at most: no lease, and a delete and a collection after `begin` take nothing from it."""
    row = registry.show(_id(repo), _ADMIN)
    start, end = SEGMENT_SIZE - 1000, SEGMENT_SIZE + 2000
    stream = registry.stream(row, start, end)
    stream.begin()
    assert _lease_count(repo) == 0
    registry.delete(row.id)
    repo.plan_gc().execute()
    assert b"".join(stream) == _DATA[start:end]
    stream.close()


def test_a_short_range_of_a_collected_image_is_refused(repo: Repository, registry: Registry) -> None:
    """What a reader knew from before does not bring back what is gone: not found, by `begin`."""
    row = registry.show(_id(repo), _ADMIN)
    for _ in range(2):
        with closing(registry.stream(row, 5, 1000)) as stream:
            assert b"".join(stream) == _DATA[5:1000]
    registry.delete(row.id)
    repo.plan_gc().execute()
    repo._wiring.frames = FrameCache()
    repo._wiring._readers[row.content_id][1]._cache = FrameCache()  # type: ignore[index]
    with (
        closing(registry.stream(row, 5 * SEGMENT_SIZE, 5 * SEGMENT_SIZE + 9)) as late,
        pytest.raises(ImageNotFoundError),
    ):
        late.begin()


def test_a_short_range_without_buffers_is_under_a_lease(repo: Repository, registry: Registry) -> None:
    """When others have the buffers, what is not there by `begin` is held as that of any stream."""
    row = registry.show(_id(repo), _ADMIN)
    ahead = repo._wiring.read_ahead(2)
    ahead._extra_count = 0
    stream = registry.stream(row, SEGMENT_SIZE - 1000, SEGMENT_SIZE + 2000)
    stream.begin()
    assert _lease_count(repo) == 1
    assert b"".join(stream) == _DATA[SEGMENT_SIZE - 1000 : SEGMENT_SIZE + 2000]
    stream.close()
    assert _lease_count(repo) == 0


def test_what_was_read_is_kept_and_read_no_more(repo: Repository, registry: Registry) -> None:
    """With memory, a second read of the same bytes, also of another image that has them, needs no pack."""
    _keep(repo)
    row = registry.show(_id(repo), _ADMIN)
    with closing(registry.stream(row)) as stream:
        assert b"".join(stream) == _DATA
    assert repo._wiring.shared.kept.size == _DATA_SIZE
    repo.put([_DATA[: 2 * SEGMENT_SIZE] + b"other"], name="b")
    other = repo._wiring.catalog.find("b")
    with closing(registry.stream(other, 2 * SEGMENT_SIZE)) as rest:  # its nodes are read too
        assert b"".join(rest) == b"other"
    for pack in (repo.path / "objects" / "packs").rglob("*"):
        if pack.is_file():
            pack.unlink()
    with closing(registry.stream(row)) as again:
        assert b"".join(again) == _DATA
    with closing(registry.stream(other, 100, 2 * SEGMENT_SIZE)) as start:
        assert b"".join(start) == _DATA[100 : 2 * SEGMENT_SIZE]


def test_of_many_at_once_one_reads(repo: Repository, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight streams of one image at the same time decode each segment once, and all get the right bytes."""
    _keep(repo)
    row = registry.show(_id(repo), _ADMIN)
    read: list[int] = []

    def counted(reader: ContentReader, leaf: Leaf, start: int, view: memoryview, *, by_runs: bool = False) -> None:
        read.append(len(view))
        time.sleep(0.02)  # so that all want it meanwhile
        read_piece(reader, leaf, start, view, by_runs=by_runs)

    monkeypatch.setattr(streaming, "read_piece", counted)
    got = [bytearray() for _ in range(8)]
    together = threading.Barrier(8)

    def take(into: bytearray) -> None:
        with closing(registry.stream(row)) as stream:
            together.wait()
            _take_all(stream, into)

    threads = [threading.Thread(target=take, args=(into,)) for into in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(into == _DATA for into in got)
    assert sum(read) == _DATA_SIZE


def test_who_waits_for_another_reads_itself_when_that_one_goes_away(repo: Repository, registry: Registry) -> None:
    """A stream that is closed, or that fails, while others wait for what it reads costs them nothing but time."""
    reader = _reader(repo)
    ahead = ReadAhead(1, kept=KeptSegments(64 << 20, free_size=_plenty))
    held = threading.Event()

    def busy() -> None:
        held.wait()

    ahead.submit(busy)  # the only thread
    first = ContentStream(reader, ahead, 0, SEGMENT_SIZE)
    second = ContentStream(reader, ahead, 0, SEGMENT_SIZE)
    first._read_on()
    second._read_on()
    assert [one._running[0].is_joined for one in (first, second)] == [False, True]
    first.close()
    held.set()
    assert b"".join(second) == _DATA[:SEGMENT_SIZE]
    second.close()
    failing: Future[KeptSegment | None] = Future()
    ahead.kept.resize(64 << 20)
    leaf = next(iter(pieces(reader, 0, 1))).leaf
    assert leaf is not None
    ahead._led[leaf] = failing
    third = ContentStream(reader, ahead, 0, SEGMENT_SIZE)
    third._read_on()
    assert third._running[0].is_joined
    failing.set_exception(DamageError("gone"))
    assert b"".join(third) == _DATA[:SEGMENT_SIZE]
    third.close()
    ahead.close()
    assert ahead.extra_used_count == 0
    assert set(ahead._led) == {leaf}


def test_damage_is_not_kept(repo: Repository, registry: Registry) -> None:
    """A segment that cannot be read leaves nothing behind; once it can be read again, it is read and kept."""
    _keep(repo)
    row = registry.show(_id(repo), _ADMIN)
    pack = max((repo.path / "objects" / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    good = pack.read_bytes()
    pack.chmod(0o600)
    pack.write_bytes(bytes(len(good)))
    with closing(registry.stream(row)) as stream, pytest.raises(DamageError):
        stream.begin()
    assert repo._wiring.shared.kept.size == 0
    pack.write_bytes(good)
    with closing(registry.stream(row)) as stream:
        assert b"".join(stream) == _DATA
    assert repo._wiring.shared.kept.size == _DATA_SIZE


def test_views_are_the_bytes(repo: Repository, registry: Registry) -> None:
    """Without a copy the same bytes come, read for the first time or kept, and holes too."""
    data = _DATA[:SEGMENT_SIZE] + bytes(3 * SEGMENT_SIZE) + _DATA[: SEGMENT_SIZE + 17]
    repo.put([data], name="holes")
    row = repo._wiring.catalog.find("holes")
    _keep(repo)
    for _ in range(2):
        for start, end in ((0, len(data)), (17, len(data) - 1), (SEGMENT_SIZE - 1, 4 * SEGMENT_SIZE + 1)):
            got = bytearray()
            with closing(registry.stream(row, start, end)) as stream:
                for part in stream.views():
                    got += part
            assert got == data[start:end]


def test_streams_share_buffers_and_each_has_one() -> None:
    """Extra buffers are bounded over all holders; the first of a holder is never refused; given back they are there."""
    ahead = ReadAhead(1, 2)
    firsts = [ahead.take(0) for _ in range(5)]
    extras = [ahead.take(1), ahead.take(2)]
    assert None not in firsts + extras
    assert ahead.take(1) is None
    assert extras[0] is not None
    ahead.give(extras[0], 1)
    assert ahead.take(1) is extras[0]
    assert ahead.take(0) is not None
    ahead.close()


def test_slow_streams_hold_one_segment_each(repo: Repository, registry: Registry) -> None:
    """Twenty streams that nobody reads on hold a segment each and the shared extra ones, however long they wait."""
    reader = _reader(repo)
    ahead = ReadAhead(2, 3)
    streams = [ContentStream(reader, ahead, 0, len(_DATA)) for _ in range(20)]
    for stream in streams:
        next(stream)
    assert ahead.extra_used_count == 3
    assert b"".join(streams[7]) == _DATA[256 << 10 :]  # one that is read goes on
    for stream in streams:
        stream.close()
    ahead.close()
    assert ahead.extra_used_count == 0


def test_what_is_wrong_with_the_first_part_is_told_before_it_is_sent(repo: Repository, registry: Registry) -> None:
    """`begin` raises damage of the first segment; damage further on is raised where it is, and no wrong byte before."""
    reader = _reader(repo)
    ahead = ReadAhead(2)
    pack = max((repo.path / "objects" / "packs").rglob("*"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = bytes(4096)
    pack.chmod(0o600)
    pack.write_bytes(data)
    stream = ContentStream(reader, ahead, 0, len(_DATA))
    got = bytearray()
    with pytest.raises(DamageError):
        _take_all(stream, got)
    stream.close()
    assert bytes(got) == _DATA[: len(got)]
    begun = ContentStream(reader, ahead, len(got), len(_DATA))
    with pytest.raises(DamageError):
        begun.begin()
    begun.close()
    ahead.close()
    assert ahead.extra_used_count == 0


def test_closing_while_segments_are_read_gives_all_buffers_back(repo: Repository, registry: Registry) -> None:
    """A client that goes away leaves no buffer behind, also those that a thread was filling."""
    ahead = ReadAhead(2)
    for _ in range(10):
        stream = ContentStream(_reader(repo), ahead, 0, len(_DATA))
        stream.begin()
        stream.close()
    ahead.close()
    assert ahead.extra_used_count == 0
    assert threading.active_count() < 50


def test_a_range_outside_of_the_content_is_refused(repo: Repository, registry: Registry) -> None:
    """Ranges are checked by who asks; a stream takes none that is not within the content."""
    row = registry.show(_id(repo), _ADMIN)
    for start, end in ((-1, 5), (5, 4), (0, len(_DATA) + 1)):
        with pytest.raises(ValueError, match="not within"):
            registry.stream(row, start, end)
    assert _lease_count(repo) == 0


def test_an_image_of_no_bytes_is_an_empty_stream(tmp_path: Path) -> None:
    """No bytes are no parts."""
    with casimg.create(tmp_path / "r") as repo:
        repo.put([b""], name="a")
        stream = repo.registry().stream(repo._wiring.catalog.find("a"))
        stream.begin()
        assert list(stream) == []
        stream.close()


def _reader(repo: Repository) -> ContentReader:
    content_id = repo._wiring.catalog.find("a").content_id
    assert content_id is not None
    return repo._wiring.reader(content_id)


def _take_all(stream: ContentStream, got: bytearray) -> None:
    for part in stream:
        got += part
