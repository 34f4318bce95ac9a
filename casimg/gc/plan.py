"""Garbage collection in two steps: a plan that changes nothing, and its execution.

Stale sessions are fenced, records that are behind are brought up to date (rule 15), contents without images are reaped
(records first, then rows), packs that no content names are condemned and swept by the catalog's rules (DESIGN section
8, rules 7, 8, 9 and 11), and objects without a row are swept (rule 12). It works on a full disk: what the catalog must
write then, the reserve gives. After `recover` only the first two are done, until a full check.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from casimg.catalog import PackRow, SweepVerdict
from casimg.errors import CasimgError
from casimg.formats.pack import PackTrailer
from casimg.gc.latch import latch as find_latch
from casimg.gc.orphans import sweep_orphans, unexplained
from casimg.ids import PackId
from casimg.pack.keys import pack_key
from casimg.pack.writer import clean_spool
from casimg.progress import Progress, ProgressCallback
from casimg.records import flush_records, remove_records
from casimg.results import GcPlan, GcReport
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.gc")


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What a collection would do now; `execute` decides everything again, so a plan may grow old."""

    wiring: Wiring
    plan: GcPlan

    def execute(self, progress: ProgressCallback | None = None, *, trust_catalog: bool = False) -> GcReport:
        """Free what nothing refers to, while others write and read.

        Args:
            trust_catalog: remove objects without a row even when the catalog looks restored from a backup.
        Raises: CatalogBusyError, BackendUnavailableError.
        """
        self.wiring.check_open()
        return self.wiring.reserve.spend(lambda: _collect(self.wiring, progress, trust_catalog))


def plan_collection(wiring: Wiring) -> CollectionPlan:
    """Return what `execute` would free as of now."""
    catalog = wiring.catalog
    latch = find_latch(wiring)
    if latch is not None:
        return CollectionPlan(wiring, GcPlan(disabled=latch))
    dead = catalog.dead_contents()
    packs = {row.pack_no: row for row in catalog.unreferenced()}
    packs.update((row.pack_no, row) for row in catalog.packs_only_of(dead))
    packs.update((row.pack_no, row) for row in catalog.all_packs(("condemned", "deleting")))
    orphans = unexplained(wiring)
    size = sum(row.size for row in packs.values())
    return CollectionPlan(wiring, GcPlan(len(dead), len(packs), size, len(orphans), sum(orphans.values())))


def _collect(wiring: Wiring, progress: ProgressCallback | None, trust_catalog: bool) -> GcReport:
    begin_s = time.monotonic()
    catalog = wiring.catalog
    clean_spool(wiring.spool)
    # Before anything: a catalog that `recover` has replaced meanwhile is no ground to remove objects on.
    latch = find_latch(wiring)
    fenced = catalog.fence_stale()
    behind_count = flush_records(wiring)
    if latch is not None:
        _log.warning("gc.disabled why=%s", latch)
        return GcReport(
            fenced_count=len(fenced),
            record_behind_count=behind_count,
            disabled=latch,
            duration_s=time.monotonic() - begin_s,
        )
    catalog.end_dead_saves()
    for image_id in catalog.deleted_with_content():
        # Records first: a record must never outlive the rows that say its image is deleted.
        remove_records(wiring, image_id)
        catalog.forget_content(image_id)
    content_count = sum(catalog.reap_content(content_id) for content_id in catalog.dead_contents())
    catalog.condemn([row.pack_no for row in catalog.unreferenced()])

    swept: list[PackRow] = []
    waiting = revived = 0
    for row in catalog.all_packs(("condemned",)):
        verdict = catalog.sweep(row.pack_no)
        waiting += verdict is SweepVerdict.WAITS
        revived += verdict is SweepVerdict.REVIVED
    # Also what an interrupted collection left: `deleting` never comes back, so doing it again is safe.
    deleting = catalog.all_packs(("deleting",))
    for number, row in enumerate(deleting, 1):
        _forget_places(wiring, row)
        wiring.backend.delete(pack_key(PackId(row.pack_id)))
        catalog.mark_deleted(row.pack_no)
        swept.append(row)
        _log.info("pack.deleted pack_no=%d pack=%s size=%d", row.pack_no, row.pack_id.hex(), row.size)
        if progress is not None:
            progress(Progress("gc", number, len(deleting)))
    orphans = sweep_orphans(wiring, trust_catalog=trust_catalog)
    return GcReport(
        content_count=content_count,
        pack_count=len(swept),
        size=_sum_sizes(swept),
        waiting_count=waiting,
        revived_count=revived,
        fenced_count=len(fenced),
        orphan_count=orphans.count,
        orphan_size=orphans.size,
        orphan_waiting_count=orphans.waiting_count,
        orphans_refused=orphans.refused,
        record_behind_count=behind_count,
        duration_s=time.monotonic() - begin_s,
    )


def _forget_places(wiring: Wiring, row: PackRow) -> None:
    """Take a pack out of the index while its entry list can still be read; a failure costs only stale entries."""
    trailer: PackTrailer | None = None
    try:
        trailer = wiring.load_trailer(row)
    except CasimgError as error:
        _log.info("gc.trailer_unreadable pack_no=%d why=%s", row.pack_no, error)
    try:
        wiring.index.remove_packs([(row.pack_no, trailer)])
    except CasimgError as error:  # a full disk must not stop the collection that empties it
        _log.warning("gc.index_not_updated pack_no=%d why=%s", row.pack_no, error)


def _sum_sizes(rows: Iterable[PackRow]) -> int:
    return sum(row.size for row in rows)
