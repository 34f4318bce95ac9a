"""Where a chunk lies, and the 20 bytes that say so in the index. Pure."""

import struct
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

from casimg.constants import ID_SIZE

_VALUE: Final = struct.Struct(">IIIHI")  # pack number first: duplicates of a key sort by pack
_CHECK: Final = struct.Struct(">H")
_WHOLE: Final = struct.Struct(">IIIHIH")
VALUE_SIZE: Final = _VALUE.size + _CHECK.size
ITEM: Final = struct.Struct(f"{ID_SIZE}s{VALUE_SIZE}s")
"""What is put in the index: id, value."""


class Place(NamedTuple):
    """One copy of a chunk. Sizes and offsets in bytes, offsets from the start of the pack."""

    pack_no: int
    frame_offset: int
    frame_size: int
    position: int
    plain_size: int


def fewest_frames(candidates: Sequence[Sequence[Place]]) -> list[Place | None]:
    """Choose a place for each chunk of a segment so that few frames are decoded; None where there is none.

    Where copies lie in several frames, the frame that holds most of the chunks is taken, and of such the newest pack's.
    """
    if all(len(places) <= 1 for places in candidates):
        return [places[0] if places else None for places in candidates]
    counts = Counter((place.pack_no, place.frame_offset) for places in candidates for place in places)
    return [
        max(places, key=lambda place: (counts[place.pack_no, place.frame_offset], place)) if places else None
        for places in candidates
    ]


def encode_place(chunk: bytes, place: tuple[int, int, int, int, int]) -> bytes:
    """Return the index value of a place; its check covers the key too."""
    body = _VALUE.pack(*place)
    return body + _CHECK.pack(crc32(chunk, crc32(body)) & 0xFFFF)


def decode_place(chunk: bytes, value: bytes) -> Place | None:
    """Return the place that an index value means, None when it fails its check."""
    if len(value) != VALUE_SIZE:
        return None
    pack_no, frame_offset, frame_size, position, plain_size, check = _WHOLE.unpack(value)
    if check != crc32(chunk, crc32(value[: _VALUE.size])) & 0xFFFF:
        return None
    return Place(pack_no, frame_offset, frame_size, position, plain_size)
