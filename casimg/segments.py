"""Segments on their way through an ingest: cut and hashed, or taken unread; and who else looks at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from casimg.constants import HOLE_FLAG, ID_SIZE
from casimg.ids import NodeId


@dataclass(slots=True)
class CutSegment:
    """One segment, cut and hashed.

    Attributes:
        sizes: entries in order, `HOLE_FLAG` set on holes.
        ids: ids of the entries that are chunks, one after another.
        plain: the bytes of the segment, in a buffer that is given back when the frames are made.
        read_chunks: numbers of the chunks whose bytes are in `plain`, the others are the parent's; None for all.
    """

    number: int
    sizes: list[int]
    ids: bytes
    plain: memoryview
    read_size: int
    read_chunks: Sequence[int] | None = None
    buffer: bytearray | None = None

    @property
    def plain_size(self) -> int:
        return sum(self.sizes) - self.hole_count * HOLE_FLAG

    @property
    def hole_count(self) -> int:
        return len(self.sizes) - len(self.ids) // ID_SIZE

    @property
    def hole_size(self) -> int:
        return sum(size - HOLE_FLAG for size in self.sizes if size >= HOLE_FLAG) if self.hole_count else 0

    def spans(self, chunks: Sequence[int]) -> list[tuple[int, int]]:
        """Return (start, end) in the segment of chunks given by ascending numbers."""
        sizes = [entry & ~HOLE_FLAG for entry in self.sizes] if self.hole_count else self.sizes
        spans = [(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        if self.hole_count:
            spans = [span for span, entry in zip(spans, self.sizes, strict=True) if entry < HOLE_FLAG]
        return spans if len(chunks) == len(spans) else [spans[chunk] for chunk in chunks]


@dataclass(frozen=True, slots=True)
class Taken:
    """Segments that need no reading: zeros (`node` None), or a subtree of the parent, `height` above its leaves.

    Attributes:
        count: segments.
        size, hole_size: plain bytes of them.
    """

    count: int
    size: int
    hole_size: int
    height: int = 0
    node: NodeId | None = None


class SegmentWatch(Protocol):
    """Who looks at the segments of a stream beside the ingest, and needs their bytes for a while."""

    @property
    def is_waiting(self) -> bool:
        """Whether a segment shall be decided at once, and not when the next ones are being cut."""
        ...

    def decided(self, leaf: NodeId | None, *, is_known: bool) -> None:
        """Learn what the next segment is: the id of its leaf, and whether other packs than ours hold all of it."""
        ...

    def is_free(self, number: int) -> bool:
        """Tell whether the bytes of a segment are needed no more."""
        ...

    def wait_free(self, number: int) -> None:
        """Wait until they are; of a segment that is decided."""
        ...
