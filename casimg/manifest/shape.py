"""The shape of a manifest tree follows from the size of its content alone. Pure.

A leaf (height 0) covers one segment, an inner node of height h covers 512**h segments; the height is minimal.
"""

from casimg.constants import CONTENT_SIZE_MAX, NODE_RADIX, SEGMENT_SIZE
from casimg.errors import InputError


def segment_count(size: int) -> int:
    """Return how many segments `size` bytes have; the last may be short."""
    return -(-size // SEGMENT_SIZE)


def segment_size(size: int, number: int) -> int:
    """Return the plain size of segment `number` of a content of `size` bytes."""
    return min(SEGMENT_SIZE, size - number * SEGMENT_SIZE)


def tree_height(count: int) -> int:
    """Return the minimal height of a tree over `count` segments; 0 for one segment or none."""
    height = 0
    while NODE_RADIX**height < count:
        height += 1
    return height


def child_count(count: int, height: int, first: int) -> int:
    """Return how many children the node of `height` has whose first segment is `first`, of `count` segments."""
    span: int = NODE_RADIX ** (height - 1)
    return min(NODE_RADIX, -(-(count - first) // span))


def check_content_size(size: int) -> None:
    """Refuse what no manifest can address. Raises: InputError."""
    if size > CONTENT_SIZE_MAX:
        raise InputError(f"{size} bytes are more than the {CONTENT_SIZE_MAX} (512 TiB) that one image can have")
