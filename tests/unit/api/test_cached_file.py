"""Files of the cache: what was written is read, in any range, and nothing else is ever taken for it."""

import os
import random
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casimg.ids import ContentId
from casimg_api.cached_file import BLOCK_SIZE, CachedFile, CachedFileError, CachedFileWriter
from tests.conftest import mixed_bytes

CONTENT = ContentId("0123456789abcdef" * 2)
DATA = bytes(mixed_bytes(BLOCK_SIZE + 70_000)) + bytes(2 * BLOCK_SIZE) + bytes(mixed_bytes(BLOCK_SIZE + 1, seed=2))
SIZE = len(DATA)
TAIL_SIZE = 32 * 5 + 96


def written(path: Path, data: bytes = DATA, part_size: int = BLOCK_SIZE) -> int:
    """Write a file of the cache in parts; returns what it takes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    try:
        writer = CachedFileWriter(fd, CONTENT, len(data))
        for at in range(0, len(data), part_size):
            writer.write(data[at : at + part_size])
        return writer.finish()
    finally:
        os.close(fd)


def read(path: Path, start: int = 0, end: int | None = None) -> bytes:
    file = CachedFile(path)
    try:
        return b"".join(file.parts(start, file.size if end is None else end))
    finally:
        file.close()


@pytest.mark.parametrize("part_size", [1000, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE, SIZE])
def test_what_was_written_is_read(tmp_path: Path, part_size: int) -> None:
    """However the bytes came, they are all there, with the content's id and their number."""
    written(tmp_path / "file", part_size=part_size)
    assert read(tmp_path / "file") == DATA
    file = CachedFile(tmp_path / "file")
    assert (file.size, file.content_id) == (SIZE, CONTENT)
    file.close()


def test_zeros_take_no_room(tmp_path: Path) -> None:
    """Blocks of zeros are holes: a disk that is mostly empty costs what is on it."""
    stored_size = written(tmp_path / "file", bytes(64 * BLOCK_SIZE) + b"end")
    assert stored_size < 4096
    assert os.stat(tmp_path / "file").st_blocks * 512 <= 16384
    assert read(tmp_path / "file", 64 * BLOCK_SIZE - 3) == bytes(3) + b"end"


def test_no_bytes(tmp_path: Path) -> None:
    """An image without bytes has a file too."""
    written(tmp_path / "file", b"")
    assert read(tmp_path / "file") == b""


@settings(max_examples=60)
@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_any_range(tmp_path_factory: pytest.TempPathFactory, one: int, other: int) -> None:
    """A range is those bytes, wherever it begins and ends."""
    path = tmp_path_factory.getbasetemp() / "ranges"
    if not path.exists():
        written(path)
    start, end = sorted((one, other))
    assert read(path, start, end) == DATA[start:end]


def test_a_flipped_bit_is_never_read(tmp_path: Path) -> None:
    """Whichever bit flips in what is stored, the read fails, and gives only right bytes before that."""
    path = tmp_path / "file"
    written(path)
    whole = bytearray(path.read_bytes())
    rng = random.Random(1)
    holes = range(2 * BLOCK_SIZE, 3 * BLOCK_SIZE)
    places = [0, BLOCK_SIZE, SIZE - 1, *range(SIZE, len(whole)), *(rng.randrange(SIZE) for _ in range(30))]
    for place in places:
        if place in holes:  # never read: they are known to be zeros
            continue
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        found = b""
        with pytest.raises(CachedFileError):  # noqa: PT012 - what came before the error is looked at
            file = CachedFile(path)
            for part in file.parts(0, SIZE):
                found += part
        assert DATA.startswith(found)


def test_garbage_in_a_hole_is_not_read(tmp_path: Path) -> None:
    """Zeros are told by the end of the file: what lies in their place does not count."""
    path = tmp_path / "file"
    written(path)
    with path.open("r+b") as file:
        file.seek(2 * BLOCK_SIZE + 5)
        file.write(b"garbage")
    assert read(path) == DATA


@pytest.mark.parametrize("left", [0, 1, TAIL_SIZE - 1, TAIL_SIZE, BLOCK_SIZE, SIZE, SIZE + TAIL_SIZE - 1])
def test_a_file_that_was_cut(tmp_path: Path, left: int) -> None:
    """What a power loss left of a file is no file."""
    path = tmp_path / "file"
    written(path)
    os.truncate(path, left)
    with pytest.raises(CachedFileError):
        CachedFile(path)


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    """Bytes that are gone are an error, not an end."""
    path = tmp_path / "file"
    written(path)
    file = CachedFile(path)
    os.truncate(path, 1000)
    with pytest.raises(CachedFileError):
        list(file.parts(0, SIZE))
    file.close()


def test_sizes_that_cannot_be(tmp_path: Path) -> None:
    """A footer that claims a huge image is refused before anything of that size is asked for."""
    path = tmp_path / "file"
    written(path, b"x" * 100)
    whole = bytearray(path.read_bytes())
    at = len(whole) - 32 - 32 - 16
    whole[at : at + 8] = (1 << 63).to_bytes(8, "little")
    path.write_bytes(whole)
    with pytest.raises(CachedFileError):
        CachedFile(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    """Links are not followed, pipes are not waited for, folders and sockets are nothing to read."""
    written(tmp_path / "good")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for name in ("link", "folder", "pipe", "socket"):
        with pytest.raises(CachedFileError):
            CachedFile(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        CachedFile(tmp_path / "none")


def test_nothing_stays_open(tmp_path: Path) -> None:
    """A file that is refused is closed."""
    written(tmp_path / "file")
    os.truncate(tmp_path / "file", 500)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(CachedFileError):
            CachedFile(tmp_path / "file")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("given_size", [0, 10, 99, 101, BLOCK_SIZE * 2])
def test_another_number_of_bytes(tmp_path: Path, given_size: int) -> None:
    """A file has the bytes of its image, neither fewer nor more."""
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    writer = CachedFileWriter(fd, CONTENT, 100)
    with pytest.raises(ValueError, match="100"):  # noqa: PT012 - too many are noticed by one, too few by the other
        writer.write(b"x" * given_size)
        writer.finish()
    os.close(fd)


def test_a_renamed_file_is_read_on(tmp_path: Path) -> None:
    """Who reads a file keeps it, though it lost its name."""
    written(tmp_path / "file")
    file = CachedFile(tmp_path / "file")
    (tmp_path / "file").unlink()
    assert b"".join(file.parts(0, SIZE)) == DATA
    file.close()
    file.close()
