"""Where a chunk lies, and the 20 bytes that say so in the index. Pure."""

import struct
import zlib
from typing import Final, NamedTuple

_VALUE: Final = struct.Struct(">IIIHI")  # pack number first: duplicates of a key sort by pack
_CHECK: Final = struct.Struct(">H")
VALUE_SIZE: Final = _VALUE.size + _CHECK.size


class Place(NamedTuple):
    """One copy of a chunk. Sizes and offsets in bytes, offsets from the start of the pack."""

    pack_no: int
    frame_offset: int
    frame_size: int
    position: int
    plain_size: int


def encode_place(chunk: bytes, place: Place) -> bytes:
    """Return the index value of a place; its check covers the key too."""
    body = _VALUE.pack(*place)
    return body + _CHECK.pack(zlib.crc32(chunk, zlib.crc32(body)) & 0xFFFF)


def decode_place(chunk: bytes, value: bytes) -> Place | None:
    """Return the place that an index value means, None when it fails its check."""
    if len(value) != VALUE_SIZE:
        return None
    body = value[: _VALUE.size]
    if _CHECK.unpack(value[_VALUE.size :])[0] != zlib.crc32(chunk, zlib.crc32(body)) & 0xFFFF:
        return None
    return Place(*_VALUE.unpack(body))
