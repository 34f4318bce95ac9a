"""Any range of any content comes out of a stream as it was put in, whatever else is read at the same time."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import casimg
from casimg.assemble import ContentReader
from casimg.constants import MIB, SEGMENT_SIZE
from casimg.pieces import pieces
from casimg.read_ahead import ReadAhead
from casimg.repository import Repository
from casimg.streaming import PART_SIZE, ContentStream
from tests.conftest import mixed_bytes

_SIZE = 3 * SEGMENT_SIZE + SEGMENT_SIZE // 2 + 777
_DATA = (
    bytes(mixed_bytes(SEGMENT_SIZE)) + bytes(SEGMENT_SIZE + MIB) + bytes(mixed_bytes(_SIZE - 2 * SEGMENT_SIZE - MIB))
)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A repository with one image of data, a hole longer than a segment, and data up to a crooked end."""
    folder: Path = tmp_path_factory.mktemp("streams")
    with casimg.create(folder / "repository") as repo:
        repo.put([_DATA], name="a")
        yield repo


def _reader(repo: Repository) -> ContentReader:
    content_id = repo._wiring.catalog.find("a").content_id
    assert content_id is not None
    return repo._wiring.reader(content_id)


@given(
    start=st.one_of(st.integers(0, _SIZE), st.sampled_from([0, SEGMENT_SIZE - 1, SEGMENT_SIZE, 2 * SEGMENT_SIZE])),
    size=st.one_of(st.integers(0, _SIZE), st.sampled_from([0, 1, PART_SIZE, SEGMENT_SIZE, SEGMENT_SIZE + 1])),
    threads=st.integers(1, 3),
    extra_count=st.integers(0, 3),
)
def test_a_range_is_what_was_put(stored: Repository, start: int, size: int, threads: int, extra_count: int) -> None:
    """Parts joined are the bytes of the range, for any threads and buffers, and every part is one for a socket."""
    end = min(_SIZE, start + size)
    ahead = ReadAhead(threads, extra_count)
    stream = ContentStream(_reader(stored), ahead, start, end)
    try:
        parts = list(stream)
    finally:
        stream.close()
        ahead.close()
    assert b"".join(parts) == _DATA[start:end]
    assert stream.size == end - start
    assert all(isinstance(part, bytes) and 0 < len(part) <= PART_SIZE for part in parts)
    assert ahead.extra_used_count == 0


@given(start=st.integers(0, _SIZE), size=st.integers(0, _SIZE))
def test_pieces_cover_a_range(stored: Repository, start: int, size: int) -> None:
    """Pieces follow each other without a gap, within one segment each unless they are zeros."""
    end = min(_SIZE, start + size)
    at = start
    for piece in pieces(_reader(stored), start, end):
        assert piece.size > 0
        if piece.leaf is not None:
            assert piece.number * SEGMENT_SIZE + piece.start == at
            assert piece.start + piece.size <= SEGMENT_SIZE
        at += piece.size
    assert at == end if start < end else at == start


def test_many_streams_at_once_read_right(stored: Repository) -> None:
    """Streams that share threads and buffers do not mix their bytes."""
    ahead = ReadAhead(2, 3)
    found: dict[int, bool] = {}

    def read(number: int) -> None:
        start, end = number * 100_003, _SIZE - number * 70_001
        stream = ContentStream(_reader(stored), ahead, start, end)
        try:
            found[number] = b"".join(stream) == _DATA[start:end]
        finally:
            stream.close()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ahead.close()
    assert found == dict.fromkeys(range(12), True)
    assert ahead.extra_used_count == 0
