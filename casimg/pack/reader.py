"""Read packs from a backend: entry lists, frames, and what can be saved of a damaged one."""

import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from blake3 import blake3

from casimg.backend.base import Backend
from casimg.constants import KIND_DATA, MIB, PACK_SIZE_MAX
from casimg.errors import NotFoundError, ObjectDamagedError, PackDamagedError
from casimg.formats.damage import FormatDamage
from casimg.formats.frame import MAGIC, FrameHeader, decode_frame, decode_header
from casimg.formats.pack import (
    PACK_HEADER_SIZE,
    TRAILER_END_SIZE,
    FrameSpan,
    PackTrailer,
    decode_pack_header,
    decode_trailer,
    trailer_size,
)
from casimg.ids import chunk_id, node_id

_SCAN_STEP = 1 * MIB
_HEADER_GUESS = 64 * 1024
_MEDIUM_BLOCK: Final = 4096


class _ReadsRanges(Protocol):
    def get_range(self, key: str, offset: int, size: int) -> bytes: ...


class _Tolerant:
    """Ranges of an object in which what the medium does not give is zeros, block by block."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def get_range(self, key: str, offset: int, size: int) -> bytes:
        try:
            return self._backend.get_range(key, offset, size)
        except ObjectDamagedError:
            if size <= _MEDIUM_BLOCK:
                return bytes(size)
        half = -(-size // (2 * _MEDIUM_BLOCK)) * _MEDIUM_BLOCK
        return self.get_range(key, offset, half) + self.get_range(key, offset + half, size - half)


@dataclass(frozen=True, slots=True)
class PackProblem:
    """What is wrong with a pack, and the chunks it costs."""

    offset: int | None
    why: str
    lost: tuple[bytes, ...] = ()


def read_trailer(backend: Backend, key: str, pack_size: int, trailer_offset: int | None) -> PackTrailer:
    """Return the entry list of a pack.

    Args:
        trailer_offset: where the catalog says the trailer begins; None finds it from the end.
    Raises: ObjectNotFoundError, PackDamagedError.
    """
    if not PACK_HEADER_SIZE + TRAILER_END_SIZE <= pack_size <= PACK_SIZE_MAX:
        raise PackDamagedError(key, None, f"a pack cannot have {pack_size} bytes")
    try:
        if trailer_offset is None:
            end = backend.get_range(key, pack_size - TRAILER_END_SIZE, TRAILER_END_SIZE)
            trailer_offset = pack_size - trailer_size(end)
        if not PACK_HEADER_SIZE <= trailer_offset < pack_size:
            raise FormatDamage("its trailer cannot be where it should")
        return decode_trailer(backend.get_range(key, trailer_offset, pack_size - trailer_offset))
    except FormatDamage as damage:
        raise PackDamagedError(key, trailer_offset, damage.why) from None


def read_frame(backend: Backend, key: str, offset: int, size: int) -> tuple[FrameHeader, bytes]:
    """Return header and plain bytes of one frame; its chunks are not yet checked.

    Raises: ObjectNotFoundError, PackDamagedError.
    """
    try:
        return decode_frame(backend.get_range(key, offset, size))
    except FormatDamage as damage:
        raise PackDamagedError(key, offset + (damage.offset or 0), damage.why) from None


def salvage(backend: Backend, key: str, pack_size: int) -> PackTrailer:
    """Return the entry list of what can still be read of a pack, made from its frames alone.

    Frames whose header or payload is damaged are left out; chunk ids are computed, so they are right by construction.
    Cost: reads, decodes and hashes the whole pack.
    Raises: ObjectNotFoundError.
    """
    frames: list[FrameSpan] = []
    sizes: array.array[int] = array.array("I")
    ids: list[bytes] = []
    kind = KIND_DATA
    for offset, size, header, plain in _scan(_Tolerant(backend), key, min(pack_size, backend.stat(key).size)):
        kind = header.kind
        hash_of = chunk_id if kind == KIND_DATA else node_id
        frames.append(FrameSpan(offset, size, len(sizes), len(header.chunk_sizes)))
        at = 0
        for chunk_size in header.chunk_sizes:
            ids.append(hash_of(plain[at : at + chunk_size]))
            at += chunk_size
        sizes.extend(header.chunk_sizes)
    return PackTrailer(kind, 0, bytes(16), frames, sizes, b"".join(ids))


def _scan(backend: _ReadsRanges, key: str, pack_size: int) -> Iterator[tuple[int, int, FrameHeader, bytes]]:
    """Yield the frames that decode, going from each to the next, and to the next magic after damage."""
    at = PACK_HEADER_SIZE
    while at < pack_size:
        guess = backend.get_range(key, at, min(_HEADER_GUESS, pack_size - at))
        try:
            header = _header_at(backend, key, at, pack_size, guess)
            size = header.header_size + header.payload_size
            if at + size > pack_size:
                raise FormatDamage("a frame reaches past the end")
            _, plain = decode_frame(backend.get_range(key, at, size))
        except FormatDamage:
            at = _next_magic(backend, key, at + 1, pack_size)
            continue
        yield at, size, header, plain
        at += size


def _header_at(backend: _ReadsRanges, key: str, at: int, pack_size: int, guess: bytes) -> FrameHeader:
    try:
        return decode_header(guess)
    except FormatDamage:
        if guess[: len(MAGIC)] != MAGIC or len(guess) < _HEADER_GUESS:
            raise
    # A frame of very many chunks has a header longer than the guess.
    return decode_header(backend.get_range(key, at, min(5 * _HEADER_GUESS, pack_size - at)))


def _next_magic(backend: _ReadsRanges, key: str, at: int, pack_size: int) -> int:
    while at < pack_size:
        size = min(_SCAN_STEP, pack_size - at)
        found = backend.get_range(key, at, size).find(MAGIC)
        if found >= 0:
            return at + found
        at += max(1, size - len(MAGIC) + 1)
    return pack_size


def read_object(backend: Backend, key: str, step: int = _SCAN_STEP) -> Iterator[bytes]:
    """Yield an object in steps; blocks that the medium does not give are zeros. Raises: ObjectNotFoundError."""
    size = backend.stat(key).size
    tolerant = _Tolerant(backend)
    for at in range(0, size, step):
        yield tolerant.get_range(key, at, min(step, size - at))


def verify_pack(
    backend: Backend, key: str, size: int, pack_id: bytes, trailer_offset: int
) -> tuple[list[PackProblem], int]:
    """Read a whole pack and return what is wrong with it, and the bytes read.

    Checks the hash of all bytes against the pack id, the trailer, and that every chunk decodes to its id.
    """
    try:
        found = backend.stat(key)
    except NotFoundError:
        return [PackProblem(None, "the object is missing")], 0
    if found.size != size:
        return [PackProblem(None, f"it has {found.size} bytes instead of {size}")], 0
    hasher = blake3()
    problems: list[PackProblem] = []
    try:
        for at in range(0, size, _SCAN_STEP):
            hasher.update(backend.get_range(key, at, min(_SCAN_STEP, size - at)))
    except ObjectDamagedError as damage:  # a medium that fails in one place may read in all others
        problems.append(PackProblem(damage.offset, damage.why))
    try:
        decode_pack_header(backend.get_range(key, 0, PACK_HEADER_SIZE))
        trailer = read_trailer(backend, key, size, trailer_offset)
    except FormatDamage as damage:
        return [PackProblem(damage.offset, damage.why)], size
    except ObjectDamagedError as damage:
        return [PackProblem(damage.offset, damage.why)], size
    for frame in trailer.frames():
        problem = _frame_problem(backend, key, trailer, frame)
        if problem is not None:
            problems.append(problem)
    if not problems and hasher.digest() != pack_id:
        problems.append(PackProblem(None, "its bytes do not match its id, though every chunk in it is right"))
    return problems, 2 * size


def _frame_problem(backend: Backend, key: str, trailer: PackTrailer, frame: FrameSpan) -> PackProblem | None:
    ids = [trailer.id_at(frame.first_entry + position) for position in range(frame.chunk_count)]
    try:
        header, plain = read_frame(backend, key, frame.offset, frame.size)
    except ObjectDamagedError as damage:
        return PackProblem(damage.offset, damage.why, tuple(ids))
    hash_of = chunk_id if trailer.kind == KIND_DATA else node_id
    lost, at = [], 0
    if len(header.chunk_sizes) != len(ids):
        return PackProblem(frame.offset, "its frame has other chunks than the trailer lists", tuple(ids))
    for expected, chunk_size in zip(ids, header.chunk_sizes, strict=True):
        if hash_of(plain[at : at + chunk_size]) != expected:
            lost.append(expected)
        at += chunk_size
    if lost:
        return PackProblem(frame.offset, f"{len(lost)} of its chunks do not match their ids", tuple(lost))
    return None


__all__ = ["PackProblem", "read_frame", "read_object", "read_trailer", "salvage", "verify_pack"]
