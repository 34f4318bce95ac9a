"""Where other backends have what one of them lost: by their indexes, brought up to date when first asked."""

import logging
from collections.abc import Iterator

from casimg.catalog import PackRow
from casimg.errors import CasimgError
from casimg.index import Place
from casimg.wiring import PACK_STATES_FINDABLE, Wiring

_log = logging.getLogger("casimg.repair")


class Others:
    """The other backends of a repository. What they show is a hint: whoever uses it reads and hashes. Threads: one."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._found: list[tuple[Wiring, dict[int, PackRow]]] | None = None

    def places(self, chunk: bytes) -> Iterator[tuple[PackRow, Place]]:
        """Yield where a chunk or node may be, the newest pack of a backend first."""
        if self._found is None:
            self._found = [(peer, _followed(peer)) for peer in self._wiring.peers if peer is not self._wiring]
        for peer, rows in self._found:
            try:
                with peer.index.reading() as lookup:
                    found = lookup.places(chunk)
            except CasimgError as error:
                _log.warning("repair.index_not_asked backend=%s why=%s", peer.backend.name, error)
                continue
            for place in reversed(found):
                if place.pack_no in rows:
                    yield rows[place.pack_no], place


def _followed(wiring: Wiring) -> dict[int, PackRow]:
    """Return a backend's packs, all in its index if that can be."""
    try:
        wiring.follow()
    except CasimgError as error:
        _log.warning("repair.not_followed backend=%s why=%s", wiring.backend.name, error)
    return {row.pack_no: row for row in wiring.catalog.all_packs(PACK_STATES_FINDABLE)}
