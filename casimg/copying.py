"""An image's bytes on another backend: read from where they lie, checked, and stored there as any other data.

What the other backend has already is not stored again. The cuts depend on the bytes alone, so the copy has the root of
the original, which its commit asks for. Whatever fails leaves the image as it was, and packs that the next try finds or
`gc` takes.
"""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from casimg.assemble import ContentReader
from casimg.catalog import ImageRow, NewContent, SessionRow
from casimg.catalog.copies import beat_copy, begin_copy, commit_copy, is_copied, remove_copy
from casimg.catalog.members import members_of
from casimg.catalog.sessions import close_session
from casimg.constants import SEGMENT_SIZE
from casimg.errors import CasimgError, CopyExistsError, ImageDeletedError, ImageNotFoundError, TryAgainError
from casimg.formats.config import CONFIG_KEY
from casimg.ids import ContentId, ImageId, NodeId, SessionId, new_content_id
from casimg.ingest import Ingest, cut_and_hash
from casimg.leasing import leased_reader
from casimg.manifest.shape import segment_count, segment_size
from casimg.manifest.walk import leaf_ids, load_leaf
from casimg.pack.keys import record_key
from casimg.pieces import read_piece
from casimg.records import put_record, try_flush
from casimg.saving import Save, SaveOptions
from casimg.segments import CutSegment, Taken
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.copying")
_DELETED: Final = "image {} was deleted while it was copied"


def copy_image(to: Wiring, image_id: ImageId, options: SaveOptions) -> ImageRow:
    """Store a stored image's bytes on another backend too.

    Args:
        to: the other backend's.
    Raises: ImageNotFoundError, ImageDeletedError when it was deleted meanwhile, CopyExistsError, CancelledError,
        NoSpaceError, DamageError when no backend gives the bytes, BackendUnavailableError, TryAgainError.
    """
    catalog = to.catalog
    image = catalog.image(image_id)
    if not image.stores:
        raise ImageNotFoundError(image_id)
    if to.backend.name in image.stores:
        raise CopyExistsError(image_id, to.backend.name)
    check_reachable(to)
    session = catalog.open_session("ingest")
    session_id = session.session_id
    try:
        content_id = new_content_id()
        catalog.transaction(
            partial(
                begin_copy,
                session_id=session_id,
                image_id=image_id,
                content_id=content_id,
                backend_id=to.backend_id,
            )
        )
        beat = partial(catalog.transaction, partial(beat_copy, session_id=session_id, image_id=image_id))
        with leased_reader(to, image) as reader:
            content, pack_nos = copy_content(to, session, reader, content_id, options, beat)
        revision = _record(to, session_id, image_id, content, pack_nos)
        try:
            catalog.transaction(
                partial(
                    commit_copy,
                    session_id=session_id,
                    image_id=image_id,
                    content=content,
                    backend_id=to.backend_id,
                    pack_nos=pack_nos,
                    recorded_revision=revision,
                )
            )
        except TryAgainError:
            if not catalog.transaction(partial(is_copied, session_id=session_id, content_id=content_id)):
                raise
    except BaseException as error:
        _give_up(to, session_id, image_id)
        if isinstance(error, ImageNotFoundError) and not isinstance(error, ImageDeletedError):
            raise ImageDeletedError(image_id, _DELETED) from error
        raise
    _log.info("image.copied image=%s content=%s backend=%s", image_id, content_id, to.backend.name)
    row = catalog.image(image_id)
    if row.revision != revision:
        try_flush(to, image_id)  # it was edited after its record was put
    return catalog.image(image_id)


def leave(wiring: Wiring, image_id: ImageId) -> ImageRow:
    """Let an image lie on a backend no more; a collection frees what nothing else needs there.

    Raises: ImageNotFoundError, CopyNotFoundError, LastCopyError.
    """
    work = partial(remove_copy, image_id=image_id, backend_id=wiring.backend_id)
    session_id = wiring.reserve.spend(lambda: wiring.catalog.transaction(work))
    if session_id is not None:
        try:
            wiring.backend.delete(record_key(image_id, session_id))
        except CasimgError as error:  # an orphan, which gc sweeps before the packs that it names
            _log.warning("record.stays image=%s session=%s why=%s", image_id, session_id, error)
    return wiring.catalog.image(image_id)


def check_reachable(wiring: Wiring) -> None:
    """Raise BackendUnavailableError for a backend that cannot be asked now: before hours of reading, not after."""
    wiring.backend.stat(CONFIG_KEY)


def copy_content(
    to: Wiring,
    session: SessionRow,
    reader: ContentReader,
    content_id: ContentId,
    options: SaveOptions,
    heartbeat: Callable[[], None],
) -> tuple[NewContent, frozenset[int]]:
    """Store a content's bytes on a backend, in packs of the session; return what it is there, and its packs.

    Raises: as copy_image.
    """
    with Save(to, session, to.chunker(), options, reader.tree.size, heartbeat=heartbeat, shared=to.shared) as save:
        found = save.take_in(partial(_ingest_content, reader=reader), content_id)
        save.publish()
    return found


def _ingest_content(run: Ingest, reader: ContentReader) -> NodeId | None:
    """Take a whole content in; segments of zeros cost nothing."""
    size = reader.tree.size
    count = segment_count(size)
    at = 0
    for number, leaf in leaf_ids(reader.node, reader.tree):
        _take_zeros(run, size, at, number)
        run.submit(_job(run, reader, number, leaf))
        at = number + 1
    _take_zeros(run, size, at, count)
    return run.finish()


def _take_zeros(run: Ingest, size: int, first: int, end: int) -> None:
    if end > first:
        zero_size = min(size, end * SEGMENT_SIZE) - first * SEGMENT_SIZE
        run.take(Taken(end - first, zero_size, zero_size))


def _job(run: Ingest, reader: ContentReader, number: int, leaf: NodeId) -> Callable[[], CutSegment]:
    buffer = run.take_buffer()

    def job() -> CutSegment:
        size = segment_size(reader.tree.size, number)
        node = load_leaf(reader.node, reader.tree, number, leaf)
        read_piece(reader, node, 0, memoryview(buffer)[:size], by_runs=True)
        return cut_and_hash(run.chunker, number, buffer, size, size)

    return job


def _record(to: Wiring, session_id: SessionId, image_id: ImageId, content: NewContent, pack_nos: Iterable[int]) -> int:
    """Put the record of a copy, with what is said of the image now, and return the revision that it says."""
    catalog = to.catalog
    image = catalog.image(image_id)
    if image.content_id is None:
        raise ImageNotFoundError(image_id)
    first = catalog.content(image.content_id)
    recorded = NewContent(content.content_id, content.size, content.hole_size, content.trees, first.hashes)
    members = catalog.read(partial(members_of, image_id=image_id))
    put_record(to, session_id, image, recorded, catalog.packs(frozenset(pack_nos)), members)
    return image.revision


def _give_up(to: Wiring, session_id: SessionId, image_id: ImageId) -> None:
    """End a copy that failed; what fails here is only logged, and left for a collection."""
    try:
        if to.reserve.spend(lambda: to.catalog.transaction(partial(close_session, session_id=session_id))):
            # It was not committed and never will be, so its record says what is not so.
            to.backend.delete(record_key(image_id, session_id))
    except CasimgError as error:
        _log.warning("copy.not_given_up image=%s session=%s why=%s", image_id, session_id, error)
