"""md5 and sha512 beside a stream: right whatever the parts, bounded, and ended with it."""

import hashlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg.errors import SizeMismatchError, SourceError
from casimg.hashing import PassHashes
from casimg.source import SourceLike


def passed(hashes: PassHashes, source: SourceLike) -> tuple[bytes, dict[str, str]]:
    """Read a source through; return its bytes and digests."""
    try:
        return b"".join(hashes.passing(source)), hashes.digests()
    finally:
        hashes.close()


def digests_of(data: bytes) -> dict[str, str]:
    return {"md5": hashlib.md5(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()}


@given(st.lists(st.binary(max_size=300) | st.sampled_from([b"x" * 70_000, b"y" * 2_500_000]), max_size=12))
def test_digests_do_not_depend_on_the_parts(parts: list[bytes]) -> None:
    """Bytes come out as they went in, and the digests are those of the whole, for parts of any size."""
    data = b"".join(parts)
    assert passed(PassHashes(size=len(data)), iter(parts)) == (data, digests_of(data))


def test_every_kind_of_source(tmp_path: Path) -> None:
    """A path, a file, bytes, and an iterator whose parts are re-used buffers give the same."""
    data = bytes(range(256)) * 20_000
    path = tmp_path / "data"
    path.write_bytes(data)

    def reused() -> Iterator[bytearray]:
        buffer = bytearray(70_000)
        for start in range(0, len(data), 70_000):
            part = data[start : start + 70_000]
            buffer[: len(part)] = part
            yield buffer if len(part) == 70_000 else bytearray(part)

    for source in (path, str(path), io.BytesIO(data), data, reused()):
        assert passed(PassHashes(), source) == (data, digests_of(data))  # type: ignore[arg-type]
    assert passed(PassHashes(), [b"", b""]) == (b"", digests_of(b""))


def test_another_size_than_was_said() -> None:
    """Too many bytes are refused as soon as they come, before the rest is read; too few at the end."""
    given_out: list[int] = []

    def endless() -> Iterator[bytes]:
        while True:
            given_out.append(1)
            yield b"x" * 10

    with pytest.raises(SizeMismatchError) as caught:
        passed(PassHashes(size=25), endless())
    assert (caught.value.expected, caught.value.actual, len(given_out)) == (25, 30, 3)
    with pytest.raises(SizeMismatchError) as caught:
        passed(PassHashes(size=25), [b"x" * 10])
    assert (caught.value.expected, caught.value.actual) == (25, 10)
    with pytest.raises(SizeMismatchError):
        passed(PassHashes(size=0), [b"x"])


class _Blocking:
    """A file that has nothing to say yet."""

    def read(self, _count: int) -> None:
        return None


def test_what_gives_no_bytes_is_an_error() -> None:
    """A stream of texts, and one in non-blocking mode, are SourceError, not a hash of something else."""
    for source in (["text"], io.StringIO("text"), _Blocking()):
        with pytest.raises(SourceError):
            passed(PassHashes(), source)  # type: ignore[arg-type]


def test_threads_end_with_the_stream() -> None:
    """However a stream ends, no thread of its hashes stays."""
    before = threading.active_count()
    whole = PassHashes()
    passed(whole, [b"x" * 100_000] * 3)
    broken = PassHashes()
    stream = broken.passing(iter([b"x" * 100_000] * 50))
    next(stream)
    stream.close()
    broken.close()
    broken.close()
    assert threading.active_count() == before
