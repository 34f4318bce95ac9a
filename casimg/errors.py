"""Every error casimg raises on purpose, by what the caller can do about it.

One root, six families: absence, conflict, bad input, unusable repository, damage, try again. The message is built
from the attributes: what, where, what to do next. `casimg.cli.exit_codes` maps the families to exit codes.
"""

from collections.abc import Sequence


class CasimgError(Exception):
    """Root of all errors of this package."""


# Absence


class NotFoundError(CasimgError):
    """Something asked for by name or id does not exist."""


class ImageNotFoundError(NotFoundError):
    def __init__(self, ref: str) -> None:
        self.ref = ref
        super().__init__(f"no image with the name or id {ref!r}; `casimg ls` lists them")


class ImageDeletedError(ImageNotFoundError):
    """An image was deleted, and its space given back, while it was read or saved."""

    def __init__(self, ref: str, what: str = "the image of content {} was deleted while it was read") -> None:
        self.ref = ref
        NotFoundError.__init__(self, what.format(ref))


class MarkerNotFoundError(NotFoundError):
    """The image that a page begins after is gone, or not for the viewer's eyes."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        super().__init__(f"no image {marker!r} to begin after")


class TagNotFoundError(NotFoundError):
    def __init__(self, image_id: str, tag: str) -> None:
        self.image_id = image_id
        self.tag = tag
        super().__init__(f"image {image_id} has no tag {tag!r}")


class MemberNotFoundError(NotFoundError):
    def __init__(self, image_id: str, member: str) -> None:
        self.image_id = image_id
        self.member = member
        super().__init__(f"image {image_id} is not shared with {member!r}")


class StoreNotFoundError(NotFoundError):
    """The repository has no backend of this name."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"there is no backend {name!r}")


class CopyNotFoundError(NotFoundError):
    """The image does not lie on this backend."""

    def __init__(self, image_id: str, store: str) -> None:
        self.image_id = image_id
        self.store = store
        super().__init__(f"image {image_id} does not lie on the backend {store!r}")


class ObjectNotFoundError(NotFoundError):
    """A backend has no object under this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the backend holds no object {key!r}")


class MetadefNotFoundError(NotFoundError):
    """A metadata definition is not there, or not for this viewer."""

    def __init__(self, kind: str, name: str, namespace: str | None = None) -> None:
        self.kind = kind
        self.name = name
        self.namespace = namespace
        where = "" if namespace is None else f" in the namespace {namespace!r}"
        super().__init__(f"the metadata definitions have no {kind} {name!r}{where}")


class TaskNotFoundError(NotFoundError):
    """A task is not there: never was, is another project's, or was forgotten in time."""

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(f"no task has the id {task_id!r}")


# Conflict


class ConflictError(CasimgError):
    """What was asked contradicts what is there; the caller must choose."""


class AmbiguousNameError(ConflictError):
    def __init__(self, name: str, image_ids: Sequence[str]) -> None:
        self.name = name
        self.image_ids = tuple(image_ids)
        super().__init__(f"{len(self.image_ids)} images are named {name!r}; use an id: " + ", ".join(self.image_ids))


class NameTakenError(ConflictError):
    def __init__(self, name: str, image_ids: Sequence[str]) -> None:
        self.name = name
        self.image_ids = tuple(image_ids)
        super().__init__(
            f"the name {name!r} is taken by {', '.join(self.image_ids)}; choose another, or allow it with --same-name"
        )


class ImageExistsError(ConflictError):
    """The id is, or was once, an image's: ids are never used again."""

    def __init__(self, image_id: str) -> None:
        self.image_id = image_id
        super().__init__(f"the id {image_id} is, or was, an image's; choose another")


class MemberExistsError(ConflictError):
    def __init__(self, image_id: str, member: str) -> None:
        self.image_id = image_id
        self.member = member
        super().__init__(f"image {image_id} is already shared with {member!r}")


class CopyExistsError(ConflictError):
    """The image lies on this backend already."""

    def __init__(self, image_id: str, store: str) -> None:
        self.image_id = image_id
        self.store = store
        super().__init__(f"image {image_id} lies on the backend {store!r} already")


class LastCopyError(ConflictError):
    """The image lies nowhere else: deleting the image is what removes its last copy."""

    def __init__(self, image_id: str, store: str) -> None:
        self.image_id = image_id
        self.store = store
        super().__init__(f"the copy of image {image_id} on the backend {store!r} is its last one")


class BadStatusError(ConflictError):
    """The image's status does not allow what was asked."""

    def __init__(self, image_id: str, status: str, what: str) -> None:
        self.image_id = image_id
        self.status = status
        super().__init__(f"image {image_id} is {status}: {what}")


class DataElsewhereError(ConflictError):
    """Something was asked of an image's data that only the repository's own can do."""

    def __init__(self, image_id: str) -> None:
        self.image_id = image_id
        super().__init__(f"the data of image {image_id} lie elsewhere, at a location that clients gave; none are here")


class NotQueuedError(BadStatusError):
    """Data can be given to a queued image only: this one has them, or another upload is at work."""

    def __init__(self, image_id: str, status: str) -> None:
        super().__init__(image_id, status, "only a queued image takes data")


class ChangedMeanwhileError(ConflictError):
    """The image is not the one that was read any more: read it again and decide anew."""

    def __init__(self, image_id: str) -> None:
        self.image_id = image_id
        super().__init__(f"image {image_id} was changed meanwhile; read it again")


class ImageLockedError(ConflictError):
    """Somebody else works at the image; `holder` is what they gave as their name."""

    def __init__(self, image_id: str, holder: str) -> None:
        self.image_id = image_id
        self.holder = holder
        super().__init__(f"image {image_id} is locked by {holder}")


class NotLockedError(ConflictError):
    """The image is not, or no more, locked by who says so."""

    def __init__(self, image_id: str, holder: str) -> None:
        self.image_id = image_id
        self.holder = holder
        super().__init__(f"image {image_id} is not locked by {holder}")


class ProtectedImageError(ConflictError):
    def __init__(self, image_id: str) -> None:
        self.image_id = image_id
        super().__init__(f"image {image_id} is protected and cannot be deleted")


class MetadefExistsError(ConflictError):
    def __init__(self, kind: str, name: str, namespace: str | None = None) -> None:
        self.kind = kind
        self.name = name
        self.namespace = namespace
        where = "" if namespace is None else f" in the namespace {namespace!r}"
        super().__init__(f"the metadata definitions already have a {kind} {name!r}{where}")


class ProtectedMetadefError(ConflictError):
    """What is in a protected namespace, and the namespace itself, is not deleted."""

    def __init__(self, kind: str, name: str, namespace: str) -> None:
        self.kind = kind
        self.name = name
        self.namespace = namespace
        what = f"{kind} {name!r} " if kind == "namespace" else f"{kind} {name!r} of the namespace {namespace!r} "
        super().__init__(f"the {what}is protected and cannot be deleted")


class TaskEndedError(ConflictError):
    """A task's status does not allow what was asked: it has ended, or was begun before."""

    def __init__(self, task_id: str, status: str) -> None:
        self.task_id = task_id
        self.status = status
        super().__init__(f"task {task_id} is in status {status} already")


# Bad input


class InputError(CasimgError):
    """A source, target or argument cannot be used as given."""


class SourceError(InputError):
    def __init__(self, source: str, why: str) -> None:
        self.source = source
        self.why = why
        super().__init__(f"cannot read {source}: {why}")


class SourceChangedError(SourceError):
    """The source changed while it was read: what was read may never have existed."""


class SizeMismatchError(InputError):
    """A source gave another number of bytes than was said; nothing was kept."""

    def __init__(self, expected: int, actual: int) -> None:
        self.expected = expected
        self.actual = actual
        more = "at least " if actual > expected else ""
        super().__init__(f"{expected} bytes were announced and {more}{actual} came")


class TargetError(InputError):
    def __init__(self, target: str, why: str) -> None:
        self.target = target
        self.why = why
        super().__init__(f"cannot write {target}: {why}")


class ChangedMapError(InputError):
    """A map of changed ranges cannot be understood or does not fit the disk."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"map of changed ranges {path}: {why}")


class CancelledError(CasimgError):
    """The caller's cancel event was set; nothing was committed."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} was cancelled; nothing was committed")


# Unusable repository


class RepositoryError(CasimgError):
    """This folder cannot be opened as a repository, or not by this program."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path}: {why}")


class NoRepositoryError(RepositoryError):
    """There is no repository at this path."""


class ForeignRepositoryError(RepositoryError):
    """Catalog, backend or index belong to another repository."""


class NewerFormatError(RepositoryError):
    """The repository needs a newer casimg: its format version or a mandatory feature is unknown here."""


class ConfigError(RepositoryError):
    """`casimg.toml` or `casimg.json` says something that cannot be used; unknown keys are errors."""


class NativeMissingError(CasimgError):
    def __init__(self) -> None:
        super().__init__(
            "the C extension of casimg is not built, so writing is refused (pure Python cuts at 6 MB/s); "
            "install a C compiler and reinstall, or set CASIMG_NATIVE=python to accept the speed"
        )


class ForkError(CasimgError):
    def __init__(self, opened_pid: int, pid: int) -> None:
        self.opened_pid = opened_pid
        self.pid = pid
        super().__init__(
            f"this repository was opened by process {opened_pid} and is used in {pid} after a fork; open it again there"
        )


class ClosedError(CasimgError):
    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what} is closed")


# Damage


class DamageError(CasimgError):
    """Stored bytes are not what was stored. Never answered with wrong bytes."""


class ObjectDamagedError(DamageError):
    """An object fails its own check.

    Args:
        key: key of the object in its backend.
        offset: where in the object, bytes; None for the whole of it.
        why: what is wrong.
    """

    def __init__(self, key: str, offset: int | None, why: str) -> None:
        self.key = key
        self.offset = offset
        self.why = why
        where = key if offset is None else f"{key} at byte {offset}"
        super().__init__(f"{where} is damaged: {why}; `casimg check` names the images it touches")


class PackDamagedError(ObjectDamagedError):
    pass


class NodeDamagedError(ObjectDamagedError):
    pass


class RecordDamagedError(ObjectDamagedError):
    pass


class ChunkLostError(DamageError):
    """A chunk or node that a complete content needs is nowhere."""

    def __init__(self, chunk_id: bytes, pack_keys: Sequence[str], content_id: str) -> None:
        self.chunk_id = chunk_id
        self.pack_keys = tuple(pack_keys)
        self.content_id = content_id
        tried = ", ".join(self.pack_keys[:4]) or "no pack names it"
        super().__init__(
            f"chunk {chunk_id.hex()} of content {content_id} is lost (looked in: {tried}); "
            "`casimg check` names the images it touches"
        )


class CatalogDamagedError(DamageError):
    """The catalog contradicts itself or its database file is damaged."""

    def __init__(self, where: str, why: str) -> None:
        self.where = where
        self.why = why
        super().__init__(f"catalog {where}: {why}; `casimg recover` makes a catalog anew from the objects")


class IndexDamagedError(DamageError):
    """The index cannot be used; it is a cache, so it can be deleted and rebuilt."""

    def __init__(self, path: str, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"index {path}: {why}; `casimg index rebuild` makes it anew from the packs")


# Try again


class TryAgainError(CasimgError):
    """Nothing is wrong with the data; the same call may succeed later."""


class CatalogBusyError(TryAgainError):
    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"the catalog is busy: {why}; try again")


class CatalogReplacedError(TryAgainError):
    """The open catalog ended while it was open: `casimg recover` has made, or makes, another."""

    def __init__(self) -> None:
        super().__init__(
            "the catalog no longer says whose it is: `casimg recover` has replaced it or was interrupted; open the "
            "repository again"
        )


class BackendUnavailableError(TryAgainError):
    def __init__(self, backend: str, why: str) -> None:
        self.backend = backend
        self.why = why
        super().__init__(f"backend {backend} cannot be reached: {why}")


class SessionFencedError(TryAgainError):
    """This session was declared dead (no heartbeat, or older than 7 days); its chunks stay for the next try."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(
            f"session {session_id} is no longer open (fenced or ended); run the command again: "
            "chunks already stored are found"
        )


class PackGoneError(TryAgainError):
    """A pack noted by this session was collected before the commit; the ingest must be run again."""

    def __init__(self, pack_nos: Sequence[int]) -> None:
        self.pack_nos = tuple(pack_nos)
        super().__init__(f"packs {list(self.pack_nos)} went away before the commit; run the command again")


class NoSpaceError(CasimgError):
    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(f"no space left on the file system of {where}; `casimg rm` and `casimg gc` give space back")
