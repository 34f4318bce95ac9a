"""A range of a content as pieces: part of one segment each, or zeros of any length; and how to read one.

What reads a range of a content, whether into a buffer or ahead of a socket, goes by these.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from casimg.assemble import ContentReader
from casimg.constants import KIB, SEGMENT_SIZE
from casimg.formats.node import Leaf
from casimg.ids import NodeId
from casimg.manifest.shape import segment_size
from casimg.manifest.walk import leaf_ids

_ZEROS: Final = bytes(256 * KIB)


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a content in order: bytes of one segment from `start` in it on, or zeros of any length (`leaf` None)."""

    number: int
    start: int
    size: int
    leaf: NodeId | None


def pieces(reader: ContentReader, start: int, end: int) -> Iterator[Piece]:
    """Yield bytes [start, end) of a content as pieces without gaps. Raises: as ContentReader.node."""
    if start >= end:
        return
    tree = reader.tree
    at = start
    for number, leaf in leaf_ids(reader.node, tree, start // SEGMENT_SIZE, -(-end // SEGMENT_SIZE)):
        base = number * SEGMENT_SIZE
        if base > at:
            yield Piece(at // SEGMENT_SIZE, 0, base - at, None)
            at = base
        stop = min(end, base + segment_size(tree.size, number))
        yield Piece(number, at - base, stop - at, leaf)
        at = stop
    if at < end:
        yield Piece(at // SEGMENT_SIZE, 0, end - at, None)


def read_piece(reader: ContentReader, leaf: Leaf, start: int, view: memoryview, *, by_runs: bool = False) -> None:
    """Fill `view` with the bytes of a segment from `start` on, holes as zeros; every chunk is checked.

    Args:
        by_runs: read a whole segment at once, which asks for entry lists of packs: worth it where many follow.
    Raises: ChunkLostError, ImageNotFoundError, and what the backend raises. Threads: any.
    """
    if by_runs and start == 0 and len(view) == leaf.plain_size and reader.fill(leaf, view):
        at = 0
        for low, high in leaf.data_ranges():
            clear(view[at:low])
            at = high
        clear(view[at:])
        return
    stop = start + len(view)
    at = start
    for offset, piece in reader.pieces(leaf, start, stop):
        low, high = max(offset, start), min(offset + len(piece), stop)
        clear(view[at - start : low - start])
        view[low - start : high - start] = piece[low - offset : high - offset]
        at = high
    clear(view[at - start :])


def clear(view: memoryview) -> None:
    """Make all of `view` zeros."""
    for at in range(0, len(view), len(_ZEROS)):
        size = min(len(_ZEROS), len(view) - at)
        view[at : at + size] = _ZEROS[:size]
