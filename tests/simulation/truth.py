"""What the simulation knows of images by itself: their bytes, and the chunks and nodes those consist of.

An image's blocks are written in its property `truth`, so a row tells what the image must be. Pure.
"""

import random
from dataclasses import dataclass
from functools import cache

from casimg.constants import HOLE_FLAG
from casimg.formats.node import encode_leaf
from casimg.ids import NodeId, chunk_id, node_id
from casimg.manifest.build import TreeBuilder
from tests.simulation.environment import BLOCK_SIZE, SEGMENT_BLOCKS

PROPERTY = "truth"
BLOCK_COUNT = 12
Spec = tuple[int, ...]
"""Numbers of blocks; 0 is zeros."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What a content must consist of."""

    root: bytes | None
    ids: frozenset[bytes]


@cache
def _blocks() -> tuple[bytes, ...]:
    rng = random.Random(20)
    return (bytes(BLOCK_SIZE), *(rng.randbytes(BLOCK_SIZE) for _ in range(BLOCK_COUNT)))


def bytes_of(spec: Spec) -> bytes:
    """Return the plain bytes of an image."""
    return b"".join(_blocks()[number] for number in spec)


def encode_spec(spec: Spec) -> str:
    return ",".join(str(number) for number in spec)


def decode_spec(text: str) -> Spec:
    return tuple(int(number) for number in text.split(",") if number)


@cache
def needed(spec: Spec) -> Needed:
    """Return root, chunks and nodes of an image, cut as the simulation's repository cuts."""
    ids: set[bytes] = set()

    def emit(encoded: bytes) -> NodeId:
        node = node_id(encoded)
        ids.add(node)
        return node

    tree = TreeBuilder(emit)
    for start in range(0, len(spec), SEGMENT_BLOCKS):
        segment = spec[start : start + SEGMENT_BLOCKS]
        sizes: list[int] = []
        chunks: list[bytes] = []
        for number in segment:
            if number:
                sizes.append(BLOCK_SIZE)
                chunks.append(chunk_id(_blocks()[number]))
            elif sizes and sizes[-1] & HOLE_FLAG:
                sizes[-1] += BLOCK_SIZE
            else:
                sizes.append(BLOCK_SIZE | HOLE_FLAG)
        ids.update(chunks)
        tree.add_leaf(emit(encode_leaf(sizes, b"".join(chunks))) if chunks else None)
    return Needed(tree.finish(), frozenset(ids))


def random_spec(rng: random.Random, *, count_max: int = 10) -> Spec:
    """Return a new image: runs of blocks in order, so that images share much, with holes."""
    spec: list[int] = []
    while len(spec) < rng.randrange(1, count_max + 1):
        start = rng.randrange(BLOCK_COUNT + 1)
        spec += [(start + step) % (BLOCK_COUNT + 1) for step in range(rng.randrange(1, 5))]
    return tuple(spec[:count_max])


def changed_spec(rng: random.Random, spec: Spec) -> tuple[Spec, list[int]]:
    """Return an image like `spec` with a few blocks changed, and which."""
    blocks = list(spec)
    places = sorted({rng.randrange(len(blocks)) for _ in range(rng.randrange(1, 3))})
    for place in places:
        blocks[place] = rng.randrange(BLOCK_COUNT + 1)
    return tuple(blocks), places
