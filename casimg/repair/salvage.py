"""What a damaged pack still holds: found, copied into new packs, and the object itself kept aside.

A chunk counts only when its bytes were read and hashed here; what an entry list says of a damaged pack is not enough.
"""

import array
import logging
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from casimg.backend.base import Backend
from casimg.catalog import PackRow
from casimg.constants import FRAME_PLAIN_TARGET, KIND_DATA, NODE_FRAME_PLAIN_TARGET
from casimg.errors import DamageError, NotFoundError
from casimg.formats.damage import FormatDamage
from casimg.formats.frame import decode_frame, encode_frame
from casimg.formats.pack import FrameSpan, PackTrailer
from casimg.ids import PackId, chunk_id, node_id
from casimg.pack.keys import pack_key, quarantine_key
from casimg.pack.reader import read_frame, read_object, read_trailer, salvage
from casimg.packing import PackLine

_log = logging.getLogger("casimg.repair")


@dataclass(frozen=True, slots=True)
class Brought:
    """A chunk or node of another backend; `leaf` counts leaves, since a frame holds chunks of one segment."""

    number: int
    chunk: bytes
    kind: int
    leaf: int
    plain: memoryview


def listed_ids(backend: Backend, row: PackRow) -> set[bytes]:
    """Return the ids that a pack's own entry list names; none when it cannot be read."""
    try:
        trailer = read_trailer(backend, pack_key(PackId(row.pack_id)), row.size, row.trailer_offset)
    except (DamageError, NotFoundError):
        return set()
    return {chunk for chunk, *_ in trailer.places()}


def readable(backend: Backend, row: PackRow) -> PackTrailer:
    """Return the entry list of the frames of a damaged pack that decode, ids computed from their bytes.

    Cost: reads, decodes and hashes the whole pack.
    """
    key = pack_key(PackId(row.pack_id))
    try:
        trailer = read_trailer(backend, key, row.size, row.trailer_offset)
    except NotFoundError:
        return _trailer(row.kind, [])
    except DamageError:
        try:
            return salvage(backend, key, row.size)
        except (DamageError, NotFoundError):
            return _trailer(row.kind, [])
    frames: list[tuple[int, int, list[tuple[bytes, int]]]] = []
    for frame in trailer.frames():
        try:
            header, plain = read_frame(backend, key, frame.offset, frame.size)
        except (DamageError, NotFoundError):
            continue
        frames.append((frame.offset, frame.size, list(_hashed(header.kind, plain, header.chunk_sizes))))
    return _trailer(trailer.kind, frames)


def _trailer(kind: int, frames: list[tuple[int, int, list[tuple[bytes, int]]]]) -> PackTrailer:
    spans: list[FrameSpan] = []
    sizes: array.array[int] = array.array("I")
    ids: list[bytes] = []
    for offset, size, chunks in frames:
        spans.append(FrameSpan(offset, size, len(sizes), len(chunks)))
        sizes.extend(chunk_size for _, chunk_size in chunks)
        ids.extend(chunk for chunk, _ in chunks)
    return PackTrailer(kind, 0, bytes(16), spans, sizes, b"".join(ids))


def _hashed(kind: int, plain: bytes, sizes: Iterable[int]) -> Iterable[tuple[bytes, int]]:
    hash_of = chunk_id if kind == KIND_DATA else node_id
    view, at = memoryview(plain), 0
    for size in sizes:
        yield hash_of(view[at : at + size]), size
        at += size


def copy_frames(
    backend: Backend, row: PackRow, trailer: PackTrailer, take: Callable[[bytes], bool], line: PackLine, level: int
) -> None:
    """Append the chunks of a damaged pack that `take` wants to new packs, each hashed once more on its way.

    Args:
        trailer: from `readable`.
        take: asked once per chunk that is right; True when it is wanted and not yet copied.
    """
    key = pack_key(PackId(row.pack_id))
    for frame in trailer.frames():
        try:
            stored = backend.get_range(key, frame.offset, frame.size)
            header, plain = decode_frame(stored)
        except (DamageError, NotFoundError, FormatDamage):
            continue  # it read a moment ago; what is missing in the end is seen there
        kept: list[tuple[bytes, memoryview]] = []
        view, at = memoryview(plain), 0
        for chunk, size in _hashed(header.kind, plain, header.chunk_sizes):
            if take(chunk):
                kept.append((chunk, view[at : at + size]))
            at += size
        if not kept:
            continue
        ids, sizes = [chunk for chunk, _ in kept], [len(piece) for _, piece in kept]
        if len(kept) < len(header.chunk_sizes):
            stored = encode_frame(header.kind, b"".join(piece for _, piece in kept), sizes, level)
        line.append(header.kind, stored, ids, sizes)


def bring(found: Iterable[Brought], line: PackLine, level: int, beat: Callable[[], None]) -> None:
    """Append chunks of other backends to new packs, those of one leaf together."""
    group: list[Brought] = []

    def write() -> None:
        if group:
            sizes = [len(item.plain) for item in group]
            frame = encode_frame(group[0].kind, b"".join(item.plain for item in group), sizes, level)
            line.append(group[0].kind, frame, [item.chunk for item in group], sizes)
            group.clear()

    for item in found:
        beat()
        target = FRAME_PLAIN_TARGET if item.kind == KIND_DATA else NODE_FRAME_PLAIN_TARGET
        fits = sum(len(other.plain) for other in group) + len(item.plain) <= target
        if group and not (fits and (item.kind, item.leaf) == (group[0].kind, group[0].leaf)):
            write()
        group.append(item)
    write()


def set_aside(backend: Backend, row: PackRow, spool: Path) -> str | None:
    """Copy the object of a damaged pack to quarantine before the last name of it goes; None when there is no object.

    Blocks that the medium does not give are zeros in the copy. Again is harmless.
    """
    key = quarantine_key(PackId(row.pack_id))
    source_key = pack_key(PackId(row.pack_id))
    try:
        size = backend.stat(source_key).size
    except NotFoundError:
        return None
    try:
        if backend.stat(key).size == size:
            return key
    except NotFoundError:
        pass
    with tempfile.TemporaryFile(dir=spool) as copy:
        copied_size = sum(copy.write(part) for part in read_object(backend, source_key))
        copy.seek(0)
        backend.put(key, copy, copied_size)
    _log.info("pack.set_aside key=%s size=%d", key, size)
    return key
