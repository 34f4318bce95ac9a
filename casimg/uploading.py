"""Data for an image that is there already: queued before, active after, and queued again when anything fails.

The way of the data is that of a put (`casimg.saving`); what differs is the beginning, one counted update that claims
the image, and the end of a failure, one that gives it back. md5 and sha512 are computed in the same pass
(`casimg.passing`).
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from casimg.assemble import ContentReader
from casimg.catalog import ImageRow
from casimg.catalog.members import members_of
from casimg.catalog.uploads import (
    ClaimedStatus,
    adopt_staged,
    beat_upload,
    check_queued,
    claim_queued,
    claim_staged,
    put_back_staged,
    release,
)
from casimg.errors import CasimgError, ImageDeletedError, ImageNotFoundError, TryAgainError
from casimg.ids import ImageId, SessionId, new_content_id
from casimg.pack.keys import record_key
from casimg.passing import Passing, PassingSource
from casimg.progress import check_cancel
from casimg.records import put_record, try_flush
from casimg.saving import Save, SaveOptions
from casimg.source import SourceLike
from casimg.speculating import Speculation
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.uploading")
_HEARTBEAT_EVERY_S: Final = 60.0


def upload(
    wiring: Wiring,
    image_id: ImageId,
    source: SourceLike,
    options: SaveOptions,
    *,
    size: int | None = None,
    parent_id: ImageId | None = None,
    inspect: Callable[[], int | None] | None = None,
    status: ClaimedStatus = "saving",
) -> ImageRow:
    """Give a queued image its data; whatever fails, it is queued again and nothing is kept.

    Args:
        size: bytes that must come; None when nobody knows.
        parent_id: what the image was made from.
        inspect: asked after the last byte and before the commit for the virtual size; what it raises cancels.
        status: what the image shows while data come; `uploading` keeps them aside for `import_staged`.
    Raises: ImageNotFoundError, NotQueuedError, ImageDeletedError when it was deleted meanwhile, SizeMismatchError,
        SourceError, CancelledError, NoSpaceError, TryAgainError, and what the source or `inspect` raise.
    """
    catalog = wiring.catalog
    chunker = wiring.chunker()
    is_staged = status == "uploading"
    catalog.read(partial(check_queued, image_id=image_id))
    session = catalog.open_session("ingest")
    session_id = session.session_id
    is_claimed = False
    try:
        content_id = new_content_id()
        catalog.transaction(
            partial(
                claim_queued,
                session_id=session_id,
                image_id=image_id,
                content_id=content_id,
                parent_id=parent_id,
                status=status,
                backend_id=wiring.backend_id,
            )
        )
        is_claimed = True
        beat = partial(beat_upload, session_id=session_id, image_id=image_id)
        heartbeat = partial(catalog.transaction, beat)
        pulse = _Pulse(heartbeat, options.cancel)
        with (
            contextlib.closing(Passing(pulse)) as passing,
            contextlib.closing(PassingSource(source, passing, size, pulse)) as passed,
            Save(
                wiring, session, chunker, options, size, heartbeat=heartbeat, shared=wiring.shared, watch=passing
            ) as save,
        ):
            speculation = Speculation(wiring, size, content_id, save.noted_packs)
            if speculation.is_worth():
                passing.speculate(speculation)
            row, recorded = save.run_upload(passed, image_id, content_id, passing.digests, inspect, is_staged=is_staged)
    except BaseException as error:
        _give_back(wiring, session_id, image_id, release)
        if isinstance(error, ImageNotFoundError) and error.ref == image_id and is_claimed:
            raise ImageDeletedError(image_id, "image {} was deleted while its data came") from error
        raise
    if row.revision != recorded and not is_staged:
        try_flush(wiring, image_id)  # it was edited after its record was put
    return row


class _Pulse:
    """Says now and then that a session lives, whenever it is called. Threads: any; two at once may both say it.

    Raises: CancelledError when that is asked for.
    """

    def __init__(self, heartbeat: Callable[[], object], cancel: threading.Event | None = None) -> None:
        self._heartbeat = heartbeat
        self._cancel = cancel
        self._beat_at_s = time.monotonic()

    def __call__(self) -> None:
        check_cancel(self._cancel, "the upload")
        if time.monotonic() - self._beat_at_s >= _HEARTBEAT_EVERY_S:
            self._beat_at_s = time.monotonic()
            self._heartbeat()


def import_staged(
    wiring: Wiring, image_id: ImageId, inspect: Callable[[ContentReader], int | None] | None = None
) -> ImageRow:
    """Make what was staged the image's data: one row, whatever the size; whatever fails, it stays staged.

    Args:
        inspect: given the data, returns the virtual size; what it raises cancels.
    Raises: ImageNotFoundError, ImageDeletedError when it was deleted meanwhile, BadStatusError when nothing is staged,
        NoSpaceError, TryAgainError.
    """
    catalog = wiring.catalog
    session_id = catalog.open_session("snapshot").session_id
    is_claimed = False
    try:
        content_id = catalog.transaction(partial(claim_staged, session_id=session_id, image_id=image_id))
        is_claimed = True
        if inspect is None:
            virtual_size = None
        else:
            beat = partial(beat_upload, session_id=session_id, image_id=image_id)
            pulse = _Pulse(partial(catalog.transaction, beat))
            virtual_size = inspect(wiring.reader(content_id, on_read=pulse))
        content = catalog.content(content_id)
        new = catalog.image(image_id)
        new = replace(new, virtual_size=new.virtual_size if virtual_size is None else virtual_size)
        members = catalog.read(partial(members_of, image_id=image_id))
        put_record(wiring, session_id, new, content, catalog.content_packs(content_id), members)
        work = partial(
            adopt_staged,
            session_id=session_id,
            image_id=image_id,
            content_id=content_id,
            virtual_size=new.virtual_size,
            recorded_revision=new.revision,
        )
        try:
            catalog.transaction(work)
        except TryAgainError:
            if not catalog.is_committed(session_id, image_id):
                raise
    except BaseException as error:
        _give_back(wiring, session_id, image_id, put_back_staged)
        if isinstance(error, ImageNotFoundError) and error.ref == image_id and is_claimed:
            raise ImageDeletedError(image_id, "image {} was deleted while it was imported") from error
        raise
    row = catalog.image(image_id)
    if row.revision != new.revision:
        try_flush(wiring, image_id)
    return row


def _give_back(wiring: Wiring, session_id: SessionId, image_id: ImageId, end: Callable[..., bool]) -> None:
    """End a failed upload or import; what fails here is only logged, and left for a collection."""
    catalog = wiring.catalog
    work = partial(end, session_id=session_id, image_id=image_id)
    try:
        if wiring.reserve.spend(lambda: catalog.transaction(work)):
            # It was not committed and never will be, so its record says what is not so.
            wiring.backend.delete(record_key(image_id, session_id))
            _log.info("upload.given_back image=%s session=%s", image_id, session_id)
    except CasimgError as error:
        _log.warning("upload.not_given_back image=%s session=%s why=%s", image_id, session_id, error)
        wiring.end_session(session_id)
