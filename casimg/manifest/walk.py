"""Walk a manifest tree top-down: root in, leaves out, absent subtrees skipped unread.

Every node is held against the shape that the content's size dictates; a node of another shape is damage.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from casimg.constants import NODE_RADIX
from casimg.errors import NodeDamagedError
from casimg.formats.node import Inner, Leaf
from casimg.ids import NodeId
from casimg.manifest.shape import child_count, segment_count, segment_size, tree_height

LoadNode = Callable[[NodeId], Leaf | Inner]
"""Returns a verified node. Raises: ChunkLostError, NodeDamagedError."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of a content: `root` is None when it is all zeros."""

    root: NodeId | None
    size: int

    @property
    def segment_count(self) -> int:
        return segment_count(self.size)

    @property
    def height(self) -> int:
        return tree_height(self.segment_count)


def load_leaf(load: LoadNode, tree: Tree, number: int, node: NodeId) -> Leaf:
    """Load the leaf of segment `number` and hold it against the tree's size."""
    leaf = load(node)
    if not isinstance(leaf, Leaf) or leaf.plain_size != segment_size(tree.size, number):
        raise NodeDamagedError(f"node {node.hex()}", None, f"it is not the leaf of segment {number}")
    return leaf


def load_inner(load: LoadNode, tree: Tree, height: int, first: int, node: NodeId) -> Inner:
    """Load the inner node of `height` whose first segment is `first` and hold it against the tree's size."""
    inner = load(node)
    expected = child_count(tree.segment_count, height, first)
    if not isinstance(inner, Inner) or inner.height != height or len(inner.children) != expected:
        raise NodeDamagedError(
            f"node {node.hex()}", None, f"it is not the inner node of height {height} at segment {first}"
        )
    return inner


def leaf_ids(load: LoadNode, tree: Tree, first: int = 0, end: int | None = None) -> Iterator[tuple[int, NodeId]]:
    """Yield (segment number, leaf id) of the present leaves in [first, end), in order."""
    if tree.root is None:
        return
    last = tree.segment_count if end is None else min(end, tree.segment_count)
    yield from _leaf_ids(load, tree, tree.root, tree.height, 0, first, last)


def _leaf_ids(
    load: LoadNode, tree: Tree, node: NodeId, height: int, at: int, first: int, end: int
) -> Iterator[tuple[int, NodeId]]:
    if height == 0:
        if first <= at < end:
            yield at, node
        return
    span = NODE_RADIX ** (height - 1)
    inner = load_inner(load, tree, height, at, node)
    low = max(0, (first - at) // span)
    high = min(len(inner.children), -(-(end - at) // span))
    for position in range(low, high):
        child = inner.children[position]
        if child is not None:
            yield from _leaf_ids(load, tree, NodeId(child), height - 1, at + position * span, first, end)


def node_ids(load: LoadNode, tree: Tree, skip: Callable[[NodeId], bool]) -> Iterator[tuple[NodeId, Leaf | Inner]]:
    """Yield every node of a tree once, parents first; subtrees whose id `skip` answers True for are left out."""
    if tree.root is None:
        return
    stack: list[tuple[NodeId, int, int]] = [(tree.root, tree.height, 0)]
    while stack:
        node, height, at = stack.pop()
        if skip(node):
            continue
        if height == 0:
            yield node, load_leaf(load, tree, at, node)
            continue
        inner = load_inner(load, tree, height, at, node)
        yield node, inner
        span = NODE_RADIX ** (height - 1)
        for position in range(len(inner.children) - 1, -1, -1):
            child = inner.children[position]
            if child is not None:
                stack.append((NodeId(child), height - 1, at + position * span))
