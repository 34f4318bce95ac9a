"""Entry lists of packs, the most recently used held in memory."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from casimg.formats.pack import PackTrailer


class EntryLists:
    """Load trailers by pack number on demand; at most `count_max` are held. Threads: any."""

    def __init__(self, load: Callable[[int], PackTrailer], count_max: int = 64) -> None:
        self._load = load
        self._count_max = count_max
        self._lock = threading.Lock()
        self._trailers: OrderedDict[int, PackTrailer] = OrderedDict()
        self.load_count = 0

    def get(self, pack_no: int) -> PackTrailer:
        """Return the entry list of a pack. Raises: what `load` raises."""
        with self._lock:
            trailer = self._trailers.get(pack_no)
            if trailer is not None:
                self._trailers.move_to_end(pack_no)
                return trailer
        trailer = self._load(pack_no)
        with self._lock:
            self.load_count += 1
            self._trailers[pack_no] = trailer
            while len(self._trailers) > self._count_max:
                self._trailers.popitem(last=False)
        return trailer
