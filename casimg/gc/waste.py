"""What is not reached any more, pack by pack, and which packs are worth rewriting for it (rule 10).

`measure` looks at packs that lost a content since they were last looked at, and records what is left of each;
`choose` decides from those sizes alone, so a dry run is free.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from casimg.catalog import PackRow, repack
from casimg.catalog.repack import ContentUse
from casimg.constants import DOMAIN_DEFAULT, KIND_DATA, MIB, PACK_SIZE_TARGET
from casimg.errors import DamageError, NotFoundError
from casimg.formats.pack import PackTrailer
from casimg.gc.marks import Marks, mark
from casimg.ids import ContentId
from casimg.index.entries import EntryLists
from casimg.progress import Progress, ProgressCallback
from casimg.wiring import PACK_STATES_FINDABLE, Wiring

_log = logging.getLogger("casimg.gc")


@dataclass(frozen=True, slots=True)
class RepackRules:
    """What is worth rewriting.

    Attributes:
        unused_max: share of stored bytes that may stay unused, from 0 to 1; 1 rewrites nothing.
        unused_pack_max: a pack with a larger unused share is always rewritten: that frees more than it costs.
        small_size: packs below this are merged ...
        small_count: ... when there are at least so many of a kind.
        round_size, round_entry_count: what one session rewrites at most: stored bytes (space that a rewrite needs
            before it frees any) and entries (memory).
    """

    unused_max: float = 0.05
    unused_pack_max: float = 0.5
    small_size: int = PACK_SIZE_TARGET // 4
    small_count: int = 8
    round_size: int = 512 * MIB
    round_entry_count: int = 200_000


@dataclass(frozen=True, slots=True)
class Victim:
    """A pack to rewrite and what is reached of it, stored bytes in proportion."""

    row: PackRow
    live_plain_size: int

    @property
    def unused_size(self) -> int:
        return unused_size(self.row, self.live_plain_size)


def unused_size(row: PackRow, live_plain_size: int) -> int:
    """Return the stored bytes of a pack that nothing reaches, in proportion to plain bytes."""
    if not row.plain_size:
        return 0
    return row.size - row.size * min(live_plain_size, row.plain_size) // row.plain_size


def measure(
    wiring: Wiring,
    rules: RepackRules,
    progress: ProgressCallback | None,
    *,
    record: bool = True,
    without: Collection[ContentId] = (),
) -> list[Victim]:
    """Return every live pack that contents name, with what is reached of it; unknown ones are looked at.

    Args:
        record: remember what was found, so that it is not looked at again until a content goes.
        without: contents that will go; for plans.
    Cost: a walk over the manifests of the contents that name packs not looked at; none when no content went.
    """
    losing = {row.pack_no for content_id in without for row in wiring.catalog.content_packs(content_id)}
    measured = [row for row in wiring.catalog.read(repack.measured) if row.backend_id == wiring.backend_id]
    known = [Victim(row, row.live_plain_size or 0) for row in measured if row.pack_no not in losing]
    unknown = [row for row in wiring.catalog.read(repack.unmeasured) if row.backend_id == wiring.backend_id]
    unknown += [row for row in measured if row.pack_no in losing]
    for group in _rounds(unknown, rules, size_max=None):
        marks, _ = mark_packs(wiring, group, progress, without)
        found = [row for row in group if row.pack_no in marks.trailers and row.pack_no not in marks.unreadable]
        victims = [Victim(row, marks.live_plain_size(row.pack_no)) for row in found]
        if record:
            sizes = {item.row.pack_no: (item.row.loss_no, item.live_plain_size) for item in victims}
            wiring.catalog.transaction(partial(repack.record_live, sizes=sizes))
        known += victims
    return known


def choose(packs: Iterable[Victim], rules: RepackRules) -> list[Victim]:
    """Return the packs worth rewriting, by pack number. Pure."""
    usable = [item for item in packs if item.row.domain == DOMAIN_DEFAULT]
    if rules.unused_max >= 1:
        return []
    total = sum(item.row.size for item in usable)
    unused = sum(item.unused_size for item in usable)
    chosen: dict[int, Victim] = {}
    for item in sorted(usable, key=lambda item: (-item.unused_size / max(1, item.row.size), item.row.pack_no)):
        share = item.unused_size / max(1, item.row.size)
        if not item.unused_size or (share <= rules.unused_pack_max and unused <= rules.unused_max * total):
            break
        chosen[item.row.pack_no] = item
        unused -= item.unused_size
        total -= item.unused_size
    for kind in sorted({item.row.kind for item in usable}):
        small = [item for item in usable if item.row.kind == kind and item.row.size < rules.small_size]
        if len(small) >= rules.small_count:
            chosen.update((item.row.pack_no, item) for item in small)
    return [chosen[pack_no] for pack_no in sorted(chosen)]


def rounds(victims: Sequence[Victim], rules: RepackRules) -> Iterator[list[PackRow]]:
    """Divide what was chosen into sessions: packs of one kind, as much as memory and a tight disk allow."""
    yield from _rounds([item.row for item in victims], rules, size_max=rules.round_size)


def _rounds(rows: Sequence[PackRow], rules: RepackRules, *, size_max: int | None) -> Iterator[list[PackRow]]:
    for key in sorted({(row.kind, row.backend_id, row.domain) for row in rows}):
        group: list[PackRow] = []
        size = entries = 0
        for row in rows:
            if (row.kind, row.backend_id, row.domain) != key:
                continue
            full = entries + row.chunk_count > rules.round_entry_count
            if group and (full or (size_max is not None and size + row.size > size_max)):
                yield group
                group, size, entries = [], 0, 0
            group.append(row)
            size += row.size
            entries += row.chunk_count
        if group:
            yield group


def mark_packs(
    wiring: Wiring, rows: Sequence[PackRow], progress: ProgressCallback | None, without: Collection[ContentId] = ()
) -> tuple[Marks, list[ContentUse]]:
    """Mark what all contents that name the packs reach of them. Packs without a readable entry list are left out."""
    trailers: dict[int, PackTrailer] = {}
    for row in rows:
        try:
            trailers[row.pack_no] = wiring.load_trailer(row)
        except (DamageError, NotFoundError) as error:
            _log.warning("repack.trailer_unreadable pack_no=%d why=%s", row.pack_no, error)
    uses = wiring.catalog.read(partial(repack.uses_of, pack_nos=set(trailers)))
    uses = [use for use in uses if use.content_id not in without]
    others = {
        row.pack_no: row
        for row in wiring.catalog.packs({pack_no for use in uses for pack_no in use.pack_nos})
        if row.state in PACK_STATES_FINDABLE and not row.damaged
    }
    marks = Marks(trailers, wiring.index, EntryLists(lambda pack_no: wiring.load_trailer(others[pack_no])))

    def tell(done: int, todo: int) -> None:
        if progress is not None:
            progress(Progress("mark", done, todo))

    kinds = {row.kind for row in rows}
    mark(marks, uses, wiring.reader, leaves=KIND_DATA in kinds, on_content=tell)
    return marks, uses
