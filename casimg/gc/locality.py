"""Gather what the newest image of a lineage needs of frames that it hardly uses (rule 10).

Nights of small changes leave an image's segments drawing one chunk each from many old frames. For the newest image
such chunks are stored once more, the chunks of a segment together; the content then names the new pack too, and
readers take the newest copy. Older images keep the old ones.
"""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Final

from casimg.assemble import ContentReader
from casimg.backend.base import space_of
from casimg.catalog import repack
from casimg.catalog.repack import Move
from casimg.constants import FRAME_PLAIN_TARGET, KIND_DATA, MIB
from casimg.errors import CasimgError, DamageError, NotFoundError
from casimg.formats.frame import encode_frame
from casimg.gc.repack import RepackFigures
from casimg.ids import ContentId, SessionId
from casimg.packing import PackLine
from casimg.progress import Progress, ProgressCallback
from casimg.scatter import Scatter, measure_scatter, scattered_leaves
from casimg.wiring import PACK_STATES_FINDABLE, Wiring

_log = logging.getLogger("casimg.gc")

_GAIN_MIN: Final = 0.02  # share of what a restore decodes; less is not worth a pack
_BUDGET_SHARE: Final = 0.05  # of stored bytes, and of the free ones, each time
_FREE_MIN: Final = 256 * MIB
"""With less free nothing is stored once more for the sake of speed; the next collection looks again."""


def gather_newest(wiring: Wiring, figures: RepackFigures, progress: ProgressCallback | None) -> None:
    """Look at newest images not looked at yet, and gather for those that gain by it.

    Raises: TryAgainError, NoSpaceError, and what the backend raises; then nothing of that image was switched.
    """
    todo = wiring.catalog.read(partial(repack.newest_unsettled, backend_id=wiring.backend_id))
    stored = sum(row.size for row in wiring.catalog.all_packs(PACK_STATES_FINDABLE)) if todo else 0
    budget = int(_BUDGET_SHARE * stored)
    space = space_of(wiring.backend)
    if space is not None:
        budget = min(budget, int(_BUDGET_SHARE * space.free_size))
        if space.free_size < _FREE_MIN and todo:
            _log.info("gather.no_room content_count=%d free=%d", len(todo), space.free_size)
            return
    for number, content_id in enumerate(todo, 1):
        try:
            with_reader = wiring.reader(content_id)
            scatter = measure_scatter(wiring, content_id, with_reader)
            if scatter.thin_decoded_size - scatter.thin_size > _GAIN_MIN * scatter.decoded_size:
                _gather(wiring, content_id, with_reader, budget - figures.new_size, figures)
        except (DamageError, NotFoundError) as error:  # gone meanwhile, or damaged: check tells
            _log.info("gather.left_out content=%s why=%s", content_id, error)
        wiring.catalog.transaction(partial(repack.settle, content_id=content_id))
        if progress is not None:
            progress(Progress("gather", number, len(todo)))


def _gather(wiring: Wiring, content_id: ContentId, reader: ContentReader, budget: int, figures: RepackFigures) -> None:
    session = wiring.catalog.open_session("repack")
    line = wiring.pack_line(session.session_id)
    try:
        _write(wiring, session.session_id, content_id, reader, budget, line)
        new = tuple(sorted(line.shipped))
        moves = [Move(content_id, None, new)]
        wiring.catalog.transaction(partial(repack.switch, session_id=session.session_id, moves=moves))
    except BaseException:
        line.discard()
        figures.given_up |= line.shipped.keys()
        wiring.end_session(session.session_id)
        raise
    size = sum(pack.size for pack in line.shipped.values())
    figures.pack_count += len(new)
    figures.new_size += size
    _log.info("gather.done content=%s size=%d", content_id, size)
    try:
        line.publish()
    except CasimgError as error:  # switched all the same; the index is followed when it is next needed
        _log.warning("index.write_failed session=%s error=%s", session.session_id, error)
    line.close()


def _write(
    wiring: Wiring, session_id: SessionId, content_id: ContentId, reader: ContentReader, budget: int, line: PackLine
) -> None:
    done: set[bytes] = set()
    size = 0
    for leaf, thin in scattered_leaves(wiring, content_id, reader, Scatter()):
        wanted = {chunk for chunk in thin if chunk not in done}
        ordered = [chunk for chunk in dict.fromkeys(leaf.ids) if chunk in wanted]
        for ids, views in _groups(reader, ordered):
            frame = encode_frame(KIND_DATA, b"".join(views), [len(view) for view in views], wiring.site.level)
            line.append(KIND_DATA, frame, ids, [len(view) for view in views])
            size += len(frame)
        done.update(ordered)
        wiring.catalog.heartbeat(session_id)
        if size >= budget:
            _log.info("gather.budget_spent content=%s size=%d", content_id, size)
            break
    line.flush()


def _groups(reader: ContentReader, ids: list[bytes]) -> Iterator[tuple[list[bytes], list[memoryview]]]:
    """Yield chunks of one segment in groups that make a frame, every chunk checked."""
    group: list[bytes] = []
    views: list[memoryview] = []
    for chunk, view in zip(ids, reader.chunks(ids), strict=True):
        if group and sum(map(len, views)) + len(view) > FRAME_PLAIN_TARGET:
            yield group, views
            group, views = [], []
        group.append(chunk)
        views.append(view)
    if group:
        yield group, views
