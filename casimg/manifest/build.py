"""Build a manifest tree bottom-up while segments arrive in order: leaves in, root out. Pure but for `emit`.

Memory: at most 512 child ids per level, whatever the size of the content.
"""

from collections.abc import Callable

from casimg.constants import NODE_RADIX, TREE_HEIGHT_MAX
from casimg.formats.node import encode_inner
from casimg.ids import NodeId
from casimg.manifest.shape import tree_height

Emit = Callable[[bytes], NodeId]
"""Stores an encoded node, or finds it stored, and returns its id."""


class TreeBuilder:
    """Take the leaves of a content in segment order and emit its inner nodes.

    Threads: one.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._levels: list[list[NodeId | None]] = [[] for _ in range(TREE_HEIGHT_MAX + 2)]
        self._count = 0

    @property
    def segment_count(self) -> int:
        """Segments taken so far."""
        return self._count

    def add_leaf(self, leaf: NodeId | None) -> None:
        """Take the next segment's leaf; None for a segment of zeros."""
        self.add_subtree(0, leaf)

    def add_subtree(self, height: int, node: NodeId | None) -> None:
        """Take a whole finished subtree of `height`, which starts at the current, aligned segment."""
        span = NODE_RADIX**height
        if self._count % span:
            raise ValueError(f"segment {self._count} is not the start of a subtree of height {height}")
        self._count += span
        self._push(height, node)

    def add_absent(self, count: int) -> None:
        """Take `count` segments of zeros, in steps as large as alignment allows."""
        while count:
            height = TREE_HEIGHT_MAX
            while NODE_RADIX**height > count or self._count % NODE_RADIX**height:
                height -= 1
            self.add_subtree(height, None)
            count -= NODE_RADIX**height

    def finish(self) -> NodeId | None:
        """Close the tree and return its root; None when every segment is zeros."""
        if not self._count:
            return None
        height = tree_height(self._count)
        for level in range(1, height + 1):
            if self._levels[level]:
                self._close(level)
        (root,) = self._levels[height + 1]
        return root

    def _push(self, height: int, node: NodeId | None) -> None:
        children = self._levels[height + 1]
        children.append(node)
        if len(children) == NODE_RADIX and height < TREE_HEIGHT_MAX:
            self._close(height + 1)

    def _close(self, height: int) -> None:
        children = self._levels[height]
        node = None
        if any(child is not None for child in children):
            node = self._emit(encode_inner(height, children))
        self._levels[height] = []
        self._push(height, node)
