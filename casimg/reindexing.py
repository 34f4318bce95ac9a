"""The index made anew, beside the one in use: an interrupted rebuild leaves that one as it was."""

import time

from casimg.errors import CasimgError
from casimg.index import drop_index, fresh_index_path, replace_index
from casimg.progress import Progress, ProgressCallback
from casimg.results.upkeep import IndexReport
from casimg.wiring import Wiring, index_path, open_index


def rebuild_indexes(wiring: Wiring, progress: ProgressCallback | None) -> IndexReport:
    """Build the index of every backend anew. Raises: as rebuild_index, after all others were built."""
    reports: list[IndexReport] = []
    failure: CasimgError | None = None
    for peer in wiring.peers:
        try:
            reports.append(rebuild_index(peer, progress))
        except CasimgError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return IndexReport(
        pack_count=sum(report.pack_count for report in reports),
        entry_count=sum(report.entry_count for report in reports),
        stored_size=sum(report.stored_size for report in reports),
        duration_s=sum(report.duration_s for report in reports),
    )


def rebuild_index(wiring: Wiring, progress: ProgressCallback | None = None) -> IndexReport:
    """Build an index of all packs of a backend, then put it in the place of the old one.

    Raises: DamageError, NotFoundError for a pack that cannot be read; the new index then covers all others.
    """
    begin_s = time.monotonic()
    site = wiring.site
    path = index_path(site, wiring.backend.name)
    incarnation = wiring.catalog.repo().incarnation
    fresh_path = fresh_index_path(path)

    def tell(done: int, todo: int) -> None:
        if progress is not None:
            progress(Progress("index", done, todo))

    fresh = open_index(site, incarnation, fresh_path)
    try:
        report = wiring.follow(index=fresh, on_pack=tell)
    except BaseException:
        fresh.close()
        drop_index(fresh_path)
        raise
    fresh.close()
    wiring.index.close()
    replace_index(path, fresh_path)
    wiring.index = open_index(site, incarnation, path)
    if report.damaged:
        raise report.damaged[0][1]
    return IndexReport(
        pack_count=report.added,
        entry_count=wiring.index.entry_count(),
        stored_size=wiring.index.stored_size(),
        duration_s=time.monotonic() - begin_s,
    )
