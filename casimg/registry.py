"""Images as Glance knows them: queued before they have data, edited, hidden, shared, listed by who may see them.

They are the repository's images: what a put has stored is listed here, and what is made here is among the repository's
images as soon as it has data. Images are named by id alone: names need not be unique, or there at all.

Threads: any number may use one Registry at once.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from casimg import copying, saving, updating, uploading
from casimg.assemble import ContentReader
from casimg.catalog import STORED_STATUSES, ImageRow, MemberRow, NewImage, UsageRow, edits, listing, locks
from casimg.catalog import contents as content_rows
from casimg.catalog import members as member_rows
from casimg.catalog import uploads as upload_rows
from casimg.catalog.edits import UNSET, Edit, Unset
from casimg.catalog.query import Filter, Query, Viewer, is_text
from casimg.catalog.schema import MEMBER_STATUSES
from casimg.entry import ID_COUNT_MAX, TEXT_COUNT_MAX, Inspected, NewEntry, check_edit, check_entry, check_text
from casimg.errors import (
    BadStatusError,
    CasimgError,
    ImageNotFoundError,
    InputError,
)
from casimg.hashing import ALGORITHMS, PassHashes
from casimg.ids import ImageId, new_image_id
from casimg.progress import ProgressCallback
from casimg.records import try_flush
from casimg.results.stores import StoreInfo
from casimg.saving import SaveOptions
from casimg.source import SourceLike
from casimg.wiring import Wiring

if TYPE_CHECKING:
    from casimg.figures import Figures
    from casimg.image_file import ImageFile
    from casimg.kept import KeptSegments
    from casimg.locations import Locations
    from casimg.streaming import ContentStream

Rows = list[ImageRow]
Members = list[MemberRow]  # the method `list` hides the type inside the class


class Registry:
    """The images of an open repository; `Repository.registry()` gives one.

    Every method raises CatalogBusyError, NoSpaceError and CatalogDamagedError for what the database refuses, and
    InputError for what it cannot keep.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def stores(self) -> tuple[StoreInfo, ...]:
        """Return the backends, the default one first."""
        home = self._wiring.home
        return tuple(StoreInfo(peer.backend.name, "local", peer is home) for peer in home.peers)

    def copy(
        self,
        image_id: ImageId,
        store: str,
        *,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> ImageRow:
        """Copy an image to another backend; its row then names both.

        Raises: StoreNotFoundError, CopyExistsError, ImageNotFoundError, ImageDeletedError when it was deleted
            meanwhile, CancelledError, NoSpaceError, DamageError, BackendUnavailableError, TryAgainError.
        """
        self._check_id(image_id)
        return copying.copy_image(self._wiring.named(store), image_id, self._save_options(progress, cancel))

    def remove_copy(self, image_id: ImageId, store: str) -> ImageRow:
        """Remove an image from one of its backends; what nothing else needs there a collection frees.

        Raises: StoreNotFoundError, ImageNotFoundError, CopyNotFoundError, LastCopyError.
        """
        self._check_id(image_id)
        return copying.leave(self._wiring.named(store), image_id)

    def create(self, new: NewEntry) -> ImageRow:
        """Enter an image that has no data yet: queued. Raises: ImageExistsError when its id was ever used."""
        self._wiring.check_open()
        check_entry(new)
        row = _new_image(new)
        self._write(partial(edits.register, new=row))
        return self._wiring.catalog.image(row.id)

    def snapshot(self, parent: ImageRow, new: NewEntry) -> ImageRow:
        """Make an image of the data of an active one, which costs one row whatever the size.

        Args:
            parent: as `show` gave it.
            new: what the image shall be said to be; its id, formats and parent are not asked for.
        Raises: ImageNotFoundError when the parent is not active or was deleted meanwhile.
        """
        self._wiring.check_open()
        new = replace(
            new,
            id=None,
            disk_format=parent.disk_format,
            container_format=parent.container_format,
            parent_id=parent.id,
        )
        check_entry(new)
        made = replace(_new_image(new), virtual_size=parent.virtual_size)
        _, row = self._wiring.reserve.spend(
            lambda: saving.share(
                self._wiring, parent, lambda opened_at: replace(made, created_at=opened_at), unique_name=False
            )
        )
        return row

    def figures(self) -> "Figures":
        """Return who can tell what images share and what they cost."""
        from casimg.figures import Figures  # noqa: PLC0415  # an administrator asks now and then

        return Figures(self._wiring)

    def locations(self) -> "Locations":
        """Return who is told of images whose data lie elsewhere."""
        from casimg.locations import Locations  # noqa: PLC0415  # most sites have none

        return Locations(self._wiring)

    def show(self, image_id: ImageId, viewer: Viewer) -> ImageRow:
        """Return an image. Raises: ImageNotFoundError when it is gone, or not for the viewer's eyes."""
        self._wiring.check_open()
        return self._wiring.catalog.read(partial(listing.show, image_id=image_id, viewer=viewer))

    def list(self, query: Query, viewer: Viewer) -> Rows:
        """Return one page of images. Raises: MarkerNotFoundError, InputError.

        Cost: one query for the rows and one each for properties, tags and hashes, per 500 images; no page costs more
        than another.
        """
        self._wiring.check_open()
        return self._wiring.catalog.read(partial(listing.list_page, query=query, viewer=viewer))

    def edit(self, image_id: ImageId, edit: Edit, *, revision: int) -> ImageRow:
        """Make an image what the edit says, all or nothing; its record follows.

        Args:
            revision: of the row that the edit was decided on.
        Raises: ImageNotFoundError, ChangedMeanwhileError, BadStatusError for other formats than its data have.
        """
        self._check_id(image_id)
        check_edit(edit)
        self._write(partial(edits.edit_image, image_id=image_id, edit=edit, revision=revision))
        return self._followed(image_id)

    def delete(self, image_id: ImageId) -> None:
        """Delete an image, also while its data come. Raises: ImageNotFoundError, ProtectedImageError."""
        self._check_id(image_id)
        updating.delete(self._wiring, image_id)

    def upload(
        self,
        image_id: ImageId,
        source: SourceLike,
        *,
        size: int | None = None,
        parent_id: ImageId | None = None,
        inspect: Callable[[], Inspected] | None = None,
        is_import: bool = False,
        store: str | None = None,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> ImageRow:
        """Give a queued image its data: it is active then, with md5 and sha512; else it is queued again.

        Args:
            source: a path, a binary file, or an iterator of bytes; what an iterator raises cancels the upload.
            size: bytes that must come; None when nobody knows.
            parent_id: what the image was made from, if somebody knows.
            inspect: asked after the last byte and before the commit; what it raises cancels the upload.
            is_import: whether the image shows `importing` meanwhile, not `saving`.
            store: the backend where they shall lie; None is the default one.
            progress, cancel: as `Repository.put`.
        Raises: StoreNotFoundError, NotQueuedError, ImageNotFoundError, ImageDeletedError when it was deleted meanwhile,
            SizeMismatchError, SourceError, CancelledError, NoSpaceError, TryAgainError.
        """
        self._check_id(image_id)
        wiring = self._wiring if store is None else self._wiring.named(store)
        if parent_id is not None:
            check_text("parent", parent_id, ID_COUNT_MAX)
        return uploading.upload(
            wiring,
            image_id,
            source,
            self._save_options(progress, cancel),
            size=size,
            parent_id=parent_id,
            inspect=None if inspect is None else lambda: inspect().virtual_size,
            status="importing" if is_import else "saving",
        )

    def stage(
        self,
        image_id: ImageId,
        source: SourceLike,
        *,
        size: int | None = None,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> ImageRow:
        """Keep data for a queued image aside: it is `uploading` from then on; `import_staged` makes them its own.

        Staged data are stored as all others, known chunks once; after `recover` they are gone, and so is the image.

        Raises: as upload.
        """
        self._check_id(image_id)
        options = self._save_options(progress, cancel)
        return uploading.upload(self._wiring, image_id, source, options, size=size, status="uploading")

    def import_staged(
        self,
        image_id: ImageId,
        *,
        inspect: "Callable[[ImageFile], Inspected] | None" = None,
        stores: Sequence[str] = (),
        must_all: bool = True,
        on_store: Callable[[str, CasimgError | None], None] | None = None,
    ) -> ImageRow:
        """Make what was staged the image's data, which costs one row whatever the size; else it stays staged.

        Args:
            inspect: given the data before, while the image is `importing`; what it raises cancels.
            stores: backends where they shall lie, the one that is read first at the front; none is the default one.
            must_all: whether it fails when one of them does; else only when all do.
            on_store: told of each when it has them, or why it has not.
        Raises: StoreNotFoundError, ImageNotFoundError, ImageDeletedError when it was deleted meanwhile, BadStatusError
            when nothing is staged, NoSpaceError, TryAgainError.
        """
        from casimg.image_file import ImageFile  # noqa: PLC0415

        self._check_id(image_id)
        targets = [self._wiring.named(store) for store in dict.fromkeys(stores)]

        def look(reader: ContentReader) -> int | None:
            with ImageFile(reader, self._wiring.check_open, lambda: None) as file:
                return None if inspect is None else inspect(file).virtual_size

        return uploading.import_staged(
            self._wiring,
            image_id,
            None if inspect is None else look,
            targets=targets or [self._wiring.home],
            must_all=must_all,
            on_store=on_store or (lambda _store, _error: None),
            options=self._save_options(None, None),
        )

    def unstage(self, image_id: ImageId) -> None:
        """Give up what was staged: the image is queued again. Raises: ImageNotFoundError, BadStatusError."""
        self._check_id(image_id)
        self._write(partial(upload_rows.unstage, image_id=image_id))

    def lock(self, image_id: ImageId, name: str, value: str, *, status: str, beside: Mapping[str, str]) -> None:
        """Give an image a property that it does not have yet, so that nobody else does; one update.

        Args:
            status: what the image must be.
            beside: properties that it shall have too, whatever they were.
        Raises: ImageNotFoundError, BadStatusError, ImageLockedError when it has the property.
        """
        self._change(
            image_id,
            partial(locks.lock, image_id=image_id, name=name, value=value, status=status, beside=beside),
        )

    def unlock(self, image_id: ImageId, name: str, value: str, *, beside: Mapping[str, str]) -> None:
        """Take a property away that has this value, and set others. Raises: ImageNotFoundError, NotLockedError."""
        self._change(image_id, partial(locks.unlock, image_id=image_id, name=name, value=value, beside=beside))

    def end_dead_uploads(self) -> int:
        """Make images queued again whose uploads died with their process; returns how many saves were ended.

        Those whose import died have their data staged as before.

        A collection does it too. Of other hosts a process is taken for dead when it was silent for 15 minutes.
        """
        self._wiring.check_open()
        self._wiring.reserve.spend(self._wiring.catalog.fence_stale)
        return self._wiring.reserve.spend(self._wiring.catalog.end_dead_saves)

    def compute_hashes(self, image_id: ImageId) -> ImageRow:
        """Read an image's data and keep their md5 and sha512, unless they are known; uploads have them at once.

        Raises: ImageNotFoundError, BadStatusError when it has no data, DamageError.
        """
        row = self.show(image_id, Viewer(None, is_admin=True))
        if set(ALGORITHMS) <= set(row.hashes) or row.content_id is None:
            return row
        hashes = PassHashes()
        try:
            with self.open_image(image_id) as file:
                for _ in hashes.passing(file):
                    pass
            digests = hashes.digests()
        finally:
            hashes.close()
        work = partial(content_rows.add_hashes, content_id=row.content_id, hashes=digests)
        image_ids = self._wiring.reserve.spend(lambda: self._wiring.catalog.transaction(work))
        for found in image_ids:
            try_flush(self._wiring, found)
        return self.show(image_id, Viewer(None, is_admin=True))

    def open_image(self, image_id: ImageId) -> "ImageFile":
        """Open an image's data for reading, as a seekable raw binary file, also of a deactivated one.

        Raises: ImageNotFoundError, BadStatusError when it has no data, DamageError.
        """
        from casimg.image_file import ImageFile  # noqa: PLC0415  # the read path is not needed to list
        from casimg.leasing import open_leased  # noqa: PLC0415

        row = self.show(image_id, Viewer(None, is_admin=True))
        if row.status not in STORED_STATUSES:
            raise BadStatusError(image_id, row.status, "it has no data")
        reader, lease = open_leased(self._wiring, row)
        return ImageFile(reader, self._wiring.check_open, lease.end)

    def stream(
        self,
        image: ImageRow,
        start: int = 0,
        end: int | None = None,
        *,
        stores: Sequence[str] = (),
    ) -> "ContentStream":
        """Open bytes [start, end) of an image as parts that are read ahead, also of a deactivated one.

        Whoever has the stream closes it: until then what it reads is not collected, even when the image is deleted.

        Args:
            image: as `show` gave it.
            end: exclusive; None for all that follows.
            stores: backends in the order in which they shall be tried; others come after them.
        Raises: ImageNotFoundError when it has no data or was deleted meanwhile, DamageError.
        """
        from casimg.streaming import open_stream  # noqa: PLC0415

        self._wiring.check_open()
        return open_stream(self._wiring, image, start, end, threads=self._wiring.site.threads, stores=stores)

    @property
    def kept(self) -> "KeptSegments":
        """Segments that are kept in memory."""
        return self._wiring.shared.kept

    def keep(self, size_max: int) -> None:
        """Let streams keep at most so many bytes of what they have verified in memory; for processes that serve."""
        self._wiring.shared.kept.resize(size_max)

    def deactivate(self, image_id: ImageId) -> None:
        """Let an image be downloaded no more; again is harmless. Raises: ImageNotFoundError, BadStatusError."""
        self._set_active(image_id, is_active=False)

    def reactivate(self, image_id: ImageId) -> None:
        """Let an image be downloaded again; again is harmless. Raises: ImageNotFoundError, BadStatusError."""
        self._set_active(image_id, is_active=True)

    def add_tag(self, image_id: ImageId, tag: str) -> None:
        """Tag an image; again is harmless. Raises: ImageNotFoundError."""
        check_text("tag", tag, TEXT_COUNT_MAX)
        self._change(image_id, partial(edits.add_tag, image_id=image_id, tag=tag))

    def remove_tag(self, image_id: ImageId, tag: str) -> None:
        """Take a tag away. Raises: ImageNotFoundError, TagNotFoundError."""
        check_text("tag", tag, TEXT_COUNT_MAX)
        self._change(image_id, partial(edits.remove_tag, image_id=image_id, tag=tag))

    def add_member(self, image_id: ImageId, member: str) -> MemberRow:
        """Share an image; the answer is pending. Raises: ImageNotFoundError, MemberExistsError."""
        check_text("member", member, TEXT_COUNT_MAX, least=1)
        self._change(image_id, _shared(image_id, partial(member_rows.add_member, image_id=image_id, name=member)))
        return self.member(image_id, member)

    def members(self, image_id: ImageId) -> Members:
        """Return the projects an image is shared with, oldest first; none for an image that is not there."""
        self._wiring.check_open()
        if not is_text(image_id):
            return []
        return self._wiring.catalog.read(partial(member_rows.members_of, image_id=image_id))

    def member(self, image_id: ImageId, member: str) -> MemberRow:
        """Return one member. Raises: MemberNotFoundError."""
        self._check_id(image_id)
        check_text("member", member, TEXT_COUNT_MAX)
        return self._wiring.catalog.read(partial(member_rows.member, image_id=image_id, name=member))

    def set_member_status(self, image_id: ImageId, member: str, status: str) -> MemberRow:
        """Keep a member's answer. Raises: ImageNotFoundError, MemberNotFoundError."""
        check_text("member", member, TEXT_COUNT_MAX)
        if status not in MEMBER_STATUSES:
            raise InputError(f"the member status {status!r} is none of {', '.join(MEMBER_STATUSES)}")
        work = partial(member_rows.set_member_status, image_id=image_id, name=member, status=status)
        self._change(image_id, _shared(image_id, work))
        return self.member(image_id, member)

    def remove_member(self, image_id: ImageId, member: str) -> None:
        """Share an image no more with a member. Raises: ImageNotFoundError, MemberNotFoundError."""
        check_text("member", member, TEXT_COUNT_MAX)
        self._change(image_id, _shared(image_id, partial(member_rows.remove_member, image_id=image_id, name=member)))

    def usage(self, owner: str) -> UsageRow:
        """Return how many images a project has, and their plain bytes, for quotas; a moment later it may have more."""
        self._wiring.check_open()
        check_text("owner", owner, TEXT_COUNT_MAX)
        return self._wiring.catalog.read(partial(edits.usage_of, owner=owner))

    # Inner

    def _save_options(self, progress: ProgressCallback | None, cancel: threading.Event | None) -> SaveOptions:
        site = self._wiring.site
        return SaveOptions(threads=site.threads, level=site.level, progress=progress, cancel=cancel)

    def _check_id(self, image_id: ImageId) -> None:
        self._wiring.check_open()
        if not is_text(image_id):
            raise ImageNotFoundError(repr(image_id))

    def _write(self, work: Callable[[Connection], object]) -> None:
        self._wiring.reserve.spend(lambda: self._wiring.catalog.transaction(work))

    def _change(self, image_id: ImageId, work: Callable[[Connection], object]) -> None:
        self._check_id(image_id)
        self._write(work)
        self._followed(image_id)

    def _followed(self, image_id: ImageId) -> ImageRow:
        """Let the record of a stored image follow; one without data has none."""
        row = self._wiring.catalog.image(image_id)
        if row.status in STORED_STATUSES:
            try_flush(self._wiring, image_id)
        return row

    def _set_active(self, image_id: ImageId, *, is_active: bool) -> None:
        self._change(image_id, partial(edits.set_active, image_id=image_id, is_active=is_active))


def _new_image(new: NewEntry) -> NewImage:
    return NewImage(
        id=new_image_id() if new.id is None else new.id,
        name=new.name,
        disk_format=new.disk_format,
        container_format=new.container_format,
        owner=new.owner,
        visibility=new.visibility,
        protected=new.protected,
        parent_id=new.parent_id,
        properties=dict(new.properties),
        hidden=new.hidden,
        min_disk=new.min_disk,
        min_ram=new.min_ram,
        tags=new.tags,
    )


def _shared(image_id: ImageId, work: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """Return a change of members, under the lock of their image."""

    def run(connection: Connection) -> None:
        edits.hold(connection, image_id, is_update=False)
        work(connection)

    return run


__all__ = [
    "UNSET",
    "Edit",
    "Filter",
    "ImageRow",
    "Inspected",
    "MemberRow",
    "NewEntry",
    "Query",
    "Registry",
    "StoreInfo",
    "Unset",
    "UsageRow",
    "Viewer",
]
