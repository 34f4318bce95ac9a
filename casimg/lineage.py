"""The tree of snapshots an image belongs to. Pure over catalog rows."""

from collections.abc import Callable, Mapping, Sequence

from casimg.catalog import ImageRow
from casimg.ids import ImageId
from casimg.results.comparing import LineageNode
from casimg.results.images import Image

_DEPTH_MAX = 100_000  # a cycle cannot be written through the API; a damaged catalog must not hang us


def lineage(rows: Sequence[ImageRow], asked: ImageId, value_of: Callable[[ImageRow], Image]) -> LineageNode:
    """Return the whole tree that holds `asked`, from its oldest known ancestor.

    Args:
        rows: every image row, deleted ones included.
        value_of: makes the public value of a row.
    """
    by_id = {row.id: row for row in rows}
    children: dict[ImageId, list[ImageRow]] = {}
    for row in rows:
        if row.parent_id is not None:
            children.setdefault(row.parent_id, []).append(row)
    root = asked
    for _ in range(_DEPTH_MAX):
        at_root = by_id.get(root)
        if at_root is None or at_root.parent_id is None or at_root.parent_id == asked:
            break
        root = at_root.parent_id
    return _subtree(root, asked, by_id, children, value_of)


def descendants(rows: Sequence[ImageRow], root: ImageId) -> list[ImageRow]:
    """Return every image below `root`, through deleted ones too, without `root` itself."""
    children: dict[ImageId, list[ImageRow]] = {}
    for row in rows:
        if row.parent_id is not None:
            children.setdefault(row.parent_id, []).append(row)
    found: list[ImageRow] = []
    seen = {root}
    stack = [root]
    while stack:
        for child in children.get(stack.pop(), ()):
            if child.id not in seen:
                seen.add(child.id)
                found.append(child)
                stack.append(child.id)
    return found


def _subtree(
    root: ImageId,
    asked: ImageId,
    by_id: Mapping[ImageId, ImageRow],
    children: Mapping[ImageId, Sequence[ImageRow]],
    value_of: Callable[[ImageRow], Image],
) -> LineageNode:
    # Thousands of nightly snapshots of snapshots are deeper than Python's stack: built bottom-up instead.
    order: list[ImageId] = []
    seen: set[ImageId] = set()
    stack = [root]
    while stack:
        at = stack.pop()
        if at in seen:
            continue
        seen.add(at)
        order.append(at)
        stack.extend(child.id for child in children.get(at, ()))
    built: dict[ImageId, LineageNode] = {}
    for at in reversed(order):
        row = by_id.get(at)
        below = sorted(children.get(at, ()), key=lambda child: (child.created_at, child.id))
        nodes = tuple(built[child.id] for child in below if child.id in built)
        gone = row is None or row.status == "deleted"
        # A deleted leaf tells nobody anything; a deleted parent explains its children.
        if gone and not nodes and at != asked:
            continue
        built[at] = LineageNode(
            id=at, image=None if row is None else value_of(row), gone=gone, asked=at == asked, children=nodes
        )
    return built[root]
