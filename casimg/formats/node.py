"""Manifest nodes: canonical bytes, so that equal trees have equal ids.

    leaf   kind 1 = 1 | height 1 = 0 | count 2 | per entry: size 4 (bit 31: hole) | per chunk: id 32
    inner  kind 1 = 2 | height 1 | count 2 | per child: id 32, zeros for an absent child

All little-endian. What a leaf may be is checked when it is made and when it is read: no two holes side by side, holes
of whole 4 KiB blocks but for the last entry, at least one chunk, at most one segment.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from casimg.constants import BLOCK_SIZE, HOLE_FLAG, ID_SIZE, NODE_RADIX, SEGMENT_SIZE, TREE_HEIGHT_MAX
from casimg.formats.damage import FormatDamage
from casimg.ids import BytesLike

_HEADER: Final = struct.Struct("<BBH")
_LEAF, _INNER = 1, 2
_ABSENT: Final = bytes(ID_SIZE)
_SIZE_MASK: Final = HOLE_FLAG - 1
NODE_SIZE_MAX: Final = _HEADER.size + 0xFFFF * (4 + ID_SIZE)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One segment: entries in order, sizes in bytes with HOLE_FLAG on holes, ids of the others."""

    sizes: tuple[int, ...]
    ids: tuple[bytes, ...]

    @property
    def plain_size(self) -> int:
        return sum(self.sizes) - HOLE_FLAG * (len(self.sizes) - len(self.ids))

    @property
    def hole_size(self) -> int:
        """Bytes of all holes."""
        return 0 if self._is_dense() else sum(size & _SIZE_MASK for size in self.sizes if size & HOLE_FLAG)

    def plain_sizes(self) -> Sequence[int]:
        """Return the sizes of all entries without their flags."""
        return self.sizes if self._is_dense() else [size & _SIZE_MASK for size in self.sizes]

    def ids_of(self, entry: int, stop: int) -> Sequence[bytes]:
        """Return the ids of the chunks among the entries from `entry` to before `stop`."""
        if self._is_dense():
            return self.ids[entry:stop]
        first = sum(size < HOLE_FLAG for size in self.sizes[:entry])
        return self.ids[first : first + sum(size < HOLE_FLAG for size in self.sizes[entry:stop])]

    def chunk_starts(self) -> list[int]:
        """Return where each chunk begins in the segment."""
        starts = accumulate(self.plain_sizes(), initial=0)
        return [start for start, size in zip(starts, self.sizes, strict=False) if size < HOLE_FLAG]

    def data_ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the (start, end) ranges of the segment between its holes."""
        if self._is_dense():
            if self.sizes:
                yield 0, sum(self.sizes)
            return
        at = start = 0
        for size in self.sizes:
            if size & HOLE_FLAG:
                if at > start:
                    yield start, at
                at += size & _SIZE_MASK
                start = at
            else:
                at += size
        if at > start:
            yield start, at

    def _is_dense(self) -> bool:
        return len(self.ids) == len(self.sizes)

    def entries(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield (size with flag, id or None for a hole)."""
        ids = iter(self.ids)
        for size in self.sizes:
            yield size, None if size & HOLE_FLAG else next(ids)


@dataclass(frozen=True, slots=True)
class Inner:
    """A node over `height` levels; None is a child of nothing but zeros."""

    height: int
    children: tuple[bytes | None, ...]


def encode_leaf(sizes: Sequence[int], ids: bytes) -> bytes:
    """Return the bytes of a leaf; `ids` are those of its chunks one after another.

    Raises: ValueError for a leaf that cannot be.
    """
    why = "an id does not have 32 bytes" if len(ids) % ID_SIZE else _leaf_problem(sizes, len(ids) // ID_SIZE)
    if why:
        raise ValueError(why)
    return struct.pack(f"<BBH{len(sizes)}I", _LEAF, 0, len(sizes), *sizes) + ids


def encode_inner(height: int, children: Sequence[bytes | None]) -> bytes:
    """Return the bytes of an inner node. Raises: ValueError for one that cannot be."""
    why = _inner_problem(height, children)
    if why:
        raise ValueError(why)
    return _HEADER.pack(_INNER, height, len(children)) + b"".join(child or _ABSENT for child in children)


def decode_node(data: BytesLike) -> Leaf | Inner:
    """Return the node that exactly these bytes are. Raises: FormatDamage."""
    if not _HEADER.size < len(data) <= NODE_SIZE_MAX:
        raise FormatDamage(f"a manifest node cannot have {len(data)} bytes")
    view = memoryview(data)
    kind, height, count = _HEADER.unpack_from(view)
    body = view[_HEADER.size :]
    if kind == _LEAF and height == 0:
        return _decode_leaf(body, count)
    if kind == _INNER and len(body) == ID_SIZE * count:
        ids = (bytes(body[at : at + ID_SIZE]) for at in range(0, len(body), ID_SIZE))
        children = tuple(None if child == _ABSENT else child for child in ids)
        why = _inner_problem(height, children)
        if not why:
            return Inner(height, children)
        raise FormatDamage(why)
    raise FormatDamage("it is not a manifest node")


def _decode_leaf(body: memoryview, count: int) -> Leaf:
    if len(body) < 4 * count:
        raise FormatDamage("a leaf is cut off")
    sizes = struct.unpack_from(f"<{count}I", body)
    ids = body[4 * count :]
    chunk_count = count if not count or max(sizes) < HOLE_FLAG else sum(1 for size in sizes if size < HOLE_FLAG)
    if len(ids) != ID_SIZE * chunk_count:
        raise FormatDamage("a leaf has more or fewer ids than chunks")
    why = _leaf_problem(sizes, chunk_count)
    if why:
        raise FormatDamage(why)
    return Leaf(sizes, struct.unpack(f"{ID_SIZE}s" * chunk_count, ids))


def _leaf_problem(sizes: Sequence[int], id_count: int) -> str | None:
    if not 0 < len(sizes) <= 0xFFFF:
        return f"a leaf cannot have {len(sizes)} entries"
    if max(sizes) < HOLE_FLAG and min(sizes) and id_count == len(sizes) and sum(sizes) <= SEGMENT_SIZE:
        return None  # chunks alone: the most frequent leaf by far
    total = holes = 0
    after_hole = False
    for size in sizes:
        plain = size & _SIZE_MASK
        total += plain
        if not plain:
            return "a leaf has an empty entry"
        if size & HOLE_FLAG:
            # Where a hole begins is whole blocks too: holes are runs of aligned blocks.
            if after_hole or (total - plain) % BLOCK_SIZE:
                return "a leaf has a hole that is not maximal or not aligned"
            holes += 1
            after_hole = True
        else:
            if after_hole and (total - plain) % BLOCK_SIZE:
                return "a leaf has a hole that does not end on a block"
            after_hole = False
    if total > SEGMENT_SIZE:
        return f"a leaf of {total} bytes is more than a segment"
    if holes + id_count != len(sizes) or not id_count:
        return "a leaf has no chunk, or ids and chunks do not match"
    return None


def _inner_problem(height: int, children: Sequence[bytes | None]) -> str | None:
    if not 1 <= height <= TREE_HEIGHT_MAX or not 1 <= len(children) <= NODE_RADIX:
        return f"an inner node of height {height} with {len(children)} children cannot be"
    if all(child is None for child in children):
        return "an inner node of nothing but zeros is an absent child"
    return None
