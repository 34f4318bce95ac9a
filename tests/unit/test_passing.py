"""Bytes of an upload on their way into segments: as they came, hashed, held against the size that was said."""

import hashlib
import io
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from casimg.constants import SEGMENT_SIZE
from casimg.errors import SizeMismatchError, SourceError
from casimg.passing import Passing, PassingSource
from casimg.source import SourceLike

_DATA = bytes(range(256)) * (SEGMENT_SIZE // 256 * 2) + b"the end"


def passed(source: SourceLike, size: int | None = None, pulses: list[None] | None = None) -> tuple[bytes, int]:
    """Read a source through segments; return its bytes, and how many segments there were. Holds the digests."""
    found, count = bytearray(), 0
    pulse = (lambda: None) if pulses is None else (lambda: pulses.append(None))
    with closing(Passing(lambda: None)) as passing, closing(PassingSource(source, passing, size, pulse)) as stream:
        for number, (buffer, filled) in enumerate(stream.buffers(lambda: bytearray(SEGMENT_SIZE))):
            found += buffer[:filled]
            count += 1
            if filled:
                passing.wait_free(number)
                assert passing.is_free(number)
        digests = passing.digests(None)
        assert stream.passed_size == len(found)
    assert digests == {"md5": hashlib.md5(found).hexdigest(), "sha512": hashlib.sha512(found).hexdigest()}
    return bytes(found), count


def test_every_kind_of_source(tmp_path: Path) -> None:
    """A path, files of both kinds, bytes, and an iterator of any parts give the same bytes and digests."""
    path = tmp_path / "data"
    path.write_bytes(_DATA)

    def parts() -> Iterator[bytes | bytearray]:
        yield b""
        yield bytearray(_DATA[:70_000])
        yield _DATA[70_000:]

    class Reads:
        read = io.BytesIO(_DATA).read

    with path.open("rb", buffering=0) as unbuffered:
        sources: list[Any] = [path, str(path), io.BytesIO(_DATA), _DATA, parts(), Reads(), unbuffered]
        for source in sources:
            assert passed(source, len(_DATA)) == (_DATA, 3)
    assert passed([]) == (b"", 1)


@pytest.mark.parametrize("size", [0, SEGMENT_SIZE, 2 * SEGMENT_SIZE])
def test_whole_segments(size: int) -> None:
    """A source that ends where a segment ends is whole, and its size is right."""
    assert passed([_DATA[:size]], size)[0] == _DATA[:size]


@pytest.mark.parametrize("change", [-1, 1])
def test_another_size_than_was_said(change: int) -> None:
    """Too few bytes are refused at the end, too many as soon as they come."""
    for size in (5, SEGMENT_SIZE, len(_DATA)):
        with pytest.raises(SizeMismatchError):
            passed([_DATA[:size]], size + change)


def test_too_many_bytes_are_not_waited_for() -> None:
    """What is more than was said is refused before the source has ended."""
    never = threading.Event()

    def endless() -> Iterator[bytes]:
        yield b"x" * 10
        yield b"x" * 10
        never.wait()

    with pytest.raises(SizeMismatchError):
        passed(endless(), 15)


def test_it_says_that_it_lives_by_progress() -> None:
    """Each time that bytes come somebody may say so."""
    pulses: list[None] = []
    passed([b"x", b"y", b"z"], None, pulses)
    assert len(pulses) >= 3


def test_what_is_no_source() -> None:
    """A file that changes while it is read, one that gives no bytes, and one that is none are told."""
    for wrong in ("", 5, ["text"], io.StringIO("text")):
        with pytest.raises(SourceError):
            passed(wrong)  # type: ignore[arg-type]


def test_a_source_that_breaks_ends_the_hashes() -> None:
    """What a source raises comes through, and no thread stays behind."""
    before = threading.active_count()

    def broken() -> Iterator[bytes]:
        yield _DATA
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        passed(broken())
    assert threading.active_count() == before
