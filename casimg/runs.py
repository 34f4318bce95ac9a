"""Where the chunks of a segment lie, found by runs: chunks that follow each other in a pack as in the segment.

The index is asked for the first chunk of a run only; the pack's entry list says how far it goes. Of several copies the
one with the longest run is taken, and of such the newest pack's: that decodes the fewest frames.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from casimg.constants import ID_SIZE
from casimg.errors import CasimgError
from casimg.formats.pack import PackTrailer
from casimg.index import Place

_CHUNKS_MIN: Final = 16
"""For fewer chunks the entry lists cost more than they save."""
_CHUNKS_PER_LIST: Final = 512
_LISTS_FREE: Final = 64


class Run(NamedTuple):
    """Chunks of a segment from number `first` on, in one frame from `place.position` on."""

    first: int
    chunk_count: int
    place: Place


class Lists(Protocol):
    """Entry lists of packs by number, some of them held."""

    @property
    def load_count(self) -> int:
        """How many had to be loaded so far."""
        ...

    def get(self, pack_no: int) -> PackTrailer: ...


class RunFinder:
    """Find runs with the entry lists of packs. Threads: any."""

    def __init__(self, lists: Lists) -> None:
        self._lists = lists
        self._asked = 0  # about: threads may count over each other

    def find(self, ids: bytes, places_of: Callable[[bytes], Sequence[Place]]) -> list[Run] | None:
        """Return runs that cover all chunks in order; None where one is not found or runs are not worth it.

        Args:
            ids: ids of the chunks, one after another.
            places_of: asks the index.
        """
        count = len(ids) // ID_SIZE
        # A content strewn over more packs than entry lists are held would load them again and again.
        if count < _CHUNKS_MIN or self._lists.load_count > _LISTS_FREE + self._asked // _CHUNKS_PER_LIST:
            return None
        self._asked += count
        runs: list[Run] = []
        number = 0
        while number < count:
            found = self._longest(ids, number, places_of(ids[number * ID_SIZE : (number + 1) * ID_SIZE]))
            if found is None:
                return None
            length, place, trailer, entry = found
            end = number + length
            while number < end:
                frame, position = trailer.frame_of(entry)
                step = min(end - number, frame.chunk_count - position)
                plain_size = trailer.size_at(entry)
                runs.append(Run(number, step, Place(place.pack_no, frame.offset, frame.size, position, plain_size)))
                number += step
                entry += step
        return runs

    def _longest(self, ids: bytes, number: int, places: Sequence[Place]) -> tuple[int, Place, PackTrailer, int] | None:
        best: tuple[int, Place, PackTrailer, int] | None = None
        for place in reversed(places):
            try:
                trailer = self._lists.get(place.pack_no)
            except CasimgError:
                continue
            entry = trailer.entry_of(place.frame_offset, place.position)
            length = 0 if entry is None else trailer.run(entry, ids, number)
            if entry is not None and length and (best is None or length > best[0]):
                best = (length, place, trailer, entry)
        return best
