"""Which frames a repack writes of what it keeps. Pure.

A frame that is needed whole is copied as it is. Of others, the chunks of one leaf of the newest content come together
in a new frame: a frame holds chunks of one segment, and the newest image reads with the fewest frames.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from casimg.formats.pack import FrameSpan
from casimg.gc.marks import Marks


@dataclass(frozen=True, slots=True)
class Copy:
    """A frame that is needed whole."""

    pack_no: int
    frame: FrameSpan


@dataclass(frozen=True, slots=True)
class Kept:
    """A chunk to keep, of a frame that is not needed whole."""

    pack_no: int
    frame: FrameSpan
    position: int
    chunk: bytes
    plain_size: int


@dataclass(frozen=True, slots=True)
class Group:
    """Chunks of one leaf, to be a frame."""

    kept: list[Kept]


def outputs(marks: Marks, pack_nos: Iterable[int], target: int) -> list[Copy | Group]:
    """Return the frames to write, in the order of leaves. Frames needed whole are copied, of others chunks regrouped.

    Args:
        target: plain bytes that a frame of several chunks has at most.
    """
    found: list[tuple[int, Copy | Group]] = []
    by_leaf: dict[int, list[Kept]] = {}
    emitted: set[bytes] = set()
    for pack_no in sorted(pack_nos):
        trailer = marks.trailers[pack_no]
        places = trailer.places()
        for frame in trailer.frames():
            kept: list[tuple[int, Kept]] = []
            for position in range(frame.chunk_count):
                chunk, *_, size = next(places)
                owner = marks.owner(pack_no, frame.first_entry + position)
                if owner:
                    kept.append((owner, Kept(pack_no, frame, position, chunk, size)))
            if len(kept) == frame.chunk_count:
                found.append((min(owner for owner, _ in kept), Copy(pack_no, frame)))
                emitted.update(item.chunk for _, item in kept)
                continue
            for owner, item in kept:
                by_leaf.setdefault(owner, []).append(item)
    for owner, items in by_leaf.items():
        group: list[Kept] = []
        size = 0
        for item in items:
            if item.chunk in emitted:  # kept for several contents in several old packs: once is enough
                continue
            emitted.add(item.chunk)
            if group and size + item.plain_size > target:
                found.append((owner, Group(group)))
                group, size = [], 0
            group.append(item)
            size += item.plain_size
        if group:
            found.append((owner, Group(group)))
    found.sort(key=lambda pair: pair[0])
    return [output for _, output in found]
