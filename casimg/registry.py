"""Images as Glance knows them: queued before they have data, edited, hidden, shared, listed by who may see them.

They are the repository's images: what a put has stored is listed here, and what is made here is among the repository's
images as soon as it has data. Images are named by id alone: names need not be unique, or there at all.

Threads: any number may use one Registry at once.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection

from casimg import updating, uploading
from casimg.catalog import STORED_STATUSES, ImageRow, MemberRow, NewImage, UsageRow, edits, listing
from casimg.catalog import members as member_rows
from casimg.catalog.edits import UNSET, Edit, Unset
from casimg.catalog.query import Filter, Query, Viewer, is_text
from casimg.catalog.schema import MEMBER_STATUSES
from casimg.choices import VISIBILITIES
from casimg.errors import BadStatusError, ImageNotFoundError, InputError
from casimg.ids import ImageId, new_image_id
from casimg.progress import ProgressCallback
from casimg.records import try_flush
from casimg.saving import SaveOptions
from casimg.source import SourceLike
from casimg.wiring import Wiring

if TYPE_CHECKING:
    from casimg.image_file import ImageFile
    from casimg.streaming import ContentStream

Rows = list[ImageRow]
Members = list[MemberRow]  # the method `list` hides the type inside the class

_TEXT_COUNT_MAX: Final = 255
_FORMAT_COUNT_MAX: Final = 20
_ID_COUNT_MAX: Final = 36
_VALUE_SIZE_MAX: Final = 65_535  # what MariaDB keeps in a TEXT
_NUMBER_MAX: Final = 2**31 - 1  # Glance's, which is an INTEGER of SQL


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What an image is said to be before it has data; None as its id gives it one."""

    id: ImageId | None = None
    name: str | None = None
    disk_format: str | None = None
    container_format: str | None = None
    owner: str | None = None
    visibility: str = "shared"
    protected: bool = False
    hidden: bool = False
    min_disk: int = 0
    min_ram: int = 0
    tags: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    parent_id: ImageId | None = None


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a look into the data has found: the size of the disk in bytes, None when that is not known."""

    virtual_size: int | None


class Registry:
    """The images of an open repository; `Repository.registry()` gives one.

    Every method raises CatalogBusyError, NoSpaceError and CatalogDamagedError for what the database refuses, and
    InputError for what it cannot keep.
    """

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def create(self, new: NewEntry) -> ImageRow:
        """Enter an image that has no data yet: queued. Raises: ImageExistsError when its id was ever used."""
        self._wiring.check_open()
        image_id = new_image_id() if new.id is None else new.id
        _check_text("id", image_id, _ID_COUNT_MAX, least=1)
        _check_fields({name: getattr(new, name) for name in _CHECKS} | {"properties": new.properties, "tags": new.tags})
        if new.parent_id is not None:
            _check_text("parent", new.parent_id, _ID_COUNT_MAX)
        row = NewImage(
            id=image_id,
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
        self._write(partial(edits.register, new=row))
        return self._wiring.catalog.image(image_id)

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
        _check_fields({name: value for name in _FIELDS if (value := getattr(edit, name)) is not UNSET})
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
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> ImageRow:
        """Give a queued image its data: it is active then, with md5 and sha512; else it is queued again.

        Args:
            source: a path, a binary file, or an iterator of bytes; what an iterator raises cancels the upload.
            size: bytes that must come; None when nobody knows.
            parent_id: what the image was made from, if somebody knows.
            inspect: asked after the last byte and before the commit; what it raises cancels the upload.
            progress, cancel: as `Repository.put`.
        Raises: NotQueuedError, ImageNotFoundError, ImageDeletedError when it was deleted meanwhile,
            SizeMismatchError, SourceError, CancelledError, NoSpaceError, TryAgainError.
        """
        self._check_id(image_id)
        if parent_id is not None:
            _check_text("parent", parent_id, _ID_COUNT_MAX)
        site = self._wiring.site
        return uploading.upload(
            self._wiring,
            image_id,
            source,
            SaveOptions(threads=site.threads, level=site.level, progress=progress, cancel=cancel),
            size=size,
            parent_id=parent_id,
            inspect=None if inspect is None else lambda: inspect().virtual_size,
        )

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

    def stream(self, image: ImageRow, start: int = 0, end: int | None = None) -> "ContentStream":
        """Open bytes [start, end) of an image as parts that are read ahead, also of a deactivated one.

        Whoever has the stream closes it: until then what it reads is not collected, even when the image is deleted.

        Args:
            image: as `show` gave it.
            end: exclusive; None for all that follows.
        Raises: ImageNotFoundError when it has no data or was deleted meanwhile, DamageError.
        """
        from casimg.streaming import open_stream  # noqa: PLC0415

        self._wiring.check_open()
        return open_stream(self._wiring, image, start, end, threads=self._wiring.site.threads)

    def deactivate(self, image_id: ImageId) -> None:
        """Let an image be downloaded no more; again is harmless. Raises: ImageNotFoundError, BadStatusError."""
        self._set_active(image_id, is_active=False)

    def reactivate(self, image_id: ImageId) -> None:
        """Let an image be downloaded again; again is harmless. Raises: ImageNotFoundError, BadStatusError."""
        self._set_active(image_id, is_active=True)

    def add_tag(self, image_id: ImageId, tag: str) -> None:
        """Tag an image; again is harmless. Raises: ImageNotFoundError."""
        _check_text("tag", tag, _TEXT_COUNT_MAX)
        self._change(image_id, partial(edits.add_tag, image_id=image_id, tag=tag))

    def remove_tag(self, image_id: ImageId, tag: str) -> None:
        """Take a tag away. Raises: ImageNotFoundError, TagNotFoundError."""
        _check_text("tag", tag, _TEXT_COUNT_MAX)
        self._change(image_id, partial(edits.remove_tag, image_id=image_id, tag=tag))

    def add_member(self, image_id: ImageId, member: str) -> MemberRow:
        """Share an image; the answer is pending. Raises: ImageNotFoundError, MemberExistsError."""
        _check_text("member", member, _TEXT_COUNT_MAX, least=1)
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
        _check_text("member", member, _TEXT_COUNT_MAX)
        return self._wiring.catalog.read(partial(member_rows.member, image_id=image_id, name=member))

    def set_member_status(self, image_id: ImageId, member: str, status: str) -> MemberRow:
        """Keep a member's answer. Raises: ImageNotFoundError, MemberNotFoundError."""
        _check_text("member", member, _TEXT_COUNT_MAX)
        if status not in MEMBER_STATUSES:
            raise InputError(f"the member status {status!r} is none of {', '.join(MEMBER_STATUSES)}")
        work = partial(member_rows.set_member_status, image_id=image_id, name=member, status=status)
        self._change(image_id, _shared(image_id, work))
        return self.member(image_id, member)

    def remove_member(self, image_id: ImageId, member: str) -> None:
        """Share an image no more with a member. Raises: ImageNotFoundError, MemberNotFoundError."""
        _check_text("member", member, _TEXT_COUNT_MAX)
        self._change(image_id, _shared(image_id, partial(member_rows.remove_member, image_id=image_id, name=member)))

    def usage(self, owner: str) -> UsageRow:
        """Return how many images a project has, and their plain bytes, for quotas; a moment later it may have more."""
        self._wiring.check_open()
        _check_text("owner", owner, _TEXT_COUNT_MAX)
        return self._wiring.catalog.read(partial(edits.usage_of, owner=owner))

    # Inner

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


def _shared(image_id: ImageId, work: Callable[[Connection], None]) -> Callable[[Connection], None]:
    """Return a change of members, under the lock of their image."""

    def run(connection: Connection) -> None:
        edits.hold(connection, image_id, is_update=False)
        work(connection)

    return run


# What the database can keep


def _check_text(what: str, value: object, count_max: int, *, least: int = 0) -> None:
    if not isinstance(value, str) or not is_text(value) or not least <= len(value) <= count_max:
        raise InputError(f"the {what} must be a text of at most {count_max} characters, not {str(value)[:80]!r}")


def _check_optional(what: str, value: object, count_max: int) -> None:
    if value is not None:
        _check_text(what, value, count_max)


def _check_number(what: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _NUMBER_MAX:
        raise InputError(f"{what} must be a number from 0 to {_NUMBER_MAX}, not {str(value)[:80]!r}")


def _check_flag(what: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{what} must be true or false, not {str(value)[:80]!r}")


def _check_visibility(what: str, value: object) -> None:
    if value not in VISIBILITIES:
        raise InputError(f"the {what} {str(value)[:80]!r} is none of {', '.join(VISIBILITIES)}")


_CHECKS: Final[Mapping[str, Callable[[str, object], None]]] = {
    "name": lambda what, value: _check_optional(what, value, _TEXT_COUNT_MAX),
    "disk_format": lambda what, value: _check_optional(what, value, _FORMAT_COUNT_MAX),
    "container_format": lambda what, value: _check_optional(what, value, _FORMAT_COUNT_MAX),
    "owner": lambda what, value: _check_optional(what, value, _TEXT_COUNT_MAX),
    "visibility": _check_visibility,
    "protected": _check_flag,
    "hidden": _check_flag,
    "min_disk": _check_number,
    "min_ram": _check_number,
}
_FIELDS: Final = (*_CHECKS, "tags", "properties")


def _check_fields(fields: Mapping[str, object]) -> None:
    """Raise InputError for what a column cannot hold."""
    for name, value in fields.items():
        if name == "tags":
            for tag in value if isinstance(value, tuple) else (value,):
                _check_text("tag", tag, _TEXT_COUNT_MAX)
        elif name == "properties":
            for key, text in dict(value).items():  # type: ignore[call-overload]
                _check_text("name of a property", key, _TEXT_COUNT_MAX, least=1)
                if not isinstance(text, str) or not is_text(text) or len(text.encode()) > _VALUE_SIZE_MAX:
                    raise InputError(f"the property {key!r} must be a text of at most {_VALUE_SIZE_MAX} bytes")
        else:
            _CHECKS[name](name, value)


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
    "Unset",
    "UsageRow",
    "Viewer",
]
