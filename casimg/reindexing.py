"""The index made anew, beside the one in use: an interrupted rebuild leaves that one as it was."""

import time

from casimg.index import drop_index, fresh_index_path, replace_index
from casimg.progress import Progress, ProgressCallback
from casimg.results.upkeep import IndexReport
from casimg.wiring import Wiring, open_index


def rebuild_index(wiring: Wiring, progress: ProgressCallback | None) -> IndexReport:
    """Build an index of all packs, then put it in the place of the old one.

    Raises: DamageError, NotFoundError for a pack that cannot be read; the new index then covers all others.
    """
    begin_s = time.monotonic()
    site = wiring.site
    path = site.folder / site.index_path
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
    wiring.index = open_index(site, incarnation)
    if report.damaged:
        raise report.damaged[0][1]
    return IndexReport(
        pack_count=report.added,
        entry_count=wiring.index.entry_count(),
        stored_size=wiring.index.stored_size(),
        duration_s=time.monotonic() - begin_s,
    )
