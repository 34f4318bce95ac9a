"""How the repository and each image use space.

Repository figures come from the catalog alone. What images share is found by walking their manifests: for every
entry of a pack, which contents reach it. Cost: one index look-up per chunk reference, 12 bytes per stored chunk.
"""

import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from casimg.catalog import ImageRow
from casimg.constants import KIND_DATA
from casimg.formats.node import Leaf
from casimg.formats.pack import PackTrailer
from casimg.ids import ContentId, NodeId
from casimg.images import image_of
from casimg.manifest.walk import node_ids
from casimg.progress import Progress, ProgressCallback
from casimg.results.figures import ImageUsage, ProjectUsage, Stats
from casimg.scatter import measure_scatter
from casimg.wiring import PACK_STATES_FINDABLE, Wiring

_SHARED = 1  # 0 is nobody
_FIRST = 2


def stats(wiring: Wiring, asked: Sequence[ImageRow] | None, progress: ProgressCallback | None) -> Stats:
    """Return the figures of the repository; with `asked`, also the usage of these images."""
    catalog = wiring.catalog
    images = [row for row in catalog.images() if row.content_id is not None]
    packs = [row for peer in wiring.peers for row in peer.catalog.all_packs(PACK_STATES_FINDABLE)]
    unreferenced = sum(row.size for peer in wiring.peers for row in peer.catalog.unreferenced())
    virtual = sum(row.size or 0 for row in images)
    holes = sum(row.hole_size for row in images)
    data = [row for row in packs if row.kind == KIND_DATA]
    return Stats(
        image_count=len(images),
        content_count=len({content_id for row in images for content_id in _contents_of(row)}),
        chunk_count=sum(row.chunk_count for row in data),
        pack_count=len(packs),
        virtual_size=virtual,
        plain_size=virtual - holes,
        unique_size=sum(row.plain_size for row in data),
        stored_size=sum(row.size for row in data),
        metadata_size=sum(row.size for row in packs if row.kind != KIND_DATA),
        index_size=sum(peer.index.stored_size() for peer in wiring.peers),
        unreferenced_size=unreferenced,
        usages=() if asked is None else _usages(wiring, images, asked, progress),
    )


def _contents_of(row: ImageRow) -> list[ContentId]:
    """Return the content of an image and those of its copies."""
    return [] if row.content_id is None else [row.content_id, *(copy.content_id for copy in row.copies)]


def _follow(wiring: Wiring) -> None:
    for peer in wiring.peers:
        peer.follow()


class _Pack:
    """Who reaches each entry of a pack: nobody, one content or project (its number + 2), or several."""

    __slots__ = ("first_entries", "owners", "sizes", "stored_share", "visitors")

    def __init__(self, trailer: PackTrailer, stored_share: float) -> None:
        self.first_entries = {frame.offset: frame.first_entry for frame in trailer.frames()}
        zeros = bytes(4 * trailer.entry_count)
        self.owners = array.array("I", zeros)
        self.visitors = array.array("I", zeros)
        self.sizes = array.array("I", zeros)
        self.stored_share = stored_share


@dataclass(slots=True)
class _Sum:
    unique_size: int = 0
    unique_stored: float = 0.0
    own_size: int = 0
    own_stored: float = 0.0


def _usages(
    wiring: Wiring, images: Sequence[ImageRow], asked: Sequence[ImageRow], progress: ProgressCallback | None
) -> tuple[ImageUsage, ...]:
    _follow(wiring)
    numbers: dict[ContentId, int] = {}
    for row in images:
        for content_id in _contents_of(row):
            numbers.setdefault(content_id, len(numbers))
    packs, pack_of = _packs(wiring)
    sums = [_Sum() for _ in numbers]
    for content_id, number in numbers.items():
        _visit(wiring, content_id, number, sums[number], pack_of)
        if progress is not None:
            progress(Progress("stats", number + 1, len(numbers)))
    _add_own(packs, sums)
    # Two images of one content share all of it: neither's deletion gives anything back.
    image_count = Counter(content_id for row in images for content_id in _contents_of(row))
    usages = []
    for row in asked:
        if row.content_id is None or row.content_id not in numbers:
            continue
        total = sums[numbers[row.content_id]]
        own_size = total.own_size if image_count[row.content_id] == 1 else 0
        # What is stored is stored again for each copy.
        of_image = [content_id for content_id in _contents_of(row) if content_id in numbers]
        stored = sum(sums[numbers[content_id]].unique_stored for content_id in of_image)
        alone = [content_id for content_id in of_image if image_count[content_id] == 1]
        own_stored = sum(sums[numbers[content_id]].own_stored for content_id in alone)
        content = wiring.catalog.content(row.content_id)
        peer = wiring.peer(content.backend_id)
        amplification = measure_scatter(peer, row.content_id, peer.reader(row.content_id)).amplification
        usages.append(
            ImageUsage(
                image=image_of(row),
                size=content.size or 0,
                plain_size=(content.size or 0) - content.hole_size,
                unique_size=total.unique_size,
                shared_size=total.unique_size - own_size,
                own_size=own_size,
                shared_stored_size=round(stored - own_stored),
                own_stored_size=round(own_stored),
                decode_amplification=round(amplification, 3),
            )
        )
    return tuple(usages)


def project_usages(wiring: Wiring, progress: ProgressCallback | None = None) -> tuple[ProjectUsage, ...]:
    """Return how the images of each project use the repository, by its name; those of nobody first."""
    _follow(wiring)
    contents: dict[str | None, dict[ContentId, None]] = {}
    for row in wiring.catalog.images():
        for content_id in _contents_of(row):
            contents.setdefault(row.owner, {})[content_id] = None
    owners = sorted(contents, key=lambda owner: owner or "")
    packs, pack_of = _packs(wiring)
    sums = [_Sum() for _ in owners]
    for number, owner in enumerate(owners):
        for content_id in contents[owner]:
            _visit(wiring, content_id, number, sums[number], pack_of)
        if progress is not None:
            progress(Progress("usage", number + 1, len(owners)))
    _add_own(packs, sums)
    return tuple(
        ProjectUsage(
            owner=owner,
            unique_size=total.unique_size,
            own_size=total.own_size,
            shared_stored_size=round(total.unique_stored - total.own_stored),
            own_stored_size=round(total.own_stored),
        )
        for owner, total in zip(owners, sums, strict=True)
    )


def _packs(wiring: Wiring) -> tuple[dict[int, _Pack], Callable[[int], _Pack | None]]:
    """Return the packs that were looked at, none yet, and how to look at one; None for one that is not there."""
    rows = {row.pack_no: row for peer in wiring.peers for row in peer.catalog.all_packs(PACK_STATES_FINDABLE)}
    packs: dict[int, _Pack] = {}

    def pack_of(pack_no: int) -> _Pack | None:
        if pack_no not in packs:
            row = rows.get(pack_no)
            if row is None:
                return None
            share = row.size / row.plain_size if row.plain_size else 0.0
            packs[pack_no] = _Pack(wiring.peer(row.backend_id).load_trailer(row), share)
        return packs[pack_no]

    return packs, pack_of


def _add_own(packs: Mapping[int, _Pack], sums: Sequence[_Sum]) -> None:
    """Add to each sum what nobody else reaches."""
    for pack in packs.values():
        for owner, size in zip(pack.owners, pack.sizes, strict=True):
            if owner > _SHARED:
                total = sums[owner - _FIRST]
                total.own_size += size
                total.own_stored += size * pack.stored_share


def _visit(
    wiring: Wiring, content_id: ContentId, number: int, total: _Sum, pack_of: Callable[[int], _Pack | None]
) -> None:
    """Mark every chunk that a content reaches; contents of one number follow each other."""
    peer = wiring.of_content(content_id)
    reader = peer.reader(content_id)
    seen: set[NodeId] = set()
    for node_id, node in node_ids(reader.node, reader.tree, seen.__contains__):
        seen.add(node_id)
        if not isinstance(node, Leaf):
            continue
        with peer.index.reading() as lookup:
            places = [lookup.first(chunk) for chunk in node.ids]
        for place in places:
            pack = None if place is None else pack_of(place.pack_no)
            if place is None or pack is None or place.frame_offset not in pack.first_entries:
                continue  # a damaged place: `check` is where that is told
            entry = pack.first_entries[place.frame_offset] + place.position
            if entry >= len(pack.owners) or pack.visitors[entry] == number + _FIRST:
                continue
            pack.visitors[entry] = number + _FIRST
            pack.owners[entry] = _SHARED if pack.owners[entry] else number + _FIRST
            pack.sizes[entry] = place.plain_size
            total.unique_size += place.plain_size
            total.unique_stored += place.plain_size * pack.stored_share
