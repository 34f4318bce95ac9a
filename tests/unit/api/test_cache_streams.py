"""Downloads out of a cached file with memory in front of it: right bytes, checked once."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from casimg.constants import SEGMENT_SIZE
from casimg.ids import new_content_id
from casimg.kept import KeptSegments
from casimg_api.cache_streams import CachedStream, Parts, Views
from casimg_api.cached_file import BLOCK_SIZE, CachedFile, CachedFileError, CachedFileWriter
from tests.conftest import mixed_bytes

_DATA = bytes(mixed_bytes(2 * SEGMENT_SIZE, seed=9)) + bytes(2 * SEGMENT_SIZE) + bytes(BLOCK_SIZE) + b"end"
_PLENTY = (8 << 30, 16 << 30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of the cache: two segments, two of zeros, and a bit."""
    made = tmp_path / "cached"
    with made.open("xb") as file:
        writer = CachedFileWriter(file.fileno(), new_content_id(), len(_DATA))
        for at in range(0, len(_DATA), BLOCK_SIZE):
            writer.write(_DATA[at : at + BLOCK_SIZE])
        writer.finish()
    return made


@pytest.fixture
def kept() -> KeptSegments:
    return KeptSegments(64 << 20, free_size=lambda: _PLENTY)


def _unwanted(error: CachedFileError, _start: int, _end: int) -> Parts:
    raise error


def _read(path: Path, kept: KeptSegments, start: int = 0, end: int = len(_DATA)) -> bytes:
    """Read a range both ways, which must give the same."""
    with closing(CachedStream(CachedFile(path), start, end, _unwanted, kept)) as stream:
        assert isinstance(stream, Views)
        found = b"".join(bytes(part) for part in stream.views())
    with closing(CachedStream(CachedFile(path), start, end, _unwanted, kept)) as again:
        assert b"".join(again) == found
    return found


def _take(stream: CachedStream, found: bytearray) -> None:
    for part in stream:
        found += part


def test_what_was_checked_once_is_sent_from_memory(path: Path, kept: KeptSegments) -> None:
    """A file is read and hashed once; after that its bytes are not needed, whole or in ranges; zeros take no memory."""
    assert _read(path, kept) == _DATA
    assert kept.size == 3 * SEGMENT_SIZE
    with path.open("r+b") as file:  # what it says of itself stays, its bytes go
        file.write(os.urandom(SEGMENT_SIZE))
    for start, end in (
        (0, len(_DATA)),
        (1000, 2 * SEGMENT_SIZE - 1),
        (SEGMENT_SIZE - 1, SEGMENT_SIZE + 1),
        (4 * SEGMENT_SIZE + 5, len(_DATA)),
        (3, 3),
    ):
        assert _read(path, kept, start, end) == _DATA[start:end]
    assert kept.size == 3 * SEGMENT_SIZE


def test_parts_of_segments_are_not_kept(path: Path, kept: KeptSegments) -> None:
    """A range that has no whole segment leaves nothing in memory."""
    assert _read(path, kept, 1, 2 * SEGMENT_SIZE - 1) == _DATA[1 : 2 * SEGMENT_SIZE - 1]
    assert kept.size == 0


def test_damage_is_never_kept(path: Path, kept: KeptSegments) -> None:
    """A damaged block ends the segment before it is kept; what came before it was right."""
    with path.open("r+b") as file:
        file.seek(SEGMENT_SIZE + 3 * BLOCK_SIZE)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    found = bytearray()
    stream = CachedStream(CachedFile(path), 0, len(_DATA), _unwanted, kept)
    with pytest.raises(CachedFileError):
        _take(stream, found)
    stream.close()
    assert found == _DATA[: SEGMENT_SIZE + 3 * BLOCK_SIZE]
    assert kept.size == SEGMENT_SIZE


def test_without_memory_every_read_is_checked(path: Path) -> None:
    """A server that may keep nothing finds damage at the next read."""
    nothing = KeptSegments()
    assert _read(path, nothing) == _DATA
    with path.open("r+b") as file:
        file.write(os.urandom(100))
    with pytest.raises(CachedFileError):
        CachedStream(CachedFile(path), 0, 10, _unwanted, nothing)
