"""Cut a segment again after a change, reading only the neighbourhood of the change.

The cut after a chunk start depends on the bytes of the window [start, start + min(size_max, rest of the run)) alone.
So an old chunk stands when it starts at an old cut, its window is as long as before and no block of it is dirty;
anything else is cut from the disk's bytes. What comes out is what cutting the whole segment gives.

Source: DESIGN section 6; the window rule follows from the definition of MinCDC (section 4), and holds for FastCDC
and fixed sizes, whose cuts look at no more.
"""

from collections.abc import Callable, Sequence

from casimg.chunker import Chunker, zero_prefix_size
from casimg.constants import BLOCK_SIZE, HOLE_FLAG
from casimg.formats.node import Leaf
from casimg.ids import chunk_id
from casimg.ingest import CutSegment

ReadInto = Callable[[int, memoryview], None]
"""Fill the view with the disk's bytes at an offset of the segment."""


class _Window:
    """The segment's bytes, read from the disk by blocks when first needed."""

    def __init__(self, buffer: bytearray, size: int, read_into: ReadInto) -> None:
        self.view = memoryview(buffer)[:size]
        self._read_into = read_into
        self._have = bytearray(-(-size // BLOCK_SIZE))
        self.read_size = 0

    def need(self, start: int, end: int) -> memoryview:
        """Return the bytes of [start, end), reading the blocks not yet read in as few calls as they allow."""
        block, last = start // BLOCK_SIZE, -(-end // BLOCK_SIZE)
        while block < last:
            if self._have[block]:
                block += 1
                continue
            run_end = block
            while run_end < last and not self._have[run_end]:
                run_end += 1
            low, high = block * BLOCK_SIZE, min(len(self.view), run_end * BLOCK_SIZE)
            self._read_into(low, self.view[low:high])
            self.read_size += high - low
            self._have[block:run_end] = b"\1" * (run_end - block)
            block = run_end
        return self.view[start:end]


def recut_segment(
    chunker: Chunker,
    number: int,
    size: int,
    old: Leaf | None,
    dirty: Sequence[tuple[int, int]],
    read_into: ReadInto,
    buffer: bytearray,
) -> CutSegment:
    """Return segment `number` of `size` bytes as it is now.

    Args:
        old: the parent's leaf; None for zeros (or nothing) there.
        dirty: (start, end) ranges of whole blocks within the segment that may differ from the parent.
        buffer: a segment buffer; its content is overwritten where bytes are read.
    Threads: any.
    """
    window = _Window(buffer, size, read_into)
    block_count = -(-size // BLOCK_SIZE)
    is_dirty = bytearray(block_count)
    for start, end in dirty:
        is_dirty[start // BLOCK_SIZE : -(-end // BLOCK_SIZE)] = b"\1" * (-(-end // BLOCK_SIZE) - start // BLOCK_SIZE)
    old_cuts, is_zero = _old_layout(old, block_count)
    for start, end in dirty:
        window.need(start, end)
    for block in range(block_count):
        if is_dirty[block]:
            low, high = block * BLOCK_SIZE, min(size, (block + 1) * BLOCK_SIZE)
            is_zero[block] = zero_prefix_size(window.view[low:high]) == high - low

    sizes: list[int] = []
    ids: list[bytes] = []
    unread: set[int] = set()
    size_max = chunker.params.size_max
    block = 0
    while block < block_count:
        run_end = block
        while run_end < block_count and is_zero[run_end] == is_zero[block]:
            run_end += 1
        at, end = block * BLOCK_SIZE, min(size, run_end * BLOCK_SIZE)
        if is_zero[block]:
            sizes.append((end - at) | HOLE_FLAG)
            at = end
        while at < end:
            reach = min(size_max, end - at)
            kept = old_cuts.get(at)
            clean = not any(is_dirty[at // BLOCK_SIZE : -(-(at + reach) // BLOCK_SIZE)])
            if kept is not None and clean and min(size_max, kept[2] - at) == reach:
                chunk_size, chunk = kept[0], kept[1]
                unread.add(len(ids))
            else:
                chunk_size = chunker.next_cut(window.need(at, at + reach))
                view = window.view[at : at + chunk_size]
                chunk = chunk_id(view)
            sizes.append(chunk_size)
            ids.append(chunk)
            at += chunk_size
        block = run_end
    return CutSegment(number, sizes, b"".join(ids), window.view, window.read_size, frozenset(unread), buffer)


def _old_layout(old: Leaf | None, block_count: int) -> tuple[dict[int, tuple[int, bytes, int]], list[bool]]:
    """Return {chunk start: (size, id, end of its run)} and whether each block was zero in the parent."""
    is_zero = [True] * block_count
    cuts: dict[int, tuple[int, bytes, int]] = {}
    if old is None:
        return cuts, is_zero
    at = 0
    run: list[tuple[int, int, bytes]] = []

    def close(end: int) -> None:
        for start, chunk_size, chunk in run:
            cuts[start] = (chunk_size, chunk, end)
        if run:
            first, last = run[0][0] // BLOCK_SIZE, min(block_count, -(-end // BLOCK_SIZE))
            is_zero[first:last] = [False] * (last - first)
        run.clear()

    for entry, chunk in old.entries():
        if chunk is None:
            close(at)
        else:
            run.append((at, entry, chunk))
        at += entry & ~HOLE_FLAG
    close(at)
    return cuts, is_zero
