"""Garbage collection in two steps: a plan that changes nothing, and its execution.

1. Stale sessions are fenced, records that are behind brought up to date (rules 7 and 15), and contents without images
   reaped, records first, then rows (rule 11).
2. Objects without a row are swept (rule 12).
3. Packs that no content names are condemned and swept (rules 8 and 9).
4. Packs that are needed in part are rewritten, in rounds that free as they go (rule 10).

Steps 2 to 4 are done for one backend after the other. One that cannot be reached is left for a later collection, and
with it images whose records may lie there.

It works on a full disk: what the catalog must write then, the reserve gives; a rewrite takes no more at a time than
there is room for, and one that finds none all the same is left, and what it wrote removed.
After `recover` only fences and records are looked after, until a full check. Rules are those of DESIGN section 8.
"""

import contextlib
import json
import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from casimg.backend.base import space_of
from casimg.catalog import PackRow, SweepVerdict, reading, upkeep
from casimg.catalog.upkeep import GC
from casimg.constants import PACK_SIZE_TARGET
from casimg.errors import BackendUnavailableError, CasimgError, NoSpaceError, RepositoryError
from casimg.formats.pack import PackTrailer
from casimg.gc.latch import latch as find_latch
from casimg.gc.locality import gather_newest
from casimg.gc.orphans import OrphanReport, sweep_orphans, unexplained
from casimg.gc.repack import RepackFigures, rewrite
from casimg.gc.waste import RepackRules, choose, measure, rounds
from casimg.ids import ContentId, PackId
from casimg.leasing import left_leases
from casimg.pack.keys import pack_key
from casimg.pack.writer import clean_spool
from casimg.progress import Progress, ProgressCallback
from casimg.records import flush_records, remove_records
from casimg.results.upkeep import GcPlan, GcReport
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.gc")


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What a collection would do now; `execute` decides everything again, so a plan may grow old."""

    wiring: Wiring
    plan: GcPlan
    rules: RepackRules

    def execute(self, progress: ProgressCallback | None = None, *, trust_catalog: bool = False) -> GcReport:
        """Free what nothing refers to, while others write and read.

        Args:
            trust_catalog: remove objects without a row even when the catalog looks restored from a backup.
        Raises: CatalogBusyError, BackendUnavailableError.
        """
        self.wiring.check_open()
        return collect(self.wiring, self.rules, progress, trust_catalog=trust_catalog)


def collect(
    wiring: Wiring,
    rules: RepackRules | None = None,
    progress: ProgressCallback | None = None,
    *,
    trust_catalog: bool = False,
    reason: str = "asked",
) -> GcReport:
    """Free what nothing refers to, and remember that it was done and why; as `CollectionPlan.execute`."""
    report = _Collection(wiring, rules or RepackRules(), progress).run(trust_catalog)
    work = partial(upkeep.record, kind=GC, reason=reason, report=json.dumps(asdict(report)))
    with contextlib.suppress(CasimgError):  # what was freed is free, though nobody will be told later
        wiring.reserve.spend(lambda: wiring.catalog.transaction(work, try_count=2))
    return report


def plan_collection(
    wiring: Wiring, rules: RepackRules | None = None, progress: ProgressCallback | None = None
) -> CollectionPlan:
    """Return what `execute` would free as of now."""
    rules = rules or RepackRules()
    catalog = wiring.catalog
    latch = find_latch(wiring)
    if latch is not None:
        return CollectionPlan(wiring, GcPlan(disabled=latch), rules)
    dead = catalog.dead_contents()
    plan = GcPlan(content_count=len(dead))
    unreachable: dict[str, str] = {}
    for peer in wiring.peers:
        with reaching(peer, unreachable):
            plan = _with_backend(plan, peer, dead, rules, progress)
    return CollectionPlan(wiring, replace(plan, unreachable=tuple(unreachable.values())), rules)


def _with_backend(
    plan: GcPlan, wiring: Wiring, dead: Collection[ContentId], rules: RepackRules, progress: ProgressCallback | None
) -> GcPlan:
    """Return a plan with what would be freed on one backend too."""
    catalog = wiring.catalog
    packs = {row.pack_no: row for row in catalog.unreferenced()}
    packs.update((row.pack_no, row) for row in catalog.packs_only_of(dead))
    packs.update((row.pack_no, row) for row in catalog.all_packs(("condemned", "deleting")))
    orphans = unexplained(wiring)
    victims = []
    if rules.unused_max < 1:
        found = measure(wiring, rules, progress, record=False, without=dead)
        victims = choose([item for item in found if item.row.pack_no not in packs], rules)
    return replace(
        plan,
        pack_count=plan.pack_count + len(packs),
        size=plan.size + sum(row.size for row in packs.values()),
        repack_pack_count=plan.repack_pack_count + len(victims),
        repack_size=plan.repack_size + sum(item.unused_size for item in victims),
        orphan_count=plan.orphan_count + len(orphans),
        orphan_size=plan.orphan_size + sum(orphans.values()),
    )


@contextlib.contextmanager
def reaching(wiring: Wiring, unreachable: dict[str, str]) -> Iterator[None]:
    """Do something with a backend; when there are others too, one that cannot be reached is only remembered.

    Args:
        unreachable: takes why, by the backend's name.
    """
    try:
        yield
    except (BackendUnavailableError, RepositoryError) as error:
        if len(wiring.peers) == 1:
            raise
        _log.warning("gc.unreachable backend=%s why=%s", wiring.backend.name, error)
        unreachable[wiring.backend.name] = str(error)


@dataclass(slots=True)
class _Collection:
    """One execution."""

    wiring: Wiring
    rules: RepackRules
    progress: ProgressCallback | None
    swept: dict[int, PackRow] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    revived_count: int = 0
    repacked: RepackFigures = field(default_factory=RepackFigures)
    gathered: RepackFigures = field(default_factory=RepackFigures)
    repack_stopped: str | None = None
    unreachable: dict[str, str] = field(default_factory=dict)

    def run(self, trust_catalog: bool) -> GcReport:
        begin_s = time.monotonic()
        spend = self.wiring.reserve.spend
        clean_spool(self.wiring.spool)
        # Before anything: a catalog that `recover` has replaced meanwhile is no ground to remove objects on.
        latch = find_latch(self.wiring)
        fenced = spend(self.wiring.catalog.fence_stale)
        behind_count = spend(lambda: flush_records(self.wiring))
        if latch is not None:
            _log.warning("gc.disabled why=%s", latch)
            return GcReport(
                fenced_count=len(fenced),
                record_behind_count=behind_count,
                disabled=latch,
                duration_s=time.monotonic() - begin_s,
            )
        spend(self._drop_leases)
        content_count = spend(self._reap)
        catalog = self.wiring.catalog
        lease_count = catalog.read(partial(reading.lease_count, content_ids=catalog.dead_contents()))
        orphans = [self._collect(peer, trust_catalog) for peer in self.wiring.peers]
        refused = [found.refused for found in orphans if found.refused is not None]
        given_up = self.repacked.given_up | self.gathered.given_up
        freed = [row for pack_no, row in self.swept.items() if pack_no not in given_up]
        return GcReport(
            content_count=content_count,
            pack_count=len(freed),
            size=sum(row.size for row in freed),
            waiting_count=len(self.waiting),
            revived_count=self.revived_count,
            fenced_count=len(fenced),
            lease_count=lease_count,
            repack_pack_count=self.repacked.pack_count,
            repack_new_size=self.repacked.new_size,
            gathered_size=self.gathered.new_size,
            repack_failed=tuple(self.repacked.failed + self.gathered.failed),
            repack_stopped=self.repack_stopped,
            orphan_count=sum(found.count for found in orphans),
            orphan_size=sum(found.size for found in orphans),
            orphan_waiting_count=sum(found.waiting_count for found in orphans),
            orphans_refused=refused[0] if refused else None,
            record_behind_count=behind_count,
            unreachable=tuple(self.unreachable.values()),
            duration_s=time.monotonic() - begin_s,
        )

    def _collect(self, wiring: Wiring, trust_catalog: bool) -> OrphanReport:
        """Collect what lies on one backend."""
        spend = wiring.reserve.spend
        orphans = OrphanReport()
        with reaching(wiring, self.unreachable):
            # Before packs: the record of a save that died must not outlive what it names, or `recover` would show it.
            orphans = spend(lambda: sweep_orphans(wiring, trust_catalog=trust_catalog))
            spend(partial(self._free, wiring))
            self._repack(wiring)
        return orphans

    def _drop_leases(self) -> None:
        left = left_leases(self.wiring)
        ended = set(left)
        self.wiring.catalog.transaction(partial(reading.drop_ended_leases, ended=ended))
        left -= ended

    def _reap(self) -> int:
        """Remove contents without images; returns how many."""
        wiring, catalog = self.wiring, self.wiring.catalog
        catalog.end_dead_saves()
        for image_id in catalog.deleted_with_content():
            # Records first: a record must never outlive the rows that say its image is deleted.
            try:
                remove_records(wiring, image_id)
            except BackendUnavailableError as error:  # what it names waits, all else is collected
                if len(wiring.peers) == 1:
                    raise
                _log.warning("gc.records_stay image=%s why=%s", image_id, error)
                self.unreachable[error.backend] = str(error)
                continue
            catalog.forget_content(image_id)
        return sum(catalog.reap_content(content_id) for content_id in catalog.dead_contents())

    def _free(self, wiring: Wiring) -> None:
        """Condemn and sweep packs that nothing names."""
        catalog = wiring.catalog
        catalog.condemn([row.pack_no for row in catalog.unreferenced()])
        self._sweep(wiring, {row.pack_no for row in catalog.all_packs(("condemned",))})

    def _sweep(self, wiring: Wiring, pack_nos: Collection[int]) -> None:
        catalog = wiring.catalog
        for pack_no in sorted(pack_nos):
            verdict = catalog.sweep(pack_no, age_min_s=wiring.site.gc_undo_s)
            if verdict is SweepVerdict.WAITS:
                self.waiting.add(pack_no)
            else:
                self.waiting.discard(pack_no)
            self.revived_count += verdict is SweepVerdict.REVIVED
        # Also what an interrupted collection left: `deleting` never comes back, so doing it again is safe.
        deleting = catalog.all_packs(("deleting",))
        for number, row in enumerate(deleting, 1):
            _forget_places(wiring, row)
            wiring.backend.delete(pack_key(PackId(row.pack_id)))
            catalog.mark_deleted(row.pack_no)
            self.swept[row.pack_no] = row
            _log.info("pack.deleted pack_no=%d pack=%s size=%d", row.pack_no, row.pack_id.hex(), row.size)
            if self.progress is not None:
                self.progress(Progress("gc", number, len(deleting)))

    def _repack(self, wiring: Wiring) -> None:
        """Rewrite what is worth it, and gather what the newest images need; what finds no room is left for later."""
        if self.rules.unused_max >= 1:
            return
        try:
            gather_newest(wiring, self.gathered, self.progress)
            victims = choose(measure(wiring, self.rules, self.progress), self.rules)
            for rows in rounds(victims, self._rules_that_fit(wiring)):
                switched = rewrite(wiring, rows, self.repacked, self.progress)
                wiring.catalog.condemn(switched)
                wiring.reserve.spend(partial(self._sweep, wiring, switched))
        except NoSpaceError as error:
            _log.warning("repack.stopped why=%s", error)
            self.repack_stopped = str(error)
            self._give_back(wiring)

    def _rules_that_fit(self, wiring: Wiring) -> RepackRules:
        """Return rules whose rounds find room: what one writes is freed only when it is done."""
        space = space_of(wiring.backend)
        if space is None:
            return self.rules
        room = max(space.free_size // 2, PACK_SIZE_TARGET)
        return replace(self.rules, round_size=min(self.rules.round_size, room))

    def _give_back(self, wiring: Wiring) -> None:
        """Free what a rewrite without room wrote: packs of an ended session, and an object that got no row."""
        spend = wiring.reserve.spend
        try:
            spend(partial(self._free, wiring))
            spend(lambda: sweep_orphans(wiring, trust_catalog=False))
        except NoSpaceError as error:  # what was freed so far is to be told; the next collection does the rest
            _log.warning("repack.not_given_back why=%s", error)


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
