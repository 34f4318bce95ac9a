"""The items that entry lists of packs give the index: id and value of each entry, sorted, in one buffer.

In C they are made without the GIL, while other threads compress. Without the C extension Python makes the same.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from casimg.constants import ID_SIZE
from casimg.formats.pack import EntryColumns
from casimg.index.place import ITEM, encode_place

try:
    from casimg._native import ffi as _ffi
    from casimg._native import lib as _lib
except ImportError:
    _ffi = _lib = None


class HasPlaces(Protocol):
    """An entry list of a pack."""

    def places(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        """Yield (id, frame offset, frame size, position, plain size)."""
        ...

    def columns(self) -> EntryColumns:
        """Return what these are made of."""
        ...


def sorted_items(packs: Sequence[tuple[int, HasPlaces]]) -> bytes | bytearray:
    """Return the items of all entries of packs (number, entry list), by id and then by value.

    Raises: ValueError when an entry list contradicts itself.
    Cost: `ITEM.size` bytes for each. Threads: any; releases the GIL in C.
    """
    if _lib is None:
        return sorted_in_python(packs)
    columns = [(pack_no, listed.columns()) for pack_no, listed in packs]
    items = bytearray(ITEM.size * sum(len(of_pack.sizes) for _, of_pack in columns))
    view, at = memoryview(items), 0
    for pack_no, of_pack in columns:
        end = at + ITEM.size * len(of_pack.sizes)
        write_items(pack_no, of_pack, view[at:end])
        at = end
    _lib.casimg_sort_items(_ffi.from_buffer("uint8_t[]", items, require_writable=True), len(items) // ITEM.size)
    return items


def write_items(pack_no: int, columns: EntryColumns, items: memoryview) -> None:
    """Write the items of a pack's entries in C, in their order, to `items`, which has `ITEM.size` bytes for each.

    Raises: ValueError when frames, sizes and ids do not fit each other.
    """
    count = len(columns.sizes)
    fits = len(columns.ids) == ID_SIZE * count and len(items) == ITEM.size * count
    if not fits or _lib.casimg_place_items(
        pack_no,
        _ffi.from_buffer("uint32_t[]", columns.frames),
        len(columns.frames) // 3,
        _ffi.from_buffer("uint32_t[]", columns.sizes),
        _ffi.from_buffer("uint8_t[]", columns.ids),
        count,
        _ffi.from_buffer("uint8_t[]", items, require_writable=True),
    ):
        raise ValueError(f"the entry list of pack {pack_no} contradicts itself")


def sorted_in_python(packs: Sequence[tuple[int, HasPlaces]]) -> bytes:
    """As `sorted_items`: its twin in Python."""
    return b"".join(
        sorted(
            chunk + encode_place(chunk, (pack_no, offset, size, position, plain_size))
            for pack_no, listed in packs
            for chunk, offset, size, position, plain_size in listed.places()
        )
    )
