"""Walk the contents that name damaged packs: what each needs, and where that still is.

Every node and chunk is, in this order: readable in a damaged pack, so it is copied; in a sound pack that the content
names; in any other pack that the session may rely on, read and hashed before it counts; on another backend, read and
hashed too, so it is copied; or lost, with its range.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from casimg.assemble import ContentReader, Patience
from casimg.catalog import PackRow, reading
from casimg.constants import HOLE_FLAG, KIND_DATA, KIND_METADATA, NODE_RADIX, SEGMENT_SIZE
from casimg.errors import BackendUnavailableError, DamageError, ImageNotFoundError, NodeDamagedError, NotFoundError
from casimg.formats.damage import FormatDamage
from casimg.formats.node import Inner, Leaf, decode_node
from casimg.formats.pack import PackTrailer
from casimg.ids import ContentId, NodeId, PackId, chunk_id, node_id
from casimg.index import Place
from casimg.index.entries import EntryLists
from casimg.manifest.walk import load_inner, load_leaf
from casimg.pack.keys import pack_key
from casimg.pack.reader import read_frame
from casimg.repair.others import Others
from casimg.repair.salvage import Brought
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.repair")


@dataclass(slots=True)
class Needs:
    """What one content needs of damaged packs.

    Attributes:
        damaged: packs it names that are damaged.
        copied: numbers of the ids that are copied from damaged packs.
        elsewhere: sound packs it does not name yet that hold a confirmed copy.
        lost: (offset, size) of plain bytes whose chunk or node is nowhere.
    """

    content_id: ContentId
    damaged: frozenset[int]
    copied: set[int] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)
    lost: list[tuple[int, int]] = field(default_factory=list)


class Survey:
    """Look for what contents need.

    Args:
        live: packs that this session may rely on; none of them damaged.
        damaged: packs not to rely on.
        held: what each of the damaged packs still holds, from `salvage.readable`.
        listed: ids that the damaged packs should hold.
        beat: called now and then: progress.
    Threads: one. Memory: an entry per chunk of the damaged packs, and one per leaf walked.
    """

    def __init__(
        self,
        wiring: Wiring,
        live: Mapping[int, PackRow],
        damaged: Mapping[int, PackRow],
        held: Mapping[int, PackTrailer],
        listed: Collection[bytes],
        beat: Callable[[], None],
    ) -> None:
        self._wiring = wiring
        self._rows = {**damaged, **live}
        self._live = set(live)
        self._damaged = set(damaged)
        self._listed = listed
        self._beat = beat
        self._entries = EntryLists(lambda pack_no: wiring.load_trailer(self._rows[pack_no]))
        self.numbers: dict[bytes, int] = {}
        self._held: list[Place] = []
        for pack_no, trailer in held.items():
            for chunk, *rest in trailer.places():
                if chunk not in self.numbers:
                    self.numbers[chunk] = len(self._held)
                    self._held.append(Place(pack_no, *rest))
        self._confirmed: dict[bytes, Place | None] = {}
        self._walked: dict[NodeId, tuple[frozenset[int], frozenset[int]]] = {}
        self._others = Others(wiring)
        self._leaf_count = 0
        self._brought: dict[int, tuple[bytes, int]] = {}

    def brought(self, wanted: Collection[int]) -> Iterator[Brought]:
        """Read what was found on other backends, checked once more, the chunks of a leaf after each other.

        Args:
            wanted: numbers of ids; others are left out, and so is what cannot be read any more.
        """
        for number, (chunk, leaf) in self._brought.items():
            plain = self._read(self._held[number]) if number in wanted else None
            if plain is not None and chunk_id(plain) == chunk:
                yield Brought(number, chunk, KIND_DATA, leaf, plain)
            elif plain is not None and node_id(plain) == chunk:
                yield Brought(number, chunk, KIND_METADATA, leaf, plain)

    def walk(self, content_id: ContentId) -> Needs | None:
        """Return what a content needs; None when it went meanwhile."""
        rows = self._wiring.catalog.read(partial(reading.packs_to_read, content_id=content_id))
        if rows is None:
            return None
        for row in rows:
            self._rows.setdefault(row.pack_no, row)
        named = frozenset(row.pack_no for row in rows)
        needs = Needs(content_id, named & self._damaged)
        try:
            reader = self._wiring.reader(content_id, patience=Patience(0.0))
            self._walk_tree(reader, named - self._damaged, needs)
        except ImageNotFoundError:
            return None
        return needs

    def rely_on(self, rows: Iterable[PackRow]) -> None:
        """Let copies in these packs count too; that they are still there is for the commit to see."""
        for row in rows:
            if row.pack_no not in self._damaged:
                self._rows[row.pack_no] = row
                self._live.add(row.pack_no)

    def look_everywhere(self) -> bool:
        """Look for what was not found in the entry lists of all live packs, not only by the index.

        Returns: whether anything was found; contents that lost something are then worth another walk.
        """
        wanted = {chunk for chunk, place in self._confirmed.items() if place is None}
        found = False
        for pack_no in sorted(self._live, reverse=True) if wanted else ():
            self._beat()
            try:
                places = self._entries.get(pack_no).places()
            except (DamageError, NotFoundError):
                continue
            for chunk, *rest in places:
                if chunk in wanted and self._is_there(chunk, Place(pack_no, *rest)):
                    self._confirmed[chunk] = Place(pack_no, *rest)
                    wanted.discard(chunk)
                    found = True
        return found

    def _walk_tree(self, reader: ContentReader, sound: frozenset[int], needs: Needs) -> None:
        tree = reader.tree
        stack = [] if tree.root is None else [(tree.root, tree.height, 0)]
        while stack:
            node, height, at = stack.pop()
            known = self._walked.get(node)
            if known is not None and known[0] <= sound:
                needs.copied |= known[1]
                continue
            self._beat()
            span = NODE_RADIX**height
            size = min(tree.size, (at + span) * SEGMENT_SIZE) - at * SEGMENT_SIZE
            place = self._where(node, sound, needs)
            lost = (at * SEGMENT_SIZE, size)
            if place is None:
                needs.lost.append(lost)  # also when it can still be read now: from a pack that is to go
            try:
                load = partial(self._load, reader, place)
                if height == 0:
                    self._walk_leaf(load_leaf(load, tree, at, node), node, at, sound, needs)
                    continue
                inner = load_inner(load, tree, height, at, node)
            except DamageError as error:
                _log.warning("repair.node_lost content=%s node=%s why=%s", needs.content_id, node.hex(), error)
                needs.lost.append(lost)
                continue
            for position in range(len(inner.children) - 1, -1, -1):
                child = inner.children[position]
                if child is not None:
                    stack.append((NodeId(child), height - 1, at + position * (span // NODE_RADIX)))

    def _walk_leaf(self, leaf: Leaf, node: NodeId, at: int, sound: frozenset[int], needs: Needs) -> None:
        self._leaf_count += 1
        own = Needs(needs.content_id, needs.damaged)
        used: set[int] = set()
        offset = at * SEGMENT_SIZE
        for entry, chunk in leaf.entries():
            size = entry & ~HOLE_FLAG
            if chunk is not None:
                place = self._where(chunk, sound, own)
                if place is None:
                    own.lost.append((offset, size))
                elif chunk not in self.numbers:
                    used.add(place.pack_no)
            offset += size
        needs.copied |= own.copied
        needs.elsewhere |= own.elsewhere
        needs.lost += own.lost
        place = self._where(node, sound, own)
        if place is not None and not own.lost:
            if node not in self.numbers:
                used.add(place.pack_no)
            # Right for every content that names these packs itself.
            self._walked[node] = (frozenset(used), frozenset(own.copied))

    def _where(self, chunk: bytes, sound: frozenset[int], needs: Needs) -> Place | None:
        """Return where a needed chunk or node is from now on, noted in `needs`; None when it is nowhere."""
        number = self.numbers.get(chunk)
        if number is not None:
            needs.copied.add(number)
            return self._held[number]
        if chunk not in self._listed and chunk not in self._confirmed:
            place = self._place(chunk, sound)
            if place is not None:
                return place
        if self._confirmed.get(chunk) is None and not self._confirm(chunk, sound):
            return self._bring(chunk, needs)
        place = self._confirmed[chunk]
        if place is not None and place.pack_no not in sound:
            needs.elsewhere.add(place.pack_no)
        return place

    def _bring(self, chunk: bytes, needs: Needs) -> Place | None:
        """Return where another backend has a chunk, from now on one of those to copy; None when none has it."""
        for row, place in self._others.places(chunk):
            self._rows.setdefault(row.pack_no, row)
            if self._is_there(chunk, place):
                number = self.numbers[chunk] = len(self._held)
                self._held.append(place)
                self._brought[number] = chunk, self._leaf_count
                needs.copied.add(number)
                return place
        return None

    def _place(self, chunk: bytes, pack_nos: Collection[int]) -> Place | None:
        """Return a place that an entry list of one of these packs confirms."""
        return next(iter(self._places(chunk, pack_nos)), None)

    def _places(self, chunk: bytes, pack_nos: Collection[int]) -> Iterable[Place]:
        with self._wiring.index.reading() as lookup:
            places = [place for place in reversed(lookup.places(chunk)) if place.pack_no in pack_nos]
        for place in places:
            try:
                trailer = self._entries.get(place.pack_no)
            except (DamageError, NotFoundError):
                continue
            entry = trailer.entry_of(place.frame_offset, place.position)
            if entry is not None and trailer.holds(entry, chunk):
                yield place

    def _confirm(self, chunk: bytes, sound: frozenset[int]) -> bool:
        """Find a copy that reads and hashes right, in a pack of the content first."""
        candidates = [self._places(chunk, sound)]
        if chunk not in self._confirmed:  # else looked for in all live packs before, in vain
            candidates.append(self._places(chunk, self._live))
        for places in candidates:
            for place in places:
                if self._is_there(chunk, place):
                    self._confirmed[chunk] = place
                    return True
        self._confirmed[chunk] = None
        return False

    def _is_there(self, chunk: bytes, place: Place) -> bool:
        plain = self._read(place)
        return plain is not None and chunk in (chunk_id(plain), node_id(plain))

    def _read(self, place: Place) -> memoryview | None:
        """Return the bytes at a place, not yet checked."""
        row = self._rows[place.pack_no]
        wiring = self._wiring.peer(row.backend_id)
        try:
            header, plain = read_frame(
                wiring.backend, pack_key(PackId(row.pack_id)), place.frame_offset, place.frame_size
            )
        except (DamageError, NotFoundError):
            return None
        except BackendUnavailableError:
            if wiring is self._wiring:
                raise
            return None
        if place.position >= len(header.chunk_sizes):
            return None
        start = sum(header.chunk_sizes[: place.position])
        return memoryview(plain)[start : start + header.chunk_sizes[place.position]]

    def _load(self, reader: ContentReader, place: Place | None, node: NodeId) -> Leaf | Inner:
        """Return a node as the content's own packs have it, else from the place that was found. Raises: DamageError."""
        try:
            return reader.node(node)
        except DamageError:
            plain = None if place is None else self._read(place)
            if plain is None or node_id(plain) != node:
                raise
            try:
                return decode_node(plain)
            except FormatDamage as damage:
                raise NodeDamagedError(f"node {node.hex()}", None, str(damage)) from None
