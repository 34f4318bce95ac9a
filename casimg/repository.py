"""Repositories as users see them: each method hands the work to the module that does it. No algorithm lives here.

Work that a put or get does not need is imported by the method that does it: a command pays for what it uses.

Threads: a Repository may be used by any number of threads at once. Fork: a child must open its own.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Unpack

from casimg import saving
from casimg.catalog import ImageChange
from casimg.choices import LEVELS
from casimg.chunker import ChunkerParams
from casimg.errors import DataElsewhereError, InputError
from casimg.images import image_in, image_of
from casimg.ingest import thread_count
from casimg.leasing import leased_reader, open_leased
from casimg.opening import create_parts, open_parts
from casimg.progress import ProgressCallback
from casimg.results.images import ByteRange, GetReport, Image, PutReport
from casimg.saving import ImageFields, SaveOptions
from casimg.source import SourceLike
from casimg.wiring import Wiring

if TYPE_CHECKING:
    from casimg.assemble import ContentReader
    from casimg.gc.plan import CollectionPlan
    from casimg.image_cache import ImageCache
    from casimg.image_file import ImageFile
    from casimg.keywords import PutKeywords, SnapshotKeywords
    from casimg.metadefs import Metadefs
    from casimg.registry import Registry
    from casimg.results.comparing import DiffReport, LineageNode, PruneDecision, VerifyReport
    from casimg.results.figures import Stats
    from casimg.results.stores import BackendFigures
    from casimg.results.upkeep import CheckReport, IndexReport, Session
    from casimg.tasks import Tasks
    from casimg.upkeep import Upkeep

TargetLike = str | os.PathLike[str] | BinaryIO


def create(
    path: str | os.PathLike[str],
    *,
    chunker: str = "mincdc",
    chunk_size: int | None = None,
    expect: int | None = None,
    preset: str = "default",
) -> "Repository":
    """Make a repository in a folder that is empty or not there, and open it.

    Args:
        path: the folder.
        chunker: "mincdc", "fastcdc" or "fixed"; for good.
        chunk_size: mean bytes of a chunk, a power of two; for good. None: chosen by `expect`.
        expect: bytes of unique data expected; picks the chunk size so that the index stays in memory.
        preset: "default", or "compact": fewer bytes, three times as long for new data; `level` in casimg.toml.
    Raises: RepositoryError when the folder holds anything, InputError for a chunker or preset that cannot be.
    """
    if preset not in LEVELS:
        raise InputError(f"the preset {preset!r} is none of {', '.join(LEVELS)}")
    from casimg.estimating import chunk_size_for

    params = ChunkerParams.of(chunker, chunk_size_for(expect) if chunk_size is None else chunk_size)
    create_parts(Path(path), params, LEVELS[preset])
    return open_repository(path)


def open_repository(path: str | os.PathLike[str]) -> "Repository":
    """Open a repository by its folder or its `casimg.toml`; nothing is migrated or repaired silently.

    Raises: NoRepositoryError, ConfigError, ForeignRepositoryError, NewerFormatError, CatalogDamagedError.
    """
    return Repository(open_parts(path))


class Repository(AbstractContextManager["Repository"]):
    """An open repository; a context manager. References to images are ids, names, or beginnings of ids."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    @property
    def path(self) -> Path:
        """Folder of `casimg.toml`."""
        return self._wiring.path

    @property
    def repository_uuid(self) -> str:
        return self._wiring.config.repository_uuid

    @property
    def chunker(self) -> str:
        return self._wiring.config.chunker_kind

    @property
    def chunk_size(self) -> int:
        """Mean bytes of a chunk."""
        return self._wiring.config.chunk_size_avg

    def put(self, source: SourceLike, **keywords: "Unpack[PutKeywords]") -> Image:
        """Store a source as a new image; as put_report, and return the image."""
        return image_in(self.put_report(source, **keywords))

    def put_report(
        self,
        source: SourceLike,
        *,
        name: str,
        backend: str | None = None,
        disk_format: str = "raw",
        container_format: str = "bare",
        owner: str | None = None,
        visibility: str = "private",
        properties: Mapping[str, str] | None = None,
        same_name: bool = False,
        allow_changes: bool = False,
        dry_run: bool = False,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> PutReport:
        """Store a source as a new image and say what was done; with `dry_run`, what would be done, changing nothing.

        Args:
            source: a path (file or block device), a binary file, or an iterator of bytes.
            name: need not be unique when `same_name` is set.
            backend: where its data shall lie; None is the default one.
            disk_format, container_format: as Glance's; kept as given, never guessed.
            owner: a project, where an API lists images by project; None: `owner` in `[images]` of casimg.toml.
            allow_changes: accept a source that changes while it is read.
            progress: called now and then with a Progress.
            cancel: when set by another thread, the call raises CancelledError and commits nothing.
        Raises: SourceError, SourceChangedError, NameTakenError, StoreNotFoundError, NoSpaceError, CancelledError,
            TryAgainError.
        """
        self._wiring.check_open()
        wiring = self._wiring if backend is None else self._wiring.named(backend)
        owner = self._wiring.site.image_owner if owner is None else owner
        fields = ImageFields(name, disk_format, container_format, owner, visibility, dict(properties or {}), same_name)
        options = self._save_options(allow_changes, progress, cancel)
        if dry_run:
            return saving.dry_run(wiring, source, fields, options)
        return saving.put(wiring, source, fields, options)

    def snapshot(self, parent: str, **keywords: "Unpack[SnapshotKeywords]") -> Image:
        """Make a snapshot whose parent is a stored image; as snapshot_report, and return the image."""
        return image_in(self.snapshot_report(parent, **keywords))

    def snapshot_report(
        self,
        parent: str,
        *,
        name: str,
        source: SourceLike | None = None,
        changed: str | os.PathLike[str] | Iterable[ByteRange] | None = None,
        disk_format: str | None = None,
        properties: Mapping[str, str] | None = None,
        same_name: bool = False,
        allow_changes: bool = False,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> PutReport:
        """Make a snapshot whose parent is a stored image, on that one's backend, and say what was done.

        Args:
            parent: the image.
            source: None for a snapshot of the stored image itself (instant); else the disk as it is now.
            changed: a map of what changed since the parent (a file, or ranges); only that and its neighbourhood is
                read. Trusted: a change it does not name is not seen.
        Raises: as put_report; ImageNotFoundError, AmbiguousNameError, ChangedMapError.
        """
        self._wiring.check_open()
        row = self._wiring.catalog.find(parent)
        fields = ImageFields(
            name,
            disk_format or row.disk_format or "raw",
            row.container_format or "bare",
            row.owner,
            row.visibility,
            dict(row.properties) if properties is None else dict(properties),
            same_name,
        )
        if source is None:
            if changed is not None:
                raise InputError("a map of changed ranges needs the disk it describes: give a source")
            return saving.snapshot_of_image(self._wiring, row, fields)
        ranges: list[ByteRange] | None = None
        if changed is not None:
            from casimg.snapshot.changed_map import read_changed_map

            ranges = read_changed_map(changed) if isinstance(changed, (str, os.PathLike)) else list(changed)
        options = self._save_options(allow_changes, progress, cancel)
        return saving.snapshot_of_disk(self._wiring, source, row, ranges, fields, options)

    def get(
        self,
        ref: str,
        target: TargetLike,
        *,
        resume: bool = False,
        in_place: bool = False,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> GetReport:
        """Write an image's bytes to a target, every chunk verified.

        Args:
            target: a path that appears only when it is whole, a block device, or a binary file.
            resume: go on with the partial file of an interrupted get.
            in_place: write into an existing file instead of replacing it.
        Raises: ImageNotFoundError, TargetError, NoSpaceError, DamageError, CancelledError.
        """
        from casimg import restoring

        self._wiring.check_open()
        row, threads = self._wiring.catalog.find(ref), self._wiring.site.threads
        return restoring.get(
            self._wiring,
            row,
            target,
            resume=resume,
            in_place=in_place,
            threads=threads,
            progress=progress,
            cancel=cancel,
        )

    def open_image(self, ref: str) -> "ImageFile":
        """Open an image for reading, as a seekable raw binary file. Raises: ImageNotFoundError, DamageError."""
        from casimg.image_file import ImageFile

        self._wiring.check_open()
        reader, lease = open_leased(self._wiring, self._wiring.catalog.find(ref))
        return ImageFile(reader, self._wiring.check_open, lease.end)

    def verify(
        self,
        ref: str,
        file: str | os.PathLike[str],
        *,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> "VerifyReport":
        """Read an image back from the packs and compare it with a file byte by byte.

        Raises: ImageNotFoundError, SourceError, DamageError.
        """
        from casimg import comparing

        self._wiring.check_open()
        row = self._wiring.catalog.find(ref)
        with leased_reader(self._wiring, row) as reader:
            threads = thread_count(self._wiring.site.threads)
            return comparing.verify(reader, image_of(row), file, threads=threads, progress=progress, cancel=cancel)

    def images(self, name: str | None = None, *, include_deleted: bool = False) -> list[Image]:
        """Return the images, oldest first; those with exactly this name when one is given."""
        self._wiring.check_open()
        return [image_of(row) for row in self._wiring.catalog.images(name=name, include_deleted=include_deleted)]

    def image(self, ref: str) -> Image:
        """Return one image. Raises: ImageNotFoundError, AmbiguousNameError."""
        self._wiring.check_open()
        return image_of(self._wiring.catalog.find(ref))

    def lineage(self, ref: str) -> "LineageNode":
        """Return the tree of snapshots that an image belongs to; deleted parents show as gone."""
        from casimg.lineage import lineage

        self._wiring.check_open()
        rows = self._wiring.catalog.images(include_deleted=True)
        return lineage(rows, self._wiring.catalog.find(ref).id, image_of)

    def prune_snapshots(
        self, ref: str, *, keep_last: int = 0, keep_daily: int = 0, keep_weekly: int = 0, dry_run: bool = False
    ) -> "tuple[PruneDecision, ...]":
        """Delete the snapshots of an image that no rule keeps; the image itself stays.

        Args:
            ref: the image whose snapshots, and their snapshots, are looked at.
            keep_last: the newest so many. keep_daily, keep_weekly: the newest of each of so many days and weeks (UTC).
            dry_run: decide, delete nothing.
        Returns: a decision for each snapshot, newest first.
        Raises: ImageNotFoundError, AmbiguousNameError, InputError when nothing would be kept.
        """
        from casimg import updating
        from casimg.snapshot.prune import KeepRules

        self._wiring.check_open()
        row = self._wiring.catalog.find(ref)
        return updating.prune(self._wiring, row, KeepRules(keep_last, keep_daily, keep_weekly), dry_run=dry_run)

    def diff(self, a: str, b: str, *, exact: bool = False) -> "DiffReport":
        """Return where image `b` differs from `a`: by whole chunks, or by 4 KiB blocks when `exact`."""
        from casimg import comparing

        self._wiring.check_open()
        (reader_a, image_a), (reader_b, image_b) = self._reader_of(a), self._reader_of(b)
        return comparing.diff(reader_a, reader_b, image_a, image_b, exact=exact)

    def stats(
        self, ref: str | None = None, *, usages: bool = False, progress: ProgressCallback | None = None
    ) -> "Stats":
        """Return the figures of the repository; of one image or, with `usages`, of all what they share and own."""
        from casimg import usage

        self._wiring.check_open()
        asked = None if ref is None else [self._wiring.catalog.find(ref)]
        if ref is None and usages:
            asked = self._wiring.catalog.images()
        return usage.stats(self._wiring, asked, progress)

    def update(
        self,
        ref: str,
        *,
        name: str | None = None,
        protected: bool | None = None,
        visibility: str | None = None,
        properties: Mapping[str, str] | None = None,
        unset: Iterable[str] = (),
        same_name: bool = False,
    ) -> Image:
        """Change an image's metadata, all of it or nothing; what is not given stays.

        Args:
            protected: a protected image cannot be deleted.
            properties: to set; others stay. unset: properties to remove, there or not.
            same_name: allow a name that another image has.
        Raises: ImageNotFoundError, AmbiguousNameError, NameTakenError, InputError.
        """
        from casimg import updating

        self._wiring.check_open()
        change = ImageChange(name, protected, visibility, dict(properties or {}), tuple(unset))
        return image_of(updating.update(self._wiring, self._wiring.catalog.find(ref), change, same_name=same_name))

    def delete(self, ref: str) -> Image:
        """Delete an image and return what it was; `plan_gc().execute()` gives the space back.

        Raises: ImageNotFoundError, AmbiguousNameError, ProtectedImageError.
        """
        from casimg import updating

        self._wiring.check_open()
        row = self._wiring.catalog.find(ref)
        updating.delete(self._wiring, row.id)
        return image_of(row)

    def metadefs(self) -> "Metadefs":
        """Return the metadata definitions: which properties and tags some kinds of resources may carry."""
        from casimg.metadefs import Metadefs

        return Metadefs(self._wiring)

    def registry(self) -> "Registry":
        """Return the images as Glance knows them: queued, edited, shared, listed by who may see them."""
        from casimg.registry import Registry

        return Registry(self._wiring)

    def tasks(self, time_to_live_s: float = 48 * 3600) -> "Tasks":
        """Return the tasks: what a service does with images in the background, kept so long after their end."""
        from casimg.tasks import Tasks

        return Tasks(self._wiring, time_to_live_s)

    def image_cache(self, node: str) -> "ImageCache":
        """Return what is told of the images that the server `node` keeps whole. Raises: InputError for an odd name."""
        from casimg.image_cache import ImageCache

        return ImageCache(self._wiring, node)

    def plan_gc(self, *, unused_max: float = 0.05, progress: ProgressCallback | None = None) -> "CollectionPlan":
        """Return what a collection would free; its `execute` frees it.

        Args:
            unused_max: share of stored bytes, 0 to 1, that may stay unused in packs needed in part; 1 rewrites none.
        """
        from casimg.gc import plan, waste

        self._wiring.check_open()
        return plan.plan_collection(self._wiring, waste.RepackRules(unused_max=unused_max), progress)

    def backends(self) -> "tuple[BackendFigures, ...]":
        """Return the backends with what lies on them, the default one first."""
        from casimg.backends import backends

        return backends(self._wiring)

    def copy(
        self,
        ref: str,
        to: str,
        *,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> Image:
        """Copy an image to another backend, where it is read when the first one is damaged or away.

        Raises: ImageNotFoundError, AmbiguousNameError, StoreNotFoundError, CopyExistsError, CancelledError,
            NoSpaceError, DamageError, TryAgainError.
        """
        from casimg import copying

        self._wiring.check_open()
        row, target = self._wiring.catalog.find(ref), self._wiring.named(to)
        return image_of(copying.copy_image(target, row.id, self._save_options(False, progress, cancel)))

    def remove_copy(self, ref: str, backend: str) -> Image:
        """Remove an image from a backend; it must lie on another. `plan_gc().execute()` gives the space back.

        Raises: ImageNotFoundError, AmbiguousNameError, StoreNotFoundError, CopyNotFoundError, LastCopyError.
        """
        from casimg import copying

        self._wiring.check_open()
        row = self._wiring.catalog.find(ref)
        return image_of(copying.leave(self._wiring.named(backend), row.id))

    def sessions(self, *, ended: bool = False) -> "list[Session]":
        """Return who writes, oldest first; with `ended`, also closed and fenced sessions."""
        from casimg import upkeep

        self._wiring.check_open()
        return upkeep.sessions(self._wiring, ended=ended)

    def upkeep(self) -> "Upkeep":
        """Return what is done for the repository by itself: when collections are due, and what the last one did."""
        from casimg.upkeep import Upkeep

        return Upkeep(self._wiring)

    def check(
        self,
        *,
        read_data: bool = False,
        subset: str | int | None = None,
        repair: bool = False,
        progress: ProgressCallback | None = None,
    ) -> "CheckReport":
        """Hold catalog, manifests, records and packs against each other; with `read_data`, every byte too.

        Args:
            subset: of all packs read only so much, "5%" or bytes, least recently verified first.
            repair: mend what is found, and tell what is lost; see `rebuild_index` when the index is wrong.
        """
        from casimg import check as checking

        self._wiring.check_open()
        found = checking.find_problems(self._wiring, read_data=read_data, subset=subset, progress=progress)
        if not repair:
            return found.report()
        from casimg import reindexing
        from casimg.repair.heal import heal

        return heal(found, lambda wiring: reindexing.rebuild_index(wiring, progress), progress)

    def rebuild_index(self, progress: ProgressCallback | None = None) -> "IndexReport":
        """Make the index of each backend anew from the packs; interrupted, it leaves the old one.

        Threads: no other work of this process may run on the repository meanwhile.
        """
        from casimg import reindexing

        self._wiring.check_open()
        return reindexing.rebuild_indexes(self._wiring, progress)

    def close(self) -> None:
        """Close the repository; twice is harmless."""
        self._wiring.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _reader_of(self, ref: str) -> "tuple[ContentReader, Image]":
        row = self._wiring.catalog.find(ref)
        if row.content_id is None:
            raise DataElsewhereError(row.id)
        return self._wiring.reader(row.content_id), image_of(row)

    def _save_options(
        self, allow_changes: bool, progress: ProgressCallback | None, cancel: threading.Event | None
    ) -> SaveOptions:
        return SaveOptions(allow_changes, self._wiring.site.threads, self._wiring.site.level, progress, cancel)
