"""Packs: a header, frames, and a trailer that lists their chunks.

    header   magic 8 | version 2 | kind 1 | zero 1 | domain 4
    frames   one after another
    trailer  magic 8 | kind 1 | zero 3 | domain 4 | frames 4 | entries 4 | nonce 16
             | per frame: offset 4, size 4, chunk count 4 | per entry: plain size 4 | per entry: id 32
             | BLAKE3 of the trailer so far 32 | trailer size 4 | end magic 8

All little-endian. The size and end magic let a trailer be found from the end of the pack alone.
"""

import array
import bisect
import itertools
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from blake3 import blake3

from casimg.chunker import common_size
from casimg.constants import FORMAT_VERSION, FRAME_PLAIN_MAX, ID_SIZE, KIND_DATA, KIND_METADATA, PACK_SIZE_MAX
from casimg.formats.damage import FormatDamage
from casimg.ids import BytesLike

_MAGIC: Final = b"CASIMGpk"
_TRAILER_MAGIC: Final = b"CASIMGtr"
_END_MAGIC: Final = b"CASIMGen"
_HEADER: Final = struct.Struct("<8sHBBI")
_TRAILER: Final = struct.Struct("<8sB3xIII16s")
_FRAME: Final = struct.Struct("<III")
_END: Final = struct.Struct("<I8s")

PACK_HEADER_SIZE: Final = _HEADER.size
TRAILER_END_SIZE: Final = _END.size
NONCE_SIZE: Final = 16
_FRAME_COUNT_MAX: Final = 1 << 20
_ENTRY_COUNT_MAX: Final = 1 << 22
TRAILER_SIZE_MAX: Final = 256 * 1024 * 1024


class FrameSpan(NamedTuple):
    """Where a frame lies in its pack and which entries are its chunks."""

    offset: int
    size: int
    first_entry: int
    chunk_count: int


class EntryColumns(NamedTuple):
    """What an entry list is made of, for C.

    Attributes:
        frames: offset, size and chunk count of each frame.
        sizes: plain bytes of each entry.
        ids: of the entries, one after another.
    """

    frames: "array.array[int]"
    sizes: "array.array[int]"
    ids: bytes


class PackTrailer:
    """The entry list of a pack. Compact: no Python object per entry. Threads: any."""

    __slots__ = ("_first_entries", "_frames", "_ids", "_sizes", "_starts", "domain", "kind", "nonce")

    def __init__(
        self, kind: int, domain: int, nonce: bytes, frames: Sequence[FrameSpan], sizes: "array.array[int]", ids: bytes
    ) -> None:
        self.kind = kind
        self.domain = domain
        self.nonce = nonce
        self._frames = tuple(frames)
        self._sizes = sizes
        self._ids = ids
        self._starts = [frame.first_entry for frame in self._frames]
        self._first_entries = {frame.offset: frame for frame in self._frames}

    @property
    def frame_count(self) -> int:
        return len(self._frames)

    @property
    def entry_count(self) -> int:
        return len(self._sizes)

    @property
    def plain_size(self) -> int:
        """Plain bytes of all chunks."""
        return sum(self._sizes)

    def ids(self) -> list[bytes]:
        """Return the ids of all entries, in order."""
        return [self._ids[at : at + ID_SIZE] for at in range(0, len(self._ids), ID_SIZE)]

    def id_at(self, entry: int) -> bytes:
        """Return the id of an entry."""
        return self._ids[entry * ID_SIZE : (entry + 1) * ID_SIZE]

    def size_at(self, entry: int) -> int:
        """Return the plain size of an entry."""
        return self._sizes[entry]

    def holds(self, entry: int, chunk: bytes) -> bool:
        """Tell whether `entry` is this chunk; False when there is no such entry."""
        return self._ids[entry * ID_SIZE : (entry + 1) * ID_SIZE] == chunk

    def run(self, entry: int, ids: bytes, chunk: int) -> int:
        """Return how many entries from `entry` on are the chunks that `ids` lists from number `chunk` on."""
        at, start = entry * ID_SIZE, chunk * ID_SIZE
        # The first one here: a call into C gives the GIL away, and most runs that are none end at once.
        if self._ids[at : at + ID_SIZE] != ids[start : start + ID_SIZE]:
            return 0
        return common_size(self._ids, at, ids, start) // ID_SIZE

    def entry_of(self, frame_offset: int, position: int) -> int | None:
        """Return the number of the entry at `position` in the frame at `frame_offset`, None when there is none."""
        frame = self._first_entries.get(frame_offset)
        if frame is None or position >= frame.chunk_count:
            return None
        return frame.first_entry + position

    def frame_of(self, entry: int) -> tuple[FrameSpan, int]:
        """Return the frame of an entry and its position there."""
        number = bisect.bisect_right(self._starts, entry) - 1
        return self._frames[number], entry - self._frames[number].first_entry

    def frame_plain_size(self, frame: FrameSpan) -> int:
        """Return the plain bytes of all chunks of a frame."""
        return sum(self._sizes[frame.first_entry : frame.first_entry + frame.chunk_count])

    def frames(self) -> Iterator[FrameSpan]:
        """Yield the frames in order."""
        return iter(self._frames)

    def columns(self) -> EntryColumns:
        """Return frames, sizes and ids; not to be changed."""
        numbers = itertools.chain.from_iterable((offset, size, count) for offset, size, _, count in self._frames)
        return EntryColumns(array.array("I", numbers), self._sizes, self._ids)

    def places(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        """Yield (id, frame offset, frame size, position in the frame, plain size) of every entry, in order."""
        ids, sizes = self.ids(), self._sizes
        for offset, size, first, count in self._frames:
            for position in range(count):
                yield ids[first + position], offset, size, position, sizes[first + position]


def encode_pack_header(kind: int, domain: int) -> bytes:
    """Return the first 16 bytes of a pack."""
    return _HEADER.pack(_MAGIC, FORMAT_VERSION, kind, 0, domain)


def decode_pack_header(data: BytesLike) -> tuple[int, int]:
    """Return (kind, domain). Raises: FormatDamage."""
    if len(data) < _HEADER.size:
        raise FormatDamage("it is too short for a pack", len(data))
    magic, version, kind, zero, domain = _HEADER.unpack_from(data)
    if magic != _MAGIC or zero:
        raise FormatDamage("it does not begin like a pack", 0)
    if version != FORMAT_VERSION:
        raise FormatDamage(f"it is of format version {version}, this casimg reads {FORMAT_VERSION}", 8)
    if kind not in (KIND_DATA, KIND_METADATA):
        raise FormatDamage(f"it is of unknown kind {kind}", 10)
    return kind, domain


def encode_trailer(
    kind: int, domain: int, nonce: bytes, frames: Sequence[FrameSpan], sizes: "array.array[int]", ids: bytes
) -> bytes:
    """Return the trailer of a pack; entries are in frame order."""
    if len(nonce) != NONCE_SIZE or len(ids) != ID_SIZE * len(sizes):
        raise ValueError("nonce or ids have the wrong length")
    body = b"".join(
        (
            _TRAILER.pack(_TRAILER_MAGIC, kind, domain, len(frames), len(sizes), nonce),
            b"".join(_FRAME.pack(frame.offset, frame.size, frame.chunk_count) for frame in frames),
            _little_endian(sizes).tobytes(),
            ids,
        )
    )
    size = len(body) + ID_SIZE + _END.size
    return b"".join((body, blake3(body).digest(), _END.pack(size, _END_MAGIC)))


def trailer_size(end: BytesLike) -> int:
    """Return the size of the trailer from the last 12 bytes of a pack. Raises: FormatDamage."""
    if len(end) != _END.size:
        raise FormatDamage("it is too short for a trailer")
    size, magic = _END.unpack(end)
    if magic != _END_MAGIC or not _TRAILER.size <= size <= TRAILER_SIZE_MAX:
        raise FormatDamage("it does not end like a pack")
    return int(size)


def decode_trailer(data: BytesLike) -> PackTrailer:
    """Return the entry list that exactly these bytes are. Raises: FormatDamage."""
    least = _TRAILER.size + ID_SIZE + _END.size
    if not least <= len(data) <= TRAILER_SIZE_MAX:
        raise FormatDamage(f"a trailer cannot have {len(data)} bytes")
    if trailer_size(data[-_END.size :]) != len(data):
        raise FormatDamage("its trailer has another size than it says")
    body = memoryview(data)[: -ID_SIZE - _END.size]
    if blake3(body).digest() != bytes(data[len(body) : len(body) + ID_SIZE]):
        raise FormatDamage("its trailer does not match its hash")
    magic, kind, domain, frame_count, entry_count, nonce = _TRAILER.unpack_from(body)
    if magic != _TRAILER_MAGIC or kind not in (KIND_DATA, KIND_METADATA):
        raise FormatDamage("its trailer does not begin like one")
    if frame_count > _FRAME_COUNT_MAX or entry_count > _ENTRY_COUNT_MAX:
        raise FormatDamage("its trailer lists more than a pack can hold")
    sizes_at = _TRAILER.size + frame_count * _FRAME.size
    ids_at = sizes_at + 4 * entry_count
    if ids_at + ID_SIZE * entry_count != len(body):
        raise FormatDamage("its trailer does not have the size its counts need")
    frames = _decode_frames(body, frame_count, entry_count)
    sizes = array.array("I", bytes(body[sizes_at:ids_at]))
    if sys.byteorder == "big":
        sizes.byteswap()
    return PackTrailer(kind, domain, nonce, frames, sizes, bytes(body[ids_at:]))


def _decode_frames(body: memoryview, frame_count: int, entry_count: int) -> list[FrameSpan]:
    frames: list[FrameSpan] = []
    entry, end = 0, PACK_HEADER_SIZE
    for offset, size, count in _FRAME.iter_unpack(body[_TRAILER.size : _TRAILER.size + frame_count * _FRAME.size]):
        if offset < end or size > 2 * FRAME_PLAIN_MAX or offset + size > PACK_SIZE_MAX or count == 0:
            raise FormatDamage("its trailer lists frames that cannot be")
        frames.append(FrameSpan(offset, size, entry, count))
        entry += count
        end = offset + size
    if entry != entry_count:
        raise FormatDamage("its trailer lists more or fewer chunks than its frames have")
    return frames


def _little_endian(numbers: "array.array[int]") -> "array.array[int]":
    if sys.byteorder == "little":
        return numbers
    swapped = array.array("I", numbers)
    swapped.byteswap()
    return swapped
