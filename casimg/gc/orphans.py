"""Objects that no row explains: left by writers that died, lost a race, or were fenced (DESIGN section 8, rule 12).

Listed first; then the epoch is bumped and what was found is remembered with it; then, in this run or a later one,
what no older session can explain and still has no row is removed. A latch refuses when so much is unexplained that
the catalog looks restored from a backup: then it is the catalog that is wrong, not the objects.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from casimg.backend.base import ListsPartials
from casimg.catalog import CLAIMED_STATUSES, STORED_STATUSES
from casimg.errors import NotFoundError
from casimg.ids import ImageId, PackId
from casimg.pack.keys import PACK_PREFIX, RECORD_PREFIX, pack_id_of_key, record_of_key
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.gc")
_UNEXPLAINED_SHARE_MAX: Final = 0.01
_UNEXPLAINED_COUNT_MIN: Final = 16  # below this one dead writer explains it, whatever the share
_PACK, _RECORD, _PARTIAL = "pack", "record", "partial"


@dataclass(frozen=True, slots=True)
class OrphanReport:
    """What was done about objects without a row; `refused` says why nothing was."""

    count: int = 0
    size: int = 0
    waiting_count: int = 0
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class _Listing:
    """Names of unexplained objects with their sizes, and what speaks for a restored catalog."""

    sizes: dict[str, int]
    object_count: int
    unknown_images: tuple[ImageId, ...]


def sweep_orphans(wiring: Wiring, *, trust_catalog: bool) -> OrphanReport:
    """Remove objects that nothing explains; safe beside writers, and complete only when older ones have ended.

    Args:
        trust_catalog: go on although the catalog looks restored from a backup.
    """
    listing = _list(wiring)
    refused = None if trust_catalog else _suspicion(listing)
    if refused is not None:
        _log.warning("orphans.refused why=%s", refused)
        return OrphanReport(refused=refused)
    wiring.catalog.remember_orphans(wiring.backend_id, listing.sizes)
    names, waiting_count = wiring.catalog.ripe_orphans(wiring.backend_id)
    count = size = 0
    # Sessions were looked at by `ripe_orphans`; only now the rows, once more.
    explained = _explained(wiring, names)
    for name in names:
        if name not in explained:
            _remove(wiring, name)
            count += 1
            size += listing.sizes.get(name, 0)
            _log.info("orphan.removed name=%s", name)
        wiring.catalog.forget_orphan(wiring.backend_id, name)
    return OrphanReport(count, size, waiting_count)


def unexplained(wiring: Wiring) -> dict[str, int]:
    """Return names and sizes of objects without a row, as of now; for plans."""
    return _list(wiring).sizes


def _list(wiring: Wiring) -> _Listing:
    sizes: dict[str, int] = {}
    object_count = 0
    for prefix, kind in ((PACK_PREFIX, _PACK), (RECORD_PREFIX, _RECORD)):
        for found in wiring.backend.list(prefix):
            sizes[f"{kind} {found.key}"] = found.size
            object_count += 1
    if isinstance(wiring.backend, ListsPartials):
        for found in wiring.backend.list_partials():
            sizes[f"{_PARTIAL} {found.key}"] = found.size
    # Rows after the listing: an object inserted meanwhile is explained.
    for name in _explained(wiring, sizes):
        del sizes[name]
    records = [record for record in map(record_of_key, _keys(sizes, _RECORD)) if record is not None]
    images = wiring.catalog.image_sessions({image_id for image_id, _ in records})
    # A snapshot's row comes with its commit, so the record of one that failed names no image. Its session was there
    # before the record: a catalog that knows it is not older than the record.
    sessions = wiring.catalog.known_sessions({session_id for _, session_id in records})
    unknown = {record[0] for record in records if record[0] not in images and record[1] not in sessions}
    return _Listing(sizes, object_count, tuple(sorted(unknown)))


def _suspicion(listing: _Listing) -> str | None:
    """Say why the catalog looks restored from a backup; None when it does not."""
    if listing.unknown_images:
        return (
            f"{len(listing.unknown_images)} records name images that the catalog does not know, first "
            f"{listing.unknown_images[0]}: the catalog looks older than the objects"
        )
    packs = len(_keys(listing.sizes, _PACK))
    if packs > max(_UNEXPLAINED_COUNT_MIN, listing.object_count * _UNEXPLAINED_SHARE_MAX):
        return f"{packs} of {listing.object_count} objects have no row: the catalog looks older than the objects"
    return None


def _explained(wiring: Wiring, names: Iterable[str]) -> set[str]:
    """Return the names that a row explains now: packs that may be read, records of active images or live saves."""
    pack_names = {pack_id_of_key(key): f"{_PACK} {key}" for key in _keys(names, _PACK)}
    states = wiring.catalog.pack_states([pack_id for pack_id in pack_names if pack_id is not None])
    # A row in `deleting` is the collector's to finish; an object whose row says `deleted` came back by a late put.
    found = {pack_names[PackId(pack_id)] for pack_id, state in states.items() if state != "deleted"}
    records = {record_of_key(key): f"{_RECORD} {key}" for key in _keys(names, _RECORD)}
    sessions = wiring.catalog.image_sessions({record[0] for record in records if record is not None})
    for record, name in records.items():
        if record is None:
            continue
        status, own = sessions.get(record[0], ("unknown", frozenset()))
        if status in (*STORED_STATUSES, *CLAIMED_STATUSES) and record[1] in own:
            found.add(name)
    return found


def _keys(names: Iterable[str], kind: str) -> list[str]:
    return [name.partition(" ")[2] for name in names if name.startswith(f"{kind} ")]


def _remove(wiring: Wiring, name: str) -> None:
    kind, _, key = name.partition(" ")
    if kind != _PARTIAL:
        wiring.backend.delete(key)
    elif isinstance(wiring.backend, ListsPartials):
        try:
            wiring.backend.delete_partial(key)
        except NotFoundError:
            return
