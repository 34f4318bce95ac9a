"""Entry lists of packs, the most recently used held in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from casimg.formats.pack import PackTrailer


class TrailerCache:
    """Entry lists by pack number, at most `count_max` of them; a pack's never changes. Threads: any.

    Args:
        salvaged: keep also what was salvaged from a damaged pack; no when it outlives the damage.
    """

    def __init__(self, count_max: int, *, salvaged: bool = True) -> None:
        self._count_max = count_max
        self._salvaged = salvaged
        self._lock = threading.Lock()
        self._trailers: OrderedDict[int, PackTrailer] = OrderedDict()

    def find(self, pack_no: int) -> PackTrailer | None:
        """Return the entry list of a pack, None when it is not held."""
        with self._lock:
            trailer = self._trailers.get(pack_no)
            if trailer is not None:
                self._trailers.move_to_end(pack_no)
            return trailer

    def hold(self, pack_no: int, trailer: PackTrailer) -> None:
        """Hold an entry list, and let go of the one not used for longest."""
        if not self._salvaged and _is_salvaged(trailer):
            return
        with self._lock:
            self._trailers[pack_no] = trailer
            while len(self._trailers) > self._count_max:
                self._trailers.popitem(last=False)

    def drop_salvaged(self) -> None:
        """Let go of what was salvaged: the damage may be over."""
        with self._lock:
            for pack_no in [number for number, trailer in self._trailers.items() if _is_salvaged(trailer)]:
                del self._trailers[pack_no]


def _is_salvaged(trailer: PackTrailer) -> bool:
    return trailer.nonce == bytes(len(trailer.nonce))


class EntryLists:
    """Load trailers by pack number on demand; at most `count_max` are held, or as a shared cache does. Threads: any."""

    def __init__(
        self, load: Callable[[int], PackTrailer], count_max: int = 64, *, cache: TrailerCache | None = None
    ) -> None:
        self._load = load
        self._cache = TrailerCache(count_max) if cache is None else cache
        self.load_count = 0

    def get(self, pack_no: int) -> PackTrailer:
        """Return the entry list of a pack. Raises: what `load` raises."""
        trailer = self._cache.find(pack_no)
        if trailer is None:
            trailer = self._load(pack_no)
            self.load_count += 1
            self._cache.hold(pack_no, trailer)
        return trailer
