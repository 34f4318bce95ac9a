"""Data for an image that is there already: queued before, active after, and queued again when anything fails.

The way of the data is that of a put (`casimg.saving`); what differs is the beginning, one counted update that claims
the image, and the end of a failure, one that gives it back. md5 and sha512 are computed in the same pass.
"""

import contextlib
import logging
from collections.abc import Callable
from functools import partial

from casimg.catalog import ImageRow
from casimg.catalog.uploads import beat_upload, check_queued, claim_queued, release
from casimg.errors import CasimgError, ImageDeletedError, ImageNotFoundError
from casimg.hashing import PassHashes
from casimg.ids import ImageId, SessionId, new_content_id
from casimg.pack.keys import record_key
from casimg.records import try_flush
from casimg.saving import Save, SaveOptions
from casimg.source import SourceLike, open_source
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.uploading")


def upload(
    wiring: Wiring,
    image_id: ImageId,
    source: SourceLike,
    options: SaveOptions,
    *,
    size: int | None = None,
    parent_id: ImageId | None = None,
    inspect: Callable[[], int | None] | None = None,
) -> ImageRow:
    """Give a queued image its data; whatever fails, it is queued again and nothing is kept.

    Args:
        size: bytes that must come; None when nobody knows.
        parent_id: what the image was made from.
        inspect: asked after the last byte and before the commit for the virtual size; what it raises cancels.
    Raises: ImageNotFoundError, NotQueuedError, ImageDeletedError when it was deleted meanwhile, SizeMismatchError,
        SourceError, CancelledError, NoSpaceError, TryAgainError, and what the source or `inspect` raise.
    """
    catalog = wiring.catalog
    chunker = wiring.chunker()
    catalog.read(partial(check_queued, image_id=image_id))
    session = catalog.open_session("ingest")
    session_id = session.session_id
    hashes = None
    try:
        content_id = new_content_id()
        catalog.transaction(
            partial(
                claim_queued,
                session_id=session_id,
                image_id=image_id,
                content_id=content_id,
                parent_id=parent_id,
            )
        )
        beat = partial(beat_upload, session_id=session_id, image_id=image_id)
        hashes = PassHashes(size=size)
        with (
            contextlib.closing(hashes.passing(source)) as parts,
            Save(wiring, session, chunker, options, size, heartbeat=lambda: catalog.transaction(beat)) as save,
        ):
            row, recorded = save.run_upload(open_source(parts), image_id, content_id, hashes.digests, inspect)
    except BaseException as error:
        _give_back(wiring, session_id, image_id)
        if isinstance(error, ImageNotFoundError) and error.ref == image_id and hashes is not None:
            raise ImageDeletedError(image_id, "image {} was deleted while its data came") from error
        raise
    finally:
        if hashes is not None:
            hashes.close()
    if row.revision != recorded:
        try_flush(wiring, image_id)  # it was edited after its record was put
    return row


def _give_back(wiring: Wiring, session_id: SessionId, image_id: ImageId) -> None:
    """End a failed upload; what fails here is only logged, and left for a collection."""
    catalog = wiring.catalog
    work = partial(release, session_id=session_id, image_id=image_id)
    try:
        if wiring.reserve.spend(lambda: catalog.transaction(work)):
            # It was not committed and never will be, so its record says what is not so.
            wiring.backend.delete(record_key(image_id, session_id))
            _log.info("upload.given_back image=%s session=%s", image_id, session_id)
    except CasimgError as error:
        _log.warning("upload.not_given_back image=%s session=%s why=%s", image_id, session_id, error)
        wiring.end_session(session_id)
