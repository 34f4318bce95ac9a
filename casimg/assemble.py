"""THE read path, readable top to bottom.

    manifest -> chunks of the range -> index -> ranges grouped by pack, coalesced
    -> backend.get_range -> decode frames + BLAKE3 check -> in order, holes as holes

1. `ContentReader` makes sure that the index covers every pack the content names, before anything is read.
2. `segment` resolves the chunks of one segment to places, reads the frames that hold them and checks every chunk.
3. A place that leads to damage is only that place: another one is tried, then the entry lists themselves. What is
   still missing asks the catalog for the content's rows again, as long as they change (a repack moved chunks), and
   waits a while for an object that is named again and not there (a backend that lags); only then is a chunk lost, and
   named. Wrong bytes are never returned.

What it must not know: images, targets, HTTP.

Threads: a ContentReader may be used by many at once.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from casimg.backend.base import Backend
from casimg.chunker import chunk_ids
from casimg.constants import FRAME_PLAIN_MAX, HOLE_FLAG, KIB, MIB
from casimg.errors import (
    BackendUnavailableError,
    ChunkLostError,
    DamageError,
    IndexDamagedError,
    NodeDamagedError,
    NotFoundError,
)
from casimg.formats.damage import FormatDamage
from casimg.formats.frame import decode_frame
from casimg.formats.node import Inner, Leaf, decode_node
from casimg.frames import DecodedFrame, FrameCache
from casimg.ids import ChunkId, ContentId, NodeId, chunk_id, node_id
from casimg.index import Index, Lookup, Place, fewest_frames
from casimg.manifest.walk import Tree
from casimg.pack.reader import read_frame
from casimg.runs import Lists, Run, RunFinder

_log = logging.getLogger("casimg.assemble")

_COALESCE_GAP_MAX = 512 * KIB  # reading a gap is cheaper than another request
_COALESCE_SIZE_MAX = 8 * MIB
_COALESCE_COUNT_MAX = 8  # 2 MiB of plain bytes: what a thread holds beside its segment
_FRAME_SIZE_MAX = 2 * FRAME_PLAIN_MAX  # an index entry that says more is damaged
_NODE_CACHE_COUNT = 128


@dataclass(frozen=True, slots=True)
class PackRef:
    """Where the content's packs are: key in the backend, and what the catalog says of it."""

    pack_no: int
    key: str
    size: int
    trailer_offset: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a reader waits for an object that the catalog names and the backend does not show.

    Attributes:
        lag_max_s: wait so long in all before a chunk is lost; 0 asks the rows again and does not wait.
        sleep: waits seconds.
    """

    lag_max_s: float = 60.0
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class _Search:
    """What one call has learned: the packs it goes by, places whose bytes are wrong, and places without an object.

    The packs are the call's own: another thread may learn of newer ones at any moment.
    """

    packs: Mapping[int, PackRef]
    wrong: set[Place] = field(default_factory=set)
    absent: set[Place] = field(default_factory=set)
    lists_absent: bool = False
    """An entry list could not be read because its object is not there."""

    def is_tried(self, place: Place) -> bool:
        return place in self.wrong or place in self.absent


SegmentData = list[tuple[int, memoryview]]
"""(offset in the segment, verified plain bytes of one or more chunks) in order; what lies between is zeros."""


class ContentReader:
    """Read one content by segments and nodes.

    Args:
        packs: every pack the content names, by number; already applied to the index.
        refresh: asks the catalog again for the content's packs, in one statement, and applies them to the index; a
            repack may have moved chunks since. Raises ImageNotFoundError when the content is gone.
        lists: entry lists of packs, for runs of chunks and for when the index does not lead to one.
        patience: how long to wait for a backend that lags.
        on_read: called before chunks are read: progress.
        other: opens a reader of the same bytes that lie elsewhere, for what cannot be read here; None: there is none.
    """

    def __init__(
        self,
        *,
        content_id: ContentId,
        tree: Tree,
        packs: Mapping[int, PackRef],
        backend: Backend,
        index: Index,
        lists: Lists,
        refresh: Callable[[], Mapping[int, PackRef]],
        cache: FrameCache | None = None,
        patience: Patience | None = None,
        on_read: Callable[[], None] | None = None,
        other: "Callable[[], ContentReader | None]" = lambda: None,
    ) -> None:
        self.content_id = content_id
        self.tree = tree
        self._packs = packs
        self._backend = backend
        self._index = index
        self._lists = lists
        self._run_finder = RunFinder(lists)
        self._refresh = refresh
        self._cache = cache or FrameCache()
        self._patience = patience or Patience()
        self._on_read = on_read
        self._open_other = other
        self._other: ContentReader | None = None
        self._other_lock = threading.Lock()
        self._node_lock = threading.Lock()
        self._nodes: OrderedDict[NodeId, Leaf | Inner] = OrderedDict()

    def node(self, node: NodeId) -> Leaf | Inner:
        """Return a verified manifest node.

        Raises: ChunkLostError, NodeDamagedError, ImageNotFoundError when the image was deleted meanwhile.
        """
        with self._node_lock:
            found = self._nodes.get(node)
            if found is not None:
                self._nodes.move_to_end(node)
                return found
        (plain,) = self._chunks([node], node_id)
        try:
            decoded = decode_node(plain)
        except FormatDamage as damage:
            raise NodeDamagedError(f"node {node.hex()}", None, str(damage)) from None
        with self._node_lock:
            self._nodes[node] = decoded
            while len(self._nodes) > _NODE_CACHE_COUNT:
                self._nodes.popitem(last=False)
        return decoded

    def segment(self, leaf: Leaf) -> SegmentData:
        """Return the data of a segment, every chunk checked against its id.

        Raises: ChunkLostError, ImageNotFoundError, and what the backend raises.
        """
        buffer = memoryview(bytearray(leaf.plain_size))
        if self.fill(leaf, buffer):
            return [(start, buffer[start:end]) for start, end in leaf.data_ranges()]
        return self.pieces(leaf, 0, leaf.plain_size)

    def fill(self, leaf: Leaf, buffer: memoryview) -> bool:
        """Put the data of a segment into a buffer, every chunk checked; what its holes cover stays as it is.

        Runs of chunks that lie in a frame as they do in the segment cost one question of the index and one copy, and
        all chunks are hashed together.

        Returns: False when anything is amiss or this is not worth it: then chunk by chunk every way is tried.
        """
        if self._on_read is not None:
            self._on_read()
        try:
            return self._fill(leaf, buffer)
        except BackendUnavailableError as error:
            _log.debug("backend.unavailable content=%s why=%s", self.content_id, error)
            return False

    def _fill(self, leaf: Leaf, buffer: memoryview) -> bool:
        ids = b"".join(leaf.ids)
        starts = leaf.chunk_starts()
        packs = self._packs
        try:
            with self._index.reading() as lookup:
                runs = self._run_finder.find(
                    ids, lambda chunk: [place for place in lookup.places(chunk) if place.pack_no in packs]
                )
        except IndexDamagedError:
            return False
        if runs is None:
            return False
        by_frame: dict[tuple[int, int], list[Run]] = {}
        for run in runs:
            by_frame.setdefault((run.place.pack_no, run.place.frame_offset), []).append(run)
        missing: list[Place] = []
        for key, of_frame in by_frame.items():
            frame = self._cache.get(key)
            if frame is None:
                missing.append(of_frame[0].place)
            else:
                _copy_runs(frame, of_frame, starts, buffer)
        missing.sort()
        for group in _coalesced(missing):
            for key, frame in self._read_group(group, packs[group[0].pack_no], set()).items():
                _copy_runs(frame, by_frame[key], starts, buffer)
        # Whatever went wrong before shows here.
        if chunk_ids(buffer[: leaf.plain_size], leaf.sizes) == ids:
            return True
        for key in by_frame:
            self._cache.drop(key)
        return False

    def chunks(self, ids: Sequence[bytes]) -> list[memoryview]:
        """Return the plain bytes of chunks of this content, each checked against its id. Raises: as segment."""
        return self._chunks(ids, chunk_id)

    def pieces(self, leaf: Leaf, start: int, end: int) -> SegmentData:
        """Return the data of whole chunks that touch [start, end) of a segment, with their offsets."""
        wanted: list[bytes] = []
        offsets: list[int] = []
        at = 0
        for entry, chunk in leaf.entries():
            size = entry & ~HOLE_FLAG
            if chunk is not None and at < end and at + size > start:
                wanted.append(chunk)
                offsets.append(at)
            at += size
            if at >= end:
                break
        return list(zip(offsets, self._chunks(wanted, chunk_id), strict=True))

    def _chunks(self, ids: Sequence[bytes], hash_of: Callable[[memoryview], bytes]) -> list[memoryview]:
        """Return verified plain bytes of each id, in order, from elsewhere when they cannot be read here."""
        if self._on_read is not None:
            self._on_read()
        try:
            return self._chunks_here(ids, hash_of)
        except (BackendUnavailableError, DamageError) as error:
            other = self._elsewhere()
            if other is None:
                raise
            _log.warning("read.elsewhere content=%s other=%s why=%s", self.content_id, other.content_id, error)
            return other._chunks(ids, hash_of)

    def _elsewhere(self) -> "ContentReader | None":
        with self._other_lock:
            if self._other is None:
                self._other = self._open_other()
            return self._other

    def _chunks_here(self, ids: Sequence[bytes], hash_of: Callable[[memoryview], bytes]) -> list[memoryview]:
        found: list[memoryview | None] = [None] * len(ids)
        search = _Search(self._packs)
        self._read_places(ids, self._resolve(ids, found, search), found, hash_of, search)
        if any(view is None for view in found):
            self._find_again(ids, found, hash_of, search)
        return [view for view in found if view is not None]

    def _resolve(self, ids: Sequence[bytes], found: Sequence[memoryview | None], search: _Search) -> list[Place | None]:
        """Return an untried place of each id not yet found, as the index has it, within the content's packs."""
        try:
            with self._index.reading() as lookup:
                candidates = [
                    () if view is not None else _usable_places(lookup, chunk, search)
                    for chunk, view in zip(ids, found, strict=True)
                ]
        except IndexDamagedError as error:  # a cache that cannot be read leads nowhere; the entry lists do
            _log.debug("index.unreadable content=%s why=%s", self.content_id, error)
            return [None] * len(ids)
        return fewest_frames(candidates)

    def _read_places(
        self,
        ids: Sequence[bytes],
        places: Sequence[Place | None],
        found: list[memoryview | None],
        hash_of: Callable[[memoryview], bytes],
        search: _Search,
    ) -> None:
        """Read, decode and check the chunks at the places; what fails stays None in `found`."""
        by_frame: dict[tuple[int, int], list[int]] = {}
        for number, place in enumerate(places):
            if place is not None:
                by_frame.setdefault((place.pack_no, place.frame_offset), []).append(number)
        missing: list[Place] = []
        for key, numbers in by_frame.items():
            frame = self._cache.get(key)
            if frame is not None:
                _take_chunks(frame, numbers, ids, places, found, hash_of)
                if all(found[number] is not None for number in numbers):
                    continue
                self._cache.drop(key)
            place = places[numbers[0]]
            if place is not None:
                missing.append(place)
        missing.sort()
        absent: set[int] = set()
        for group in _coalesced(missing):
            for key, frame in self._read_group(group, search.packs[group[0].pack_no], absent).items():
                _take_chunks(frame, by_frame[key], ids, places, found, hash_of)
                if any(found[number] is None for number in by_frame[key]):
                    self._cache.drop(key)
        for place, view in zip(places, found, strict=True):
            if place is not None and view is None:
                (search.absent if place.pack_no in absent else search.wrong).add(place)

    def _read_group(
        self, group: Sequence[Place], pack: PackRef, absent: set[int]
    ) -> dict[tuple[int, int], DecodedFrame]:
        """Return the frames of a group that decode; a pack without an object is added to `absent`."""
        start = group[0].frame_offset
        end = group[-1].frame_offset + group[-1].frame_size
        try:
            stored = memoryview(self._backend.get_range(pack.key, start, end - start))
        except NotFoundError:
            absent.add(pack.pack_no)
            return {}
        except DamageError:
            stored = None
        frames: dict[tuple[int, int], DecodedFrame] = {}
        for place in group:
            try:
                if stored is None:  # one bad range must not cost its neighbours
                    header, plain = read_frame(self._backend, pack.key, place.frame_offset, place.frame_size)
                else:
                    at = place.frame_offset - start
                    header, plain = decode_frame(stored[at : at + place.frame_size])
            except NotFoundError:
                absent.add(pack.pack_no)
                continue
            except (FormatDamage, DamageError):
                continue
            frame = DecodedFrame(header, plain)
            self._cache.put((place.pack_no, place.frame_offset), frame)
            frames[place.pack_no, place.frame_offset] = frame
        return frames

    def _find_again(
        self,
        ids: Sequence[bytes],
        found: list[memoryview | None],
        hash_of: Callable[[memoryview], bytes],
        search: _Search,
    ) -> None:
        """Look for chunks that the index did not lead to, and ask for the content's rows as long as they change.

        Each turn with other rows proves that a repack finished, so there is no end to wait for; with the same rows
        only an object that is named and not there is worth waiting for.
        """
        waited_s, wait_s = 0.0, 0.05
        while True:
            self._try_everything(ids, found, hash_of, search)
            if None not in found:
                return
            fresh = self._refresh()
            self._packs = fresh
            same = fresh == search.packs
            search.packs = fresh
            if same:
                if not (search.absent or search.lists_absent) or waited_s >= self._patience.lag_max_s:
                    break
                self._patience.sleep(wait_s)
                waited_s += wait_s
                wait_s = min(2 * wait_s, 8.0, max(0.05, self._patience.lag_max_s - waited_s))
            # Wrong bytes stay wrong; an object may be there now.
            search.absent.clear()
            search.lists_absent = False
        for chunk, view in zip(ids, found, strict=True):
            if view is None:
                places = sorted(search.wrong | search.absent)
                keys = [search.packs[place.pack_no].key for place in places if place.pack_no in search.packs]
                raise ChunkLostError(ChunkId(chunk), list(dict.fromkeys(keys)), self.content_id)

    def _try_everything(
        self,
        ids: Sequence[bytes],
        found: list[memoryview | None],
        hash_of: Callable[[memoryview], bytes],
        search: _Search,
    ) -> None:
        """Try every place that the index has, then every one that the entry lists have."""
        while any(places := self._resolve(ids, found, search)):
            self._read_places(ids, places, found, hash_of, search)
        for pack_no in sorted(search.packs, reverse=True):
            missing = {chunk: number for number, chunk in enumerate(ids) if found[number] is None}
            if not missing:
                return
            try:
                trailer = self._lists.get(pack_no)
            except NotFoundError:
                search.lists_absent = True
                continue
            except DamageError:
                continue
            candidates: list[Place | None] = [None] * len(ids)
            for chunk, frame_offset, frame_size, position, size in trailer.places():
                if chunk in missing:
                    place = Place(pack_no, frame_offset, frame_size, position, size)
                    if not search.is_tried(place):
                        candidates[missing[chunk]] = place
            if any(candidates):
                self._read_places(ids, candidates, found, hash_of, search)
                self._fill_repeats(ids, found)

    @staticmethod
    def _fill_repeats(ids: Sequence[bytes], found: list[memoryview | None]) -> None:
        have = {chunk: view for chunk, view in zip(ids, found, strict=True) if view is not None}
        for number, chunk in enumerate(ids):
            if found[number] is None:
                found[number] = have.get(chunk)


def _take_chunks(
    frame: DecodedFrame,
    numbers: Sequence[int],
    ids: Sequence[bytes],
    places: Sequence[Place | None],
    found: list[memoryview | None],
    hash_of: Callable[[memoryview], bytes],
) -> None:
    """Check the chunks of one frame against their ids and put the right ones in `found`."""
    taken: list[int] = []
    used_size = 0
    if hash_of is chunk_id and 2 * len(numbers) >= len(frame.ends) - 1:
        frame.hash_all()
    for number in numbers:
        place = places[number]
        if place is None or not frame.holds(place.position, ids[number], hash_of):
            continue
        start, end = frame.ends[place.position], frame.ends[place.position + 1]
        found[number] = frame.plain[start:end]
        taken.append(number)
        used_size += end - start
    if used_size * 2 < len(frame.plain):
        # A few chunks must not keep a whole frame in memory: a segment may draw on 256 of them.
        for number in taken:
            view = found[number]
            if view is not None:
                found[number] = memoryview(bytes(view))


def _copy_runs(frame: DecodedFrame, runs: Sequence[Run], starts: Sequence[int], buffer: memoryview) -> None:
    """Copy runs of a frame to where their chunks begin in the segment; what does not fit is left out."""
    for first, count, place in runs:
        ends = frame.ends[place.position : place.position + count + 1]
        if len(ends) != count + 1:
            return
        offset = starts[first]
        if starts[first + count - 1] - offset == ends[-2] - ends[0]:
            # No hole within the run: if the last chunk is where it should be, all are, or the hashes tell.
            ends = [ends[0], ends[-1]]
        for number, (start, end) in enumerate(pairwise(ends)):
            offset = starts[first + number]
            room = buffer[offset : offset + end - start]
            room[:] = frame.plain[start : start + len(room)]


def _usable_places(lookup: Lookup, chunk: bytes, search: _Search) -> list[Place]:
    """Return the untried places within the content's packs."""
    return [
        place
        for place in lookup.places(chunk)
        if place.pack_no in search.packs and place.frame_size <= _FRAME_SIZE_MAX and not search.is_tried(place)
    ]


def _coalesced(places: Sequence[Place]) -> list[list[Place]]:
    """Group sorted places into runs worth one request each."""
    groups: list[list[Place]] = [[place] for place in places[:1]]
    for before, place in pairwise(places):
        group = groups[-1]
        end = before.frame_offset + before.frame_size
        near = place.pack_no == before.pack_no and place.frame_offset - end <= _COALESCE_GAP_MAX
        if (
            near
            and len(group) < _COALESCE_COUNT_MAX
            and place.frame_offset + place.frame_size - group[0].frame_offset <= _COALESCE_SIZE_MAX
        ):
            group.append(place)
        else:
            groups.append([place])
    return groups
