"""Which chunks of some packs are still reached, and by whom: what a repack must keep.

The packs' entry lists say what is in them; the manifests of every content that names them say what is reached. The
index is asked only whether another pack of the same content holds a chunk too, and is believed only when that pack's
entry list confirms it: a wrong index makes a repack keep too much, never too little. A chunk that another pack holds
too is kept where readers would take it; the others are relied on by name, and the switch
sees that they are still there.

Memory: about 150 bytes per entry of the packs looked at, and per leaf walked.
"""

import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from casimg.assemble import ContentReader
from casimg.catalog.repack import ContentUse
from casimg.constants import NODE_RADIX
from casimg.errors import CasimgError, DamageError, NotFoundError
from casimg.formats.pack import PackTrailer
from casimg.ids import ContentId, NodeId
from casimg.index import Index, Lookup, Place, fewest_frames
from casimg.index.entries import EntryLists
from casimg.manifest.walk import load_inner, load_leaf

_ENTRY_BITS = 22  # no pack has more entries
_WALKED_COUNT_MAX = 500_000
_LEAF_FIRST = 1


@dataclass(slots=True)
class Reach:
    """What one content reaches of the packs looked at.

    Attributes:
        packs: numbers of packs with at least one chunk that this content needs from them.
        relied: pack -> other packs of the same content that hold chunks of it too, which are not needed from it.
    """

    packs: set[int] = field(default_factory=set)
    relied: dict[int, set[int]] = field(default_factory=dict)


class Marks:
    """Entries of some packs, and for each the first leaf that reached it.

    Args:
        trailers: entry lists by pack number.
        index, entries: to find other copies of a chunk; `entries` loads entry lists of any pack that contents name.
    """

    def __init__(self, trailers: Mapping[int, PackTrailer], index: Index, entries: EntryLists) -> None:
        self.pack_nos = sorted(trailers)
        self.trailers = trailers
        self._index = index
        self._entries = entries
        self._number_of = {pack_no: number for number, pack_no in enumerate(self.pack_nos)}
        self._owners = [array.array("I", bytes(4 * trailers[pack_no].entry_count)) for pack_no in self.pack_nos]
        self._codes: dict[bytes, int | tuple[int, ...]] = {}
        self._walked: dict[NodeId, tuple[int, int]] = {}
        self._unusable: set[int] = set()
        self._leaf = _LEAF_FIRST
        self.reaches: dict[ContentId, Reach] = {}
        self.unreadable: set[int] = set()
        """Packs named by a content that could not be walked: nothing may be dropped from them."""
        for number, pack_no in enumerate(self.pack_nos):
            for entry, (chunk, *_) in enumerate(trailers[pack_no].places()):
                code = number << _ENTRY_BITS | entry
                before = self._codes.get(chunk)
                if before is None:
                    self._codes[chunk] = code
                else:
                    self._codes[chunk] = (*before, code) if isinstance(before, tuple) else (before, code)

    def owner(self, pack_no: int, entry: int) -> int:
        """Return the number of the first leaf that reached an entry, 0 when none did; leaves count up as walked."""
        return self._owners[self._number_of[pack_no]][entry]

    def live_plain_size(self, pack_no: int) -> int:
        """Return the plain bytes of a pack that are reached."""
        owners = self._owners[self._number_of[pack_no]]
        places = self.trailers[pack_no].places()
        return sum(size for owner, (*_, size) in zip(owners, places, strict=True) if owner)

    def add(self, use: ContentUse, reader: ContentReader, *, leaves: bool) -> None:
        """Walk a content and mark what it reaches.

        Args:
            leaves: look at chunks too; without it only at nodes, for packs of nodes.
        """
        walk = _ContentWalk(self, use, reader, leaves)
        try:
            walk.run()
        except (DamageError, NotFoundError):
            self.unreadable.update(walk.packs)
        self.reaches[use.content_id] = walk.reach

    def places(self, chunk: bytes, named: frozenset[int], lookup: Lookup) -> list[Place]:
        """Return the places of a chunk in packs of `named` that their entry lists confirm.

        Those in the packs looked at are known from their entry lists; of others the index may not know all.
        """
        found = [
            place
            for place in lookup.places(chunk)
            if place.pack_no in named and place.pack_no not in self._number_of and self._is_confirmed(chunk, place)
        ]
        for code in self.codes_of(chunk):
            pack_no = self.pack_nos[code >> _ENTRY_BITS]
            if pack_no in named:
                trailer = self.trailers[pack_no]
                frame, position = trailer.frame_of(code & (1 << _ENTRY_BITS) - 1)
                found.append(Place(pack_no, frame.offset, frame.size, position, 0))
        return found

    def _is_confirmed(self, chunk: bytes, place: Place) -> bool:
        if place.pack_no in self._unusable:
            return False
        try:
            trailer = self._entries.get(place.pack_no)
        except (CasimgError, KeyError):
            self._unusable.add(place.pack_no)
            return False
        entry = trailer.entry_of(place.frame_offset, place.position)
        return entry is not None and trailer.holds(entry, chunk)

    def codes_of(self, chunk: bytes) -> Sequence[int]:
        code = self._codes.get(chunk)
        if code is None:
            return ()
        return code if isinstance(code, tuple) else (code,)


class _ContentWalk:
    """One content's walk over its manifest."""

    def __init__(self, marks: Marks, use: ContentUse, reader: ContentReader, leaves: bool) -> None:
        self._marks = marks
        self._named = use.pack_nos
        self._reader = reader
        self._leaves = leaves
        self.packs = use.pack_nos & set(marks.pack_nos)
        self._mask = sum(1 << marks._number_of[pack_no] for pack_no in self.packs)
        self.reach = Reach()
        self._reached = 0

    def run(self) -> None:
        tree = self._reader.tree
        if tree.root is None:
            return
        stack: list[tuple[NodeId, int, int]] = [(tree.root, tree.height, 0)]
        while stack:
            node, height, at = stack.pop()
            if height == 0:
                self._leaf(node, at)
                continue
            self._touch((node,))
            inner = load_inner(self._reader.node, tree, height, at, node)
            span = NODE_RADIX ** (height - 1)
            for position in range(len(inner.children) - 1, -1, -1):
                child = inner.children[position]
                if child is not None:
                    stack.append((NodeId(child), height - 1, at + position * span))
        numbers = self._marks.pack_nos
        self.reach.packs = {numbers[bit] for bit in range(len(numbers)) if self._reached >> bit & 1}

    def _leaf(self, node: NodeId, segment: int) -> None:
        marks = self._marks
        marks._leaf += 1
        self._touch((node,))
        if not self._leaves:
            return
        walked, hits = marks._walked.get(node, (0, 0))
        if not self._mask & ~walked:
            self._reached |= hits & self._mask
            return
        leaf = load_leaf(self._reader.node, self._reader.tree, segment, node)
        hit, exempt = self._touch(leaf.ids)
        # Where another copy let a pack off, a content that does not name that copy must look again.
        if not exempt and (node in marks._walked or len(marks._walked) < _WALKED_COUNT_MAX):
            marks._walked[node] = (walked | self._mask, hits | hit)

    def _touch(self, ids: Sequence[bytes]) -> tuple[int, bool]:
        """Mark those of a leaf's ids that are in the packs looked at, and that readers would take from there.

        Returns: the packs hit, and whether a copy in another pack let one off.
        """
        marks = self._marks
        wanted = [chunk for chunk in ids if chunk in marks._codes]
        if not wanted:
            return 0, False
        with marks._index.reading() as lookup:
            copies = {chunk: marks.places(chunk, self._named, lookup) for chunk in wanted}
            chosen: dict[bytes, Place | None] = {}
            if any(len({place.pack_no for place in places}) > 1 for places in copies.values()):
                candidates = [copies.get(chunk) or marks.places(chunk, self._named, lookup) for chunk in ids]
                chosen = dict(zip(ids, fewest_frames(candidates), strict=True))
        hit, exempt = 0, False
        for chunk in wanted:
            place = chosen.get(chunk)
            for code in marks.codes_of(chunk):
                number = code >> _ENTRY_BITS
                if not self._mask >> number & 1:
                    continue
                pack_no = marks.pack_nos[number]
                if place is not None and place.pack_no != pack_no:
                    self.reach.relied.setdefault(pack_no, set()).add(place.pack_no)
                    exempt = True
                    continue
                owners = marks._owners[number]
                entry = code & (1 << _ENTRY_BITS) - 1
                if not owners[entry]:
                    owners[entry] = marks._leaf
                hit |= 1 << number
        self._reached |= hit
        return hit, exempt


def mark(
    marks: Marks,
    uses: Sequence[ContentUse],
    reader_of: Callable[[ContentId], ContentReader],
    *,
    leaves: bool,
    on_content: Callable[[int, int], None] | None = None,
) -> None:
    """Walk all contents that name the packs, newest first, so that chunks lie in the newest one's order.

    Args:
        on_content: called with (contents done, contents to do).
    """
    for done, use in enumerate(uses, 1):
        try:
            reader = reader_of(use.content_id)
        except CasimgError:
            # Gone meanwhile, or damaged: what it names is kept whole, whichever it is.
            marks.unreadable.update(use.pack_nos)
            continue
        marks.add(use, reader, leaves=leaves)
        if on_content is not None:
            on_content(done, len(uses))
