"""Data for an image that is there already: queued before, active after, and queued again when anything fails.

The way of the data is that of a put (`casimg.saving`); what differs is the beginning, one counted update that claims
the image, and the end of a failure, one that gives it back. md5 and sha512 are computed in the same pass
(`casimg.passing`).
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from casimg import copying
from casimg.assemble import ContentReader
from casimg.catalog import ContentRow, ImageRow, NewContent, SessionRow
from casimg.catalog.members import members_of
from casimg.catalog.uploads import (
    ClaimedStatus,
    Place,
    adopt_staged,
    beat_upload,
    begin_place,
    check_queued,
    claim_queued,
    claim_staged,
    put_back_staged,
    release,
)
from casimg.errors import (
    CancelledError,
    CasimgError,
    CatalogDamagedError,
    ImageDeletedError,
    ImageNotFoundError,
    SessionFencedError,
    TryAgainError,
)
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
    wiring: Wiring,
    image_id: ImageId,
    inspect: Callable[[ContentReader], int | None] | None = None,
    *,
    targets: Sequence[Wiring] = (),
    must_all: bool = True,
    on_store: Callable[[str, CasimgError | None], None] = lambda _store, _error: None,
    options: SaveOptions | None = None,
) -> ImageRow:
    """Make what was staged the image's data, in one commit for all backends; whatever fails, it stays staged.

    Cost: one row where it was staged, whatever the size; a copy for each other backend.

    Args:
        inspect: given the data, returns the virtual size; what it raises cancels.
        targets: where they shall lie, first what is read first; none: where they were staged.
        must_all: whether it fails when one of these does; else only when all do.
        on_store: told of each when it has the data, or why it has not.
    Raises: ImageNotFoundError, ImageDeletedError when it was deleted meanwhile, BadStatusError when nothing is staged,
        NoSpaceError, TryAgainError.
    """
    catalog = wiring.catalog
    session = catalog.open_session("ingest" if targets else "snapshot")
    session_id = session.session_id
    is_claimed = False
    places: list[tuple[Wiring, Place]] = []
    try:
        content_id = catalog.transaction(partial(claim_staged, session_id=session_id, image_id=image_id))
        is_claimed = True
        beat = partial(catalog.transaction, partial(beat_upload, session_id=session_id, image_id=image_id))
        virtual_size = None if inspect is None else inspect(wiring.reader(content_id, on_read=_Pulse(beat)))
        content = catalog.content(content_id)
        spreading = _Spreading(wiring, session, content, options or SaveOptions(), beat)
        places += spreading.spread(targets or [wiring.peer(content.backend_id)], must_all, on_store)
        new = catalog.image(image_id)
        new = replace(new, virtual_size=new.virtual_size if virtual_size is None else virtual_size)
        members = catalog.read(partial(members_of, image_id=image_id))
        for target, place in places:
            is_staged = place.content.content_id == content_id
            packs = catalog.content_packs(content_id) if is_staged else catalog.packs(place.pack_nos)
            put_record(target, session_id, new, place.content, packs, members)
        work = partial(
            adopt_staged,
            session_id=session_id,
            image_id=image_id,
            content_id=content_id,
            virtual_size=new.virtual_size,
            recorded_revision=new.revision,
            places=[place for _, place in places],
        )
        try:
            catalog.transaction(work)
        except TryAgainError:
            if not catalog.is_committed(session_id, image_id):
                raise
    except BaseException as error:
        _give_back(wiring, session_id, image_id, put_back_staged, [target for target, _ in places])
        if isinstance(error, ImageNotFoundError) and error.ref == image_id and is_claimed:
            raise ImageDeletedError(image_id, "image {} was deleted while it was imported") from error
        raise
    row = catalog.image(image_id)
    if row.revision != new.revision:
        try_flush(wiring, image_id)
    return row


class _Spreading:
    """Brings what was staged to backends, in one session; `casimg.catalog.uploads.adopt_staged` commits them all."""

    def __init__(
        self,
        wiring: Wiring,
        session: SessionRow,
        staged: ContentRow,
        options: SaveOptions,
        beat: Callable[[], None],
    ) -> None:
        self._wiring = wiring
        self._session = session
        self._options = options
        self._beat = beat
        self._staged = staged
        size = staged.size or 0
        self._content = NewContent(staged.content_id, size, staged.hole_size, staged.trees, staged.hashes)

    def spread(
        self,
        targets: Sequence[Wiring],
        must_all: bool,
        on_store: Callable[[str, CasimgError | None], None],
    ) -> list[tuple[Wiring, Place]]:
        """Return where the data are now. Raises: what went wrong with one that must succeed, or with all."""
        found: list[tuple[Wiring, Place]] = []
        failure: CasimgError | None = None
        for target in targets:
            try:
                found.append((target, self._bring(target)))
            except (CancelledError, ImageNotFoundError, SessionFencedError):
                raise
            except CasimgError as error:
                on_store(target.backend.name, error)
                failure = failure or error
                if must_all:
                    raise
                _log.warning("import.not_brought backend=%s why=%s", target.backend.name, error)
            else:
                on_store(target.backend.name, None)
        if failure is not None and not found:
            raise failure
        return found

    def _bring(self, target: Wiring) -> Place:
        staged_at = self._wiring.peer(self._staged.backend_id)
        if target is staged_at:
            return Place(target.backend_id, self._content)
        copying.check_reachable(target)
        content_id = new_content_id()
        self._wiring.catalog.transaction(
            partial(
                begin_place, session_id=self._session.session_id, content_id=content_id, backend_id=target.backend_id
            )
        )
        reader = staged_at.reader(self._staged.content_id, on_read=_Pulse(self._beat))
        content, pack_nos = copying.copy_content(target, self._session, reader, content_id, self._options, self._beat)
        if set(content.trees) != set(self._staged.trees):
            raise CatalogDamagedError(
                f"content {content_id}", "it is not the copy of what was staged that it should be"
            )
        return Place(target.backend_id, replace(content, hashes=self._staged.hashes), pack_nos)


def _give_back(
    wiring: Wiring, session_id: SessionId, image_id: ImageId, end: Callable[..., bool], targets: Sequence[Wiring] = ()
) -> None:
    """End a failed upload or import; what fails here is only logged, and left for a collection."""
    catalog = wiring.catalog
    work = partial(end, session_id=session_id, image_id=image_id)
    try:
        if wiring.reserve.spend(lambda: catalog.transaction(work)):
            # It was not committed and never will be, so its record says what is not so.
            for target in targets or [wiring]:
                target.backend.delete(record_key(image_id, session_id))
            _log.info("upload.given_back image=%s session=%s", image_id, session_id)
    except CasimgError as error:
        _log.warning("upload.not_given_back image=%s session=%s why=%s", image_id, session_id, error)
        wiring.end_session(session_id)
