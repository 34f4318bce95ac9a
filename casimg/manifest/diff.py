"""Compare two manifest trees: equal subtrees are skipped unread, so the cost follows the difference."""

from collections.abc import Iterator

from casimg.constants import HOLE_FLAG, NODE_RADIX, SEGMENT_SIZE
from casimg.formats.node import Leaf
from casimg.ids import NodeId
from casimg.manifest.shape import segment_size
from casimg.manifest.walk import LoadNode, Tree, load_inner, load_leaf


def differing_segments(
    load_a: LoadNode, load_b: LoadNode, a: Tree, b: Tree
) -> Iterator[tuple[int, Leaf | None, Leaf | None]]:
    """Yield (segment number, leaf of a, leaf of b) where they differ, in order; None is a segment of zeros or none.

    Args:
        load_a, load_b: load the nodes of each tree.
    """
    pair = (load_a, a), (load_b, b)
    yield from _differing(pair, a.root, b.root, max(a.height, b.height), 0)


_Side = tuple[LoadNode, Tree]


def _differing(
    pair: tuple[_Side, _Side], node_a: NodeId | None, node_b: NodeId | None, height: int, at: int
) -> Iterator[tuple[int, Leaf | None, Leaf | None]]:
    (load_a, a), (load_b, b) = pair
    # Equal ids at one height are equal subtrees, whatever the sizes of the contents.
    if node_a == node_b and a.height == b.height:
        return
    if height == 0:
        leaf_a = None if node_a is None else load_leaf(load_a, a, at, node_a)
        leaf_b = None if node_b is None else load_leaf(load_b, b, at, node_b)
        if leaf_a != leaf_b:
            yield at, leaf_a, leaf_b
        return
    span = NODE_RADIX ** (height - 1)
    children_a = _children(load_a, a, node_a, height, at)
    children_b = _children(load_b, b, node_b, height, at)
    for position in range(max(len(children_a), len(children_b))):
        child_a = children_a[position] if position < len(children_a) else None
        child_b = children_b[position] if position < len(children_b) else None
        if child_a != child_b:
            yield from _differing(pair, child_a, child_b, height - 1, at + position * span)


def _children(load: LoadNode, tree: Tree, node: NodeId | None, height: int, at: int) -> tuple[NodeId | None, ...]:
    """Children at this height; a tree that is lower than `height` is the only child of a virtual node."""
    if node is None:
        return ()
    if height > tree.height:
        return (node,)
    return tuple(
        None if child is None else NodeId(child) for child in load_inner(load, tree, height, at, node).children
    )


def changed_ranges(number: int, a: Leaf | None, b: Leaf | None, a_size: int, b_size: int) -> list[tuple[int, int]]:
    """Return the (offset, size) ranges of segment `number` where chunks or holes of the two differ.

    Bytes past the end of the shorter content count as changed. Ranges are whole chunks: at most a chunk too long
    on either side of a changed byte.
    """
    base = number * SEGMENT_SIZE
    size_a = max(0, segment_size(a_size, number))
    size_b = max(0, segment_size(b_size, number))
    pieces_a = _pieces(a, size_a)
    pieces_b = _pieces(b, size_b)
    marks = sorted({end for end, _, _ in pieces_a} | {end for end, _, _ in pieces_b})
    ranges: list[tuple[int, int]] = []
    start = i = j = 0
    for end in marks:
        piece_a = pieces_a[i] if i < len(pieces_a) else None
        piece_b = pieces_b[j] if j < len(pieces_b) else None
        both_zero = piece_a is not None and piece_b is not None and piece_a[2] is None and piece_b[2] is None
        if piece_a != piece_b and not both_zero:
            if ranges and ranges[-1][0] + ranges[-1][1] == base + start:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + end - start)
            else:
                ranges.append((base + start, end - start))
        if piece_a is not None and piece_a[0] == end:
            i += 1
        if piece_b is not None and piece_b[0] == end:
            j += 1
        start = end
    return ranges


def _pieces(leaf: Leaf | None, size: int) -> list[tuple[int, int, bytes | None]]:
    """(end, size, id or None for zeros) of each entry, ends relative to the segment."""
    if leaf is None:
        return [(size, size, None)] if size else []
    pieces: list[tuple[int, int, bytes | None]] = []
    end = 0
    for entry, chunk in leaf.entries():
        end += entry & ~HOLE_FLAG
        pieces.append((end, entry & ~HOLE_FLAG, chunk))
    return pieces
