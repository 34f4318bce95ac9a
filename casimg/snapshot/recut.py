"""Cut a segment again after a change, reading only the neighbourhood of the change.

The cut after a chunk start depends on the bytes of the window [start, start + min(size_max, rest of the run)) alone.
So an old chunk stands when it starts at an old cut, its window is as long as before and no block of it is dirty;
anything else is cut from the disk's bytes. What comes out is what cutting the whole segment gives.

Between two changes the old entries are taken over by slices, so the time follows the number of changes.

Source: DESIGN section 6; the window rule follows from the definition of MinCDC (section 4), and holds for FastCDC
and fixed sizes, whose cuts look at no more.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate

from casimg.chunker import Chunker, chunk_ids, zero_prefix_size
from casimg.constants import BLOCK_SIZE, HOLE_FLAG, ID_SIZE
from casimg.formats.node import Leaf
from casimg.segments import CutSegment

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
        dirty: (start, end) ranges of whole blocks within the segment that may differ from the parent, ascending.
        buffer: a segment buffer; its content is overwritten where bytes are read.
    Threads: any.
    """
    recut = _Recut(chunker, size, old or Leaf((), ()), dirty, _Window(buffer, size, read_into))
    recut.run()
    return CutSegment(
        number, recut.sizes, recut.ids(), recut.window.view, recut.window.read_size, recut.read_chunks, buffer
    )


class _Recut:
    """One segment: the old entries, and the new ones as they grow."""

    def __init__(
        self, chunker: Chunker, size: int, old: Leaf, dirty: Sequence[tuple[int, int]], window: _Window
    ) -> None:
        self.window = window
        self.sizes: list[int] = []
        self.read_chunks: list[int] = []
        self._ids = bytearray()  # zeros where a chunk was read: its id comes last
        self._to_hash: list[int] = []  # entries with HOLE_FLAG for all that is not hashed
        self._unhashed_size = 0
        self._chunker = chunker
        self._size = size
        self._old = old
        self._old_starts = list(accumulate(old.plain_sizes(), initial=0))
        self._old_size = self._old_starts[-1]
        self._was_zero = _zero_blocks(old, max(size, self._old_size))
        self._is_zero = self._was_zero[: -(-size // BLOCK_SIZE)]
        self._is_dirty = bytearray(len(self._is_zero))
        self._dirty = dirty
        self._next_dirty = 0
        for start, end in dirty:
            self._look_at(start, window.need(start, end))

    def _look_at(self, start: int, view: memoryview) -> None:
        """Note which blocks of a dirty range are zero now."""
        first = start // BLOCK_SIZE
        for at in range(0, len(view), BLOCK_SIZE):
            part = view[at : at + BLOCK_SIZE]
            self._is_zero[first + at // BLOCK_SIZE] = zero_prefix_size(part) == len(part)
            self._is_dirty[first + at // BLOCK_SIZE] = True

    def run(self) -> None:
        """Make all entries."""
        size_max = self._chunker.params.size_max
        at = 0
        while at < self._size:
            entry = bisect_left(self._old_starts, at)
            is_old = entry < len(self._old.sizes) and self._old_starts[entry] == at
            if is_old and (stop := self._untouched_until(entry, at)) > entry:
                self._keep(entry, stop)
                at = self._old_starts[stop]
                continue
            if self._is_zero[at // BLOCK_SIZE]:
                end = _run_end(self._is_zero, at, self._size)
                self.sizes.append((end - at) | HOLE_FLAG)
                self._unhashed_size += end - at
                at = end
                continue
            reach = min(size_max, _run_end(self._is_zero, at, self._size) - at)
            if is_old and self._stands(entry, at, reach):
                self._keep(entry, entry + 1)
                at = self._old_starts[entry + 1]
            else:
                at += self._cut(at, reach)

    def ids(self) -> bytes:
        """Return the ids of all chunks; those that were read are hashed now, together."""
        hashed = chunk_ids(self.window.view, self._to_hash)
        for number, chunk in enumerate(self.read_chunks):
            self._ids[chunk * ID_SIZE : (chunk + 1) * ID_SIZE] = hashed[number * ID_SIZE : (number + 1) * ID_SIZE]
        return bytes(self._ids)

    def _untouched_until(self, entry: int, at: int) -> int:
        """Return the end of the old entries from `entry` on that no change at or after `at` can reach."""
        while self._next_dirty < len(self._dirty) and self._dirty[self._next_dirty][1] <= at:
            self._next_dirty += 1
        change = self._size
        if self._next_dirty < len(self._dirty):
            change = self._dirty[self._next_dirty][0]
        elif self._old_size == self._size:
            return len(self._old.sizes)
        # Where the segment ends otherwise than it did, the last windows end otherwise too.
        change = min(change, self._old_size)
        stop = bisect_left(self._old_starts, change - self._chunker.params.size_max + 1, entry, len(self._old.sizes))
        # A hole that ends at the change may go on in it.
        if stop > entry and self._old.sizes[stop - 1] & HOLE_FLAG and self._old_starts[stop] >= change:
            stop -= 1
        return stop

    def _stands(self, entry: int, at: int, reach: int) -> bool:
        """Is the old entry at `at` a chunk whose window of `reach` bytes is as long as it was, and clean?"""
        if self._old.sizes[entry] & HOLE_FLAG:
            return False
        old_reach = min(self._chunker.params.size_max, _run_end(self._was_zero, at, self._old_size) - at)
        return old_reach == reach and self._is_dirty.find(1, at // BLOCK_SIZE, -(-(at + reach) // BLOCK_SIZE)) < 0

    def _keep(self, entry: int, stop: int) -> None:
        """Take old entries over."""
        self.sizes += self._old.sizes[entry:stop]
        self._ids += b"".join(self._old.ids_of(entry, stop))
        self._unhashed_size += self._old_starts[stop] - self._old_starts[entry]

    def _cut(self, at: int, reach: int) -> int:
        """Cut a chunk from the bytes of the disk and return its size."""
        size = self._chunker.next_cut(self.window.need(at, at + reach))
        if self._unhashed_size:
            self._to_hash.append(self._unhashed_size | HOLE_FLAG)
            self._unhashed_size = 0
        self._to_hash.append(size)
        self.read_chunks.append(len(self._ids) // ID_SIZE)
        self._ids += bytes(ID_SIZE)
        self.sizes.append(size)
        return size


def _zero_blocks(leaf: Leaf, size: int) -> bytearray:
    """Return for each block of `size` bytes whether it is in a hole of the leaf, or past its end."""
    is_zero = bytearray(b"\1") * -(-size // BLOCK_SIZE)
    for start, end in leaf.data_ranges():
        first, last = start // BLOCK_SIZE, -(-end // BLOCK_SIZE)
        is_zero[first:last] = bytes(last - first)
    return is_zero


def _run_end(is_zero: bytearray, at: int, size: int) -> int:
    """Return where the run of blocks that are zero, or are not, ends; `at` is in it."""
    block = at // BLOCK_SIZE
    end = is_zero.find(1 - is_zero[block], block)
    return size if end < 0 else min(size, end * BLOCK_SIZE)
