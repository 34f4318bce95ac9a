"""Frames: new chunks of one segment, stored together as one header and one payload.

    magic 4 | codec 1 | flags 1 | chunk count 2 | plain size 4 | payload size 4 | chunk sizes 4 each | check 8 | payload

All little-endian. The check is the first 8 bytes of BLAKE3 of the header before it; the payload is covered by the
ids of the chunks, which only readers of a pack know.
"""

import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import zstandard
from blake3 import blake3

from casimg.constants import FRAME_PLAIN_MAX, FRAME_PLAIN_TARGET, KIND_DATA, KIND_METADATA
from casimg.formats.damage import FormatDamage
from casimg.ids import BytesLike

MAGIC: Final = b"CIf1"
_FIXED: Final = struct.Struct("<4sBBHII")
_CHECK_SIZE: Final = 8
_FLAG_METADATA: Final = 1
_CHUNK_COUNT_MAX: Final = 0xFFFF
FRAME_HEADER_SIZE_MIN: Final = _FIXED.size + 4 + _CHECK_SIZE
_RAW_OVER: Final = 0.97  # a payload that zstd shrinks by less than 3 % is kept raw: reading it is free
_FAST_LEVEL: Final = 1
_FAST_HASH_LOG: Final = 15  # libzstd's own 14 finds 0.8 % less in a full frame, for 1.5 % less time
_FAST_SIZE_MIN: Final = 128 * 1024 + 1  # libzstd has other tables for less, which need no help


class Codec(IntEnum):
    """How a payload is encoded. Numbers are for ever; RAW and ZSTD are written and read today."""

    RAW = 0
    ZSTD = 1
    ZSTD_DICTIONARY = 2
    ZSTD_BASE = 3
    DEFLATE_RAW = 4
    ENCRYPTED = 5


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What a frame says of itself; sizes in bytes."""

    codec: Codec
    kind: int
    plain_size: int
    payload_size: int
    chunk_sizes: tuple[int, ...]

    @property
    def header_size(self) -> int:
        return _FIXED.size + 4 * len(self.chunk_sizes) + _CHECK_SIZE


class _Codecs(threading.local):
    """Contexts are reused: making one costs more than compressing a chunk. One set per thread."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()
        self.fast = zstandard.ZstdCompressor(
            compression_params=zstandard.ZstdCompressionParameters.from_level(
                _FAST_LEVEL,
                source_size=FRAME_PLAIN_TARGET,
                hash_log=_FAST_HASH_LOG,
                write_checksum=False,
                write_content_size=True,
                write_dict_id=False,
            )
        )

    def compressor(self, level: int, plain_size: int) -> zstandard.ZstdCompressor:
        if level == _FAST_LEVEL and _FAST_SIZE_MIN <= plain_size <= FRAME_PLAIN_TARGET:
            return self.fast
        if level not in self.compressors:
            self.compressors[level] = zstandard.ZstdCompressor(
                level=level, write_checksum=False, write_content_size=True, write_dict_id=False
            )
        return self.compressors[level]


_codecs = _Codecs()


def encode_frame(kind: int, plain: BytesLike, chunk_sizes: Sequence[int], level: int) -> bytes:
    """Return the frame of these chunks, decoded again and compared before it is returned.

    Args:
        kind: KIND_DATA or KIND_METADATA.
        plain: the chunks one after another.
        chunk_sizes: their sizes, at least one; the sum is the length of `plain`, at most 4 MiB.
        level: zstd level.
    Threads: any; releases the GIL while compressing.
    """
    size = len(plain)
    if kind not in (KIND_DATA, KIND_METADATA):
        raise ValueError(f"kind {kind}")
    if not 0 < len(chunk_sizes) <= _CHUNK_COUNT_MAX or min(chunk_sizes) < 1 or sum(chunk_sizes) != size:
        raise ValueError(f"{len(chunk_sizes)} chunks do not make {size} bytes")
    if size > FRAME_PLAIN_MAX:
        raise ValueError(f"{size} bytes are more than a frame holds")
    payload = _codecs.compressor(level, size).compress(plain)
    decoded = _codecs.decompressor.decompress(payload, max_output_size=size)
    # Not `!=`: that compares a memoryview byte by byte, a hundred times slower.
    if len(decoded) != size or not decoded.startswith(plain):
        raise RuntimeError("zstd does not give back what it was given; memory or the library is broken")
    codec = Codec.ZSTD
    if len(payload) > size * _RAW_OVER:
        codec, payload = Codec.RAW, bytes(plain)
    flags = _FLAG_METADATA if kind == KIND_METADATA else 0
    header = _FIXED.pack(MAGIC, codec, flags, len(chunk_sizes), size, len(payload))
    header += struct.pack(f"<{len(chunk_sizes)}I", *chunk_sizes)
    return b"".join((header, blake3(header).digest(_CHECK_SIZE), payload))


def decode_header(data: BytesLike) -> FrameHeader:
    """Return the header that `data` begins with. Raises: FormatDamage."""
    if len(data) < FRAME_HEADER_SIZE_MIN:
        raise FormatDamage("it is too short for a frame header", len(data))
    magic, codec, flags, count, plain_size, payload_size = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise FormatDamage("no frame begins here", 0)
    end = _FIXED.size + 4 * count
    if count == 0 or len(data) < end + _CHECK_SIZE:
        raise FormatDamage("its frame header is cut off or empty", 0)
    if blake3(data[:end]).digest(_CHECK_SIZE) != bytes(data[end : end + _CHECK_SIZE]):
        raise FormatDamage("its frame header does not match its check", 0)
    if flags & ~_FLAG_METADATA:
        raise FormatDamage(f"its frame has unknown flags {flags:#x}", 5)
    if codec not in (Codec.RAW, Codec.ZSTD):
        raise FormatDamage(f"its frame is encoded with codec {codec}, which this version does not read", 4)
    sizes = struct.unpack_from(f"<{count}I", data, _FIXED.size)
    if plain_size > FRAME_PLAIN_MAX or min(sizes) < 1 or sum(sizes) != plain_size:
        raise FormatDamage("the sizes in its frame header contradict each other", 0)
    if payload_size > plain_size or (codec == Codec.RAW and payload_size != plain_size):
        raise FormatDamage("its frame is larger than what is in it", 0)
    kind = KIND_METADATA if flags & _FLAG_METADATA else KIND_DATA
    return FrameHeader(Codec(codec), kind, plain_size, payload_size, sizes)


def decode_frame(stored: BytesLike) -> tuple[FrameHeader, bytes]:
    """Return header and plain bytes of exactly one frame; chunks are not checked against ids here.

    Raises: FormatDamage.
    Cost: one allocation of the plain size, at most 4 MiB. Threads: any; releases the GIL.
    """
    view = memoryview(stored)
    header = decode_header(view)
    payload = view[header.header_size :]
    if len(payload) != header.payload_size:
        raise FormatDamage(f"its frame has {len(payload)} payload bytes instead of {header.payload_size}", 0)
    if header.codec == Codec.RAW:
        return header, bytes(payload)
    try:
        # The size inside the zstd frame is checked first: it is what the library would allocate.
        if zstandard.frame_content_size(payload) != header.plain_size:
            raise FormatDamage("its payload says another size than its header", header.header_size)
        plain = _codecs.decompressor.decompress(payload, max_output_size=header.plain_size)
    except zstandard.ZstdError as error:
        raise FormatDamage(f"its payload does not decode: {error}", header.header_size) from None
    if len(plain) != header.plain_size:
        raise FormatDamage("its payload decodes to another size", header.header_size)
    return header, plain
