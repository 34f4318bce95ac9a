"""Cutting a segment again around a change gives what cutting all of it gives."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casimg.chunker import Chunker, ChunkerParams, open_chunker
from casimg.constants import BLOCK_SIZE, HOLE_FLAG, ID_SIZE, KIB
from casimg.formats.node import Leaf
from casimg.snapshot.recut import recut_segment

_BLOCKS_MAX = 96
_PAGE = st.sampled_from(["zero", "random", "repeated"])


def _leaf(chunker: Chunker, data: bytes) -> Leaf | None:
    sizes, ids = chunker.cut_and_hash(data)
    if not ids:
        return None
    return Leaf(tuple(sizes), tuple(ids[at : at + ID_SIZE] for at in range(0, len(ids), ID_SIZE)))


def _block(kind: str, seed: int) -> bytes:
    if kind == "zero":
        return bytes(BLOCK_SIZE)
    return b"repeated" * (BLOCK_SIZE // 8) if kind == "repeated" else random.Random(seed).randbytes(BLOCK_SIZE)


@st.composite
def _disks(draw: st.DrawFn) -> tuple[bytes, bytes, list[tuple[int, int]]]:
    """Draw a disk before and after, and ranges of whole blocks that hold all differences."""
    runs = draw(st.lists(st.tuples(_PAGE, st.integers(1, 40)), max_size=8))
    before = b"".join(
        _block(kind, number * 1000 + at) for number, (kind, count) in enumerate(runs) for at in range(count)
    )
    before = before[: _BLOCKS_MAX * BLOCK_SIZE]
    before = before[: len(before) - draw(st.sampled_from([0, 0, 1, 2048]))] if before else before
    size = draw(st.one_of(st.just(max(1, len(before))), st.integers(1, _BLOCKS_MAX * BLOCK_SIZE)))
    after = bytearray(before[:size].ljust(size, b"\0"))
    blocks = -(-size // BLOCK_SIZE)
    changed = draw(st.dictionaries(st.integers(0, blocks - 1), st.sampled_from(["zero", "random", "same"]), max_size=6))
    # What the parent does not have, and a last block that was cut off, count as changed.
    dirty = set(changed)
    if size != len(before):
        dirty.update(range(min(size, len(before)) // BLOCK_SIZE, blocks))
    for block, kind in changed.items():
        low, high = block * BLOCK_SIZE, min(size, (block + 1) * BLOCK_SIZE)
        if kind != "same":
            after[low:high] = _block(kind, -1 - block)[: high - low]
    ranges: list[tuple[int, int]] = []
    for block in sorted(dirty):
        low, high = block * BLOCK_SIZE, min(size, (block + 1) * BLOCK_SIZE)
        if ranges and ranges[-1][1] == low:
            ranges[-1] = (ranges[-1][0], high)
        else:
            ranges.append((low, high))
    return before, bytes(after), ranges


@pytest.mark.parametrize("kind", ["mincdc", "fastcdc", "fixed"])
@given(disks=_disks())
def test_around_a_change_the_cuts_are_those_of_the_whole(
    kind: str, disks: tuple[bytes, bytes, list[tuple[int, int]]]
) -> None:
    """Entries and ids equal those of the whole segment, and no byte is used that was not read."""
    before, after, dirty = disks
    chunker = open_chunker(ChunkerParams.of(kind, 8 * KIB))
    buffer = bytearray(b"\xaa") * len(after)  # what is used unread would be seen

    def read_into(offset: int, view: memoryview) -> None:
        view[:] = after[offset : offset + len(view)]

    segment = recut_segment(chunker, 0, len(after), _leaf(chunker, before), dirty, read_into, buffer)
    sizes, ids = chunker.cut_and_hash(after)
    assert (segment.sizes, segment.ids) == (sizes, ids)
    chunks = [size for size in sizes if size < HOLE_FLAG]
    numbers = list(segment.read_chunks or ())
    assert [end - start for start, end in segment.spans(numbers)] == [chunks[number] for number in numbers]


def test_what_no_change_reaches_is_not_read() -> None:
    """One block in the middle of 4 MiB costs its neighbourhood only."""
    chunker = open_chunker(ChunkerParams.of("mincdc", 16 * KIB))
    before = random.Random(1).randbytes(4096 * KIB)
    after = bytearray(before)
    at = 2048 * KIB
    after[at : at + BLOCK_SIZE] = bytes(range(256)) * 16
    read: list[tuple[int, int]] = []

    def read_into(offset: int, view: memoryview) -> None:
        read.append((offset, len(view)))
        view[:] = after[offset : offset + len(view)]

    segment = recut_segment(
        chunker, 0, len(after), _leaf(chunker, before), [(at, at + BLOCK_SIZE)], read_into, bytearray(len(after))
    )
    assert (segment.sizes, segment.ids) == chunker.cut_and_hash(bytes(after))
    assert segment.read_size == sum(size for _, size in read) < 6 * chunker.params.size_max
    assert len(segment.read_chunks or ()) <= 6
