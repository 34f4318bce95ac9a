"""What the repository already holds: the question every chunk of an ingest asks.

A chunk is known when the index names a place for it in a pack that this session may rely on (its live list, or its
own), and the entry list of that pack confirms it: an index may be stale or damaged, an entry list is covered by a
hash. Neighbours of a hit are confirmed from the same list without asking the index.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from casimg.errors import CasimgError
from casimg.formats.pack import PackTrailer
from casimg.index import Index, Lookup
from casimg.index.entries import EntryLists


class KnownChunks:
    """Find chunks and nodes in packs that may be relied on.

    Args:
        index: places of chunks.
        entries: entry lists of packs by number, loaded on demand.
        usable: numbers of packs to rely on; grows while the session's own packs land.
    Threads: one.
    """

    def __init__(self, index: Index, entries: EntryLists, usable: set[int]) -> None:
        self._index = index
        self._entries = entries
        self._usable = usable
        self._trailer: PackTrailer | None = None
        self._pack_no = 0
        self._entry = 0

    def trust(self, pack_no: int) -> None:
        """Rely on one more pack from now on."""
        self._usable.add(pack_no)

    @contextmanager
    def reading(self) -> Iterator[Callable[[bytes], int | None]]:
        """Give find(id) -> number of a pack that holds it, or None; keep it short, it holds an index snapshot."""
        with self._index.reading() as lookup:
            yield partial(self._find, lookup)

    @property
    def run_pack_no(self) -> int:
        """Number of the pack that the last hit or run was in."""
        return self._pack_no

    def run(self, ids: bytes, chunk: int) -> int:
        """Return how many ids from number `chunk` on follow the last hit in its pack's entry list, one by one."""
        if self._trailer is None:
            return 0
        count = self._trailer.run(self._entry + 1, ids, chunk)
        self._entry += count
        return count

    def _find(self, lookup: Lookup, chunk: bytes) -> int | None:
        if self._trailer is not None and self._trailer.holds(self._entry + 1, chunk):
            self._entry += 1
            return self._pack_no
        if not self._usable:  # a new repository: nothing to ask
            return None
        # The newest copy first: it is the one that the newest image reads with the fewest frames.
        for place in reversed(lookup.places(chunk)):
            if place.pack_no not in self._usable:
                continue
            try:
                trailer = self._entries.get(place.pack_no)
            except CasimgError:
                # A pack that cannot be read holds nothing: the chunk is stored again, which heals.
                self._usable.discard(place.pack_no)
                continue
            entry = trailer.entry_of(place.frame_offset, place.position)
            if entry is not None and trailer.holds(entry, chunk):
                self._trailer, self._pack_no, self._entry = trailer, place.pack_no, entry
                return place.pack_no
        return None
