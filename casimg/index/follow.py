"""Make an index cover the packs of the catalog: by set difference, never by a cursor.

Numbers of packs are not in the order of their commits, so "everything after number n" would miss packs for ever.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from casimg.errors import CasimgError, DamageError, NotFoundError
from casimg.formats.pack import PackTrailer
from casimg.index.lmdb_index import Index

_log = logging.getLogger("casimg.index")
_BATCH_ENTRIES = 100_000  # about 20 MiB of sorted places in memory


class PackRef(Protocol):
    """Number and id of a pack."""

    @property
    def pack_no(self) -> int: ...
    @property
    def pack_id(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class FollowReport:
    """What following did: packs added and removed, and those whose entry list cannot be read."""

    added: int
    removed: int
    damaged: tuple[tuple[int, CasimgError], ...]


def follow(
    index: Index,
    packs: Iterable[PackRef],
    load_trailer: Callable[[PackRef], PackTrailer],
    *,
    drop_others: bool,
    on_pack: Callable[[int, int], None] | None = None,
) -> FollowReport:
    """Apply the packs that the index does not cover.

    Args:
        drop_others: forget packs that are applied but not in `packs`.
        on_pack: called with (packs done, packs to do).
    """
    wanted = {pack.pack_no: pack for pack in packs}
    applied = index.applied()
    stale = [no for no, pack_id in applied.items() if no in wanted and wanted[no].pack_id != pack_id]
    gone = [no for no in applied if no not in wanted] if drop_others else []
    if stale or gone:
        index.remove_packs([(no, None) for no in (*stale, *gone)])
    todo = [pack for no, pack in wanted.items() if applied.get(no) != pack.pack_id]
    damaged: list[tuple[int, CasimgError]] = []
    batch: list[tuple[int, bytes, PackTrailer]] = []
    entries = added = 0
    for number, pack in enumerate(todo, 1):
        try:
            trailer = load_trailer(pack)
        except (DamageError, NotFoundError) as error:
            _log.warning("index.pack_unreadable pack_no=%d why=%s", pack.pack_no, error)
            damaged.append((pack.pack_no, error))
            continue
        batch.append((pack.pack_no, pack.pack_id, trailer))
        entries += trailer.entry_count
        added += 1
        if entries >= _BATCH_ENTRIES:
            index.add_packs(batch)
            batch, entries = [], 0
        if on_pack is not None:
            on_pack(number, len(todo))
    if batch:
        index.add_packs(batch)
    return FollowReport(added, len(stale) + len(gone), tuple(damaged))
