"""Manifest trees: shape, building, walking, and nodes that do not belong."""

import pytest

from casimg.constants import NODE_RADIX, SEGMENT_SIZE
from casimg.errors import InputError, NodeDamagedError
from casimg.formats.node import Inner, Leaf, decode_node, encode_leaf
from casimg.ids import NodeId, node_id
from casimg.manifest.build import TreeBuilder
from casimg.manifest.diff import differing_segments
from casimg.manifest.shape import check_content_size, segment_count, segment_size, tree_height
from casimg.manifest.walk import Tree, leaf_ids, load_leaf, node_ids


class Nodes:
    """A store of nodes in memory."""

    def __init__(self) -> None:
        self.found: dict[bytes, bytes] = {}
        self.loads = 0

    def emit(self, encoded: bytes) -> NodeId:
        node = node_id(encoded)
        self.found[node] = encoded
        return node

    def load(self, node: NodeId) -> Leaf | Inner:
        self.loads += 1
        return decode_node(self.found[node])

    def leaf(self, number: int, size: int = SEGMENT_SIZE) -> NodeId:
        return self.emit(encode_leaf([size], number.to_bytes(32, "big")))

    def build(self, leaves: dict[int, NodeId], count: int) -> NodeId | None:
        builder = TreeBuilder(self.emit)
        at = 0
        for number, leaf in sorted(leaves.items()):
            builder.add_absent(number - at)
            builder.add_leaf(leaf)
            at = number + 1
        builder.add_absent(count - at)
        assert builder.segment_count == count
        return builder.finish()


def walk(nodes: Nodes, tree: Tree) -> None:
    """Load every leaf of a tree."""
    for number, leaf in leaf_ids(nodes.load, tree):
        load_leaf(nodes.load, tree, number, leaf)


@pytest.mark.parametrize(
    ("size", "count", "height"),
    [
        (0, 0, 0),
        (1, 1, 0),
        (SEGMENT_SIZE, 1, 0),
        (SEGMENT_SIZE + 1, 2, 1),
        (512 * SEGMENT_SIZE, 512, 1),
        (512 * SEGMENT_SIZE + 1, 513, 2),
        (1 << 40, 1 << 18, 2),
        (512 << 40, 1 << 27, 3),
    ],
)
def test_the_shape_follows_from_the_size(size: int, count: int, height: int) -> None:
    """Segments and minimal height at every edge."""
    assert (segment_count(size), tree_height(count)) == (count, height)
    if size:
        assert 1 <= segment_size(size, count - 1) <= SEGMENT_SIZE
    check_content_size(size)


def test_more_than_512_tib_is_refused() -> None:
    """One byte over the limit is an InputError."""
    with pytest.raises(InputError):
        check_content_size((512 << 40) + 1)


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 1024, 1025, NODE_RADIX**2 + 3])
def test_what_is_built_is_walked(count: int) -> None:
    """The leaves put in come out with their numbers, from any range, absent ones skipped."""
    nodes = Nodes()
    wanted = {number: nodes.leaf(number) for number in {0, count // 3, count - 1}}
    tree = Tree(nodes.build(wanted, count), count * SEGMENT_SIZE)
    assert dict(leaf_ids(nodes.load, tree)) == wanted
    assert dict(leaf_ids(nodes.load, tree, 1, count - 1)) == {n: w for n, w in wanted.items() if 1 <= n < count - 1}
    assert nodes.loads < 40
    leaves = [node for _, node in node_ids(nodes.load, tree, lambda _: False) if isinstance(node, Leaf)]
    assert len(leaves) == len(wanted)


def test_subtrees_can_be_taken_whole() -> None:
    """A tree built from subtrees has the root of one built from leaves."""
    nodes = Nodes()
    leaves = {number: nodes.leaf(number) for number in range(1030)}
    root = nodes.build(leaves, 1030)
    builder = TreeBuilder(nodes.emit)
    top = nodes.load(root) if root is not None else None
    assert isinstance(top, Inner)
    for child in top.children[:2]:
        builder.add_subtree(1, None if child is None else NodeId(child))
    builder.add_leaf(leaves[1024])
    with pytest.raises(ValueError, match="not the start"):
        builder.add_subtree(1, leaves[0])
    for number in range(1025, 1030):
        builder.add_leaf(leaves[number])
    assert builder.finish() == root


def test_zeros_have_no_root() -> None:
    """Nothing but zeros, of any length, is no node at all; so is nothing."""
    nodes = Nodes()
    assert nodes.build({}, 600) is None
    assert TreeBuilder(nodes.emit).finish() is None
    assert nodes.found == {}


def test_nodes_of_another_shape_are_damage() -> None:
    """A root read with the wrong size, a leaf in another's place, an inner node for a leaf: NodeDamagedError."""
    nodes = Nodes()
    root = nodes.build({0: nodes.leaf(0), 1: nodes.leaf(1)}, 2)
    assert root is not None
    for size in (3 * SEGMENT_SIZE, 600 * SEGMENT_SIZE, SEGMENT_SIZE):
        with pytest.raises(NodeDamagedError):
            walk(nodes, Tree(root, size))
    with pytest.raises(NodeDamagedError):
        load_leaf(nodes.load, Tree(root, 2 * SEGMENT_SIZE - 1), 1, nodes.leaf(1))


def test_diff_reads_only_what_differs() -> None:
    """Two trees of 100,000 segments with one leaf changed are compared in a handful of loads."""
    nodes = Nodes()
    leaves = {number: nodes.leaf(number) for number in range(0, 100_000, 50)}
    a = Tree(nodes.build(leaves, 100_000), 100_000 * SEGMENT_SIZE)
    b = Tree(nodes.build({**leaves, 77_777: nodes.leaf(1)}, 100_000), 100_000 * SEGMENT_SIZE)
    nodes.loads = 0
    found = list(differing_segments(nodes.load, nodes.load, a, b))
    assert [(number, old is None) for number, old, _ in found] == [(77_777, True)]
    assert nodes.loads < 8


def test_diff_of_trees_of_different_heights() -> None:
    """A short content against a long one that begins the same: only the tail differs."""
    nodes = Nodes()
    leaves = {number: nodes.leaf(number) for number in range(700)}
    short = Tree(nodes.build({0: leaves[0]}, 1), SEGMENT_SIZE)
    long = Tree(nodes.build(leaves, 700), 700 * SEGMENT_SIZE)
    found = [number for number, _, _ in differing_segments(nodes.load, nodes.load, short, long)]
    assert found == list(range(1, 700))
