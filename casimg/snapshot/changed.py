"""Ingest a disk of which a map says what changed: time and bytes read follow the change, not the disk.

Subtrees without a change are taken over from the parent unread (the session has noted the parent's packs); a
changed segment is cut again around its changes.
"""

import bisect
from collections.abc import Sequence

from casimg.assemble import ContentReader
from casimg.constants import NODE_RADIX, SEGMENT_SIZE
from casimg.formats.node import Leaf
from casimg.ids import NodeId
from casimg.ingest import Ingest
from casimg.manifest.shape import segment_count, segment_size
from casimg.manifest.walk import Tree, leaf_ids, load_inner, load_leaf
from casimg.segments import CutSegment, Taken
from casimg.snapshot.recut import recut_segment
from casimg.source import FileSource


def ingest_changed(
    run: Ingest,
    source: FileSource,
    parent: ContentReader,
    parent_hole_size: int,
    dirty: Sequence[tuple[int, int]],
) -> NodeId | None:
    """Take in a disk that differs from `parent` in the `dirty` ranges only, and return the root of its manifest.

    Args:
        parent_hole_size: bytes of holes in the parent.
        dirty: from `changed_map.dirty_blocks`: whole blocks, sorted, merged.
    Raises: as casimg.ingest.ingest.
    """
    walk = _Walk(run, source, parent, dirty)
    walk.subtree(parent.tree.root, max(parent.tree.height, Tree(None, source.size).height), 0)
    root = run.finish()
    walk.drop_tail()
    # Holes of subtrees taken over unread are known by subtraction: the parent's, less those of what was looked at.
    figures = run.figures
    figures.hole_size += parent_hole_size - sum(walk.replaced_holes)
    figures.known_size = figures.size - figures.hole_size - figures.new_size
    return root


class _Walk:
    def __init__(
        self, run: Ingest, source: FileSource, parent: ContentReader, dirty: Sequence[tuple[int, int]]
    ) -> None:
        self._run = run
        self._source = source
        self._parent = parent
        self._dirty = dirty
        self._starts = [start for start, _ in dirty]
        self._ends = [end for _, end in dirty]
        self._count = segment_count(source.size)
        self.replaced_holes: list[int] = []

    def subtree(self, node: NodeId | None, height: int, at: int) -> None:
        """Take the segments from `at` on that a node of `height` covers, as far as the disk goes."""
        span = NODE_RADIX**height
        count = min(span, self._count - at)
        if count <= 0:
            return
        start = at * SEGMENT_SIZE
        end = min(self._source.size, (at + count) * SEGMENT_SIZE)
        if not self._touches(start, end):
            if node is None:
                self._run.take(Taken(count, end - start, end - start))
                self.replaced_holes.append(self._old_size(start, end))
                return
            # Only a subtree of the same shape can be taken over; a partial one is built again from its leaves.
            tree = self._parent.tree
            whole = end - start == span * SEGMENT_SIZE <= tree.size - start
            if height <= tree.height and (whole or (height == 0 and self._source.size == tree.size)):
                self._run.take(Taken(count, end - start, 0, height, node))
                return
        if height == 0:
            self._segment(node, at)
            return
        step = NODE_RADIX ** (height - 1)
        for position, child in enumerate(self._children(node, height, at)):
            self.subtree(child, height - 1, at + position * step)

    def _children(self, node: NodeId | None, height: int, at: int) -> Sequence[NodeId | None]:
        count = min(NODE_RADIX, -(-(self._count - at) // NODE_RADIX ** (height - 1)))
        tree = self._parent.tree
        children: list[NodeId | None] = []
        if node is not None and height > tree.height:
            children = [node]
        elif node is not None:
            inner = load_inner(self._parent.node, tree, height, at, node)
            children = [None if child is None else NodeId(child) for child in inner.children]
        return (children + [None] * count)[:count]

    def _segment(self, node: NodeId | None, number: int) -> None:
        size = segment_size(self._source.size, number)
        base = number * SEGMENT_SIZE
        ranges = self._within(base, base + size)
        buffer = self._run.take_buffer()

        def job() -> CutSegment:
            old: Leaf | None = None
            if node is not None:
                old = load_leaf(self._parent.node, self._parent.tree, number, node)
                self.replaced_holes.append(old.hole_size)
            else:
                self.replaced_holes.append(self._old_size(base, base + SEGMENT_SIZE))
            return recut_segment(
                self._run.chunker,
                number,
                size,
                old,
                ranges,
                lambda offset, view: self._source.read_into(base + offset, view),
                buffer,
            )

        self._run.submit(job)

    def drop_tail(self) -> None:
        """Count the holes of the parent's segments past the end of a disk that shrank."""
        tree = self._parent.tree
        start = self._count * SEGMENT_SIZE
        if start < tree.size:
            data_size = 0
            for number, node in leaf_ids(self._parent.node, tree, self._count):
                leaf = load_leaf(self._parent.node, tree, number, node)
                data_size += leaf.plain_size - leaf.hole_size
            self.replaced_holes.append(tree.size - start - data_size)

    def _old_size(self, start: int, end: int) -> int:
        """How much of [start, end) the parent has."""
        return max(0, min(end, self._parent.tree.size) - start)

    def _touches(self, start: int, end: int) -> bool:
        first = bisect.bisect_right(self._ends, start)
        return first < len(self._starts) and self._starts[first] < end

    def _within(self, start: int, end: int) -> list[tuple[int, int]]:
        """Dirty ranges inside [start, end), relative to it."""
        first, last = bisect.bisect_right(self._ends, start), bisect.bisect_left(self._starts, end)
        return [(max(low, start) - start, min(high, end) - start) for low, high in self._dirty[first:last]]
