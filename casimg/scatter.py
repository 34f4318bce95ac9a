"""How scattered the chunks of a content lie: what reading it decodes, against what it needs.

A frame is decoded whole. After many generations a segment draws a few chunks each from many frames: decode
amplification is the plain bytes of all frames that its segments touch over the bytes they need.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from casimg.assemble import ContentReader
from casimg.catalog import PackRow
from casimg.errors import CasimgError
from casimg.formats.node import Leaf
from casimg.ids import ContentId
from casimg.index import fewest_frames
from casimg.manifest.walk import leaf_ids, load_leaf
from casimg.wiring import Wiring

THIN_SHARE: Final = 0.25
"""A frame of which a segment needs less than this is thin for it."""
_PACK_COUNT_MAX: Final = 2000  # about 25 KiB each


@dataclass(slots=True)
class Scatter:
    """Plain bytes.

    Attributes:
        needed_size: chunks of the content, repeats included.
        decoded_size: frames that hold them, counted for each segment that needs them.
        thin_size: of `needed_size`, chunks in frames that are thin for their segment.
        thin_decoded_size: of `decoded_size`, those frames.
    """

    needed_size: int = 0
    decoded_size: int = 0
    thin_size: int = 0
    thin_decoded_size: int = 0

    @property
    def amplification(self) -> float:
        """Decoded over needed; 1.0 is the least."""
        return self.decoded_size / self.needed_size if self.needed_size else 1.0


class FrameSizes:
    """Plain sizes of frames by pack and offset, from entry lists loaded on demand. Threads: one."""

    def __init__(self, wiring: Wiring, rows: dict[int, PackRow]) -> None:
        self._wiring = wiring
        self._rows = rows
        self._packs: OrderedDict[int, dict[int, int]] = OrderedDict()

    def get(self, pack_no: int, frame_offset: int) -> int:
        """Return the plain bytes of a frame, 0 when that cannot be known."""
        sizes = self._packs.get(pack_no)
        if sizes is None:
            try:
                trailer = self._wiring.load_trailer(self._rows[pack_no])
                sizes = {frame.offset: trailer.frame_plain_size(frame) for frame in trailer.frames()}
            except (CasimgError, KeyError):  # damage is told by check
                sizes = {}
            self._packs[pack_no] = sizes
            while len(self._packs) > _PACK_COUNT_MAX:
                self._packs.popitem(last=False)
        return sizes.get(frame_offset, 0)


def scattered_leaves(
    wiring: Wiring, content_id: ContentId, reader: ContentReader, total: Scatter
) -> Iterator[tuple[Leaf, list[bytes]]]:
    """Yield each leaf of a content that has chunks in thin frames, with the ids of those; sums go to `total`.

    Raises: ChunkLostError, NodeDamagedError.
    """
    rows = {row.pack_no: row for row in wiring.catalog.content_packs(content_id)}
    frame_sizes = FrameSizes(wiring, rows)
    for number, node in leaf_ids(reader.node, reader.tree):
        leaf = load_leaf(reader.node, reader.tree, number, node)
        sizes = [size for size, chunk in leaf.entries() if chunk is not None]
        with wiring.index.reading() as lookup:
            candidates = [[place for place in lookup.places(chunk) if place.pack_no in rows] for chunk in leaf.ids]
        frames: dict[tuple[int, int], dict[bytes, int]] = {}
        repeated = 0
        # As readers choose.
        for chunk, size, place in zip(leaf.ids, sizes, fewest_frames(candidates), strict=True):
            if place is not None:
                chunks = frames.setdefault((place.pack_no, place.frame_offset), {})
                repeated += chunks.get(chunk, 0)
                chunks[chunk] = size
        thin: list[bytes] = []
        total.needed_size += repeated
        total.decoded_size += repeated
        for (pack_no, frame_offset), chunks in frames.items():
            used = sum(chunks.values())
            decoded = max(used, frame_sizes.get(pack_no, frame_offset))
            total.needed_size += used
            total.decoded_size += decoded
            if used < THIN_SHARE * decoded:
                total.thin_size += used
                total.thin_decoded_size += decoded
                thin += chunks
        if thin:
            yield leaf, thin


def measure_scatter(wiring: Wiring, content_id: ContentId, reader: ContentReader) -> Scatter:
    """Return how scattered a content lies. Cost: its manifest and one index look-up per chunk."""
    total = Scatter()
    for _ in scattered_leaves(wiring, content_id, reader, total):
        pass
    return total
