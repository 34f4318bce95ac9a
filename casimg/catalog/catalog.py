"""The catalog: images, contents, packs, sessions. The only commit point.

Each method is one transaction of docs/protocol.md (or a plain read); none calls a backend while it is open. All of
them raise CatalogBusyError, NoSpaceError, CatalogDamagedError and RepositoryError for what the database refuses.
Threads: any. After a fork the catalog belongs to the parent.
"""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, insert, inspect, select

from casimg.catalog import collect, contents, figures, images, migrate, orphans, packs, recover, sessions, uploads
from casimg.catalog.collect import SweepVerdict
from casimg.catalog.rows import (
    BackendRow,
    CatalogTotals,
    ContentRow,
    ImageRow,
    NewContent,
    NewImage,
    NewPack,
    PackRow,
    RepoRow,
    SessionRow,
)
from casimg.catalog.schema import CLAIMED_STATUSES, backends, repo
from casimg.catalog.schema import sessions as sessions_table
from casimg.catalog.transaction import TRY_COUNT_MAX, Database
from casimg.errors import (
    CasimgError,
    CatalogDamagedError,
    ConfigError,
    NameTakenError,
    NewerFormatError,
    RepositoryError,
    SessionFencedError,
    TryAgainError,
)
from casimg.ids import ContentId, ImageId, PackId, SessionId, new_session_id

_log = logging.getLogger("casimg.catalog")
T = TypeVar("T")
HEARTBEAT_AGE_MAX_S = 900.0
SESSION_AGE_MAX_S = 7 * 86400.0


class Catalog:
    """An open catalog.

    Args:
        backend_id: what is asked of packs is asked of this backend's alone; None is all.
    """

    def __init__(self, database: Database, backend_id: int | None = None) -> None:
        self._database = database
        self._backend_id = backend_id

    def scoped(self, backend_id: int) -> "Catalog":
        """Return the same catalog, which sees the packs of one backend alone."""
        return Catalog(self._database, backend_id)

    @classmethod
    def create(
        cls, url: str, repository_uuid: str, backend_name: str, backend_kind: str, *, unfinished: bool = False
    ) -> "Catalog":
        """Make the schema in an empty database and the one row that says whose it is.

        Args:
            unfinished: leave that row out, for `recover.finish` to put when everything is in.
        Raises: RepositoryError when the database is not empty, ConfigError for a URL that cannot be used.
        """
        database = _database(url)

        def work(connection: Connection) -> None:
            if migrate.current_revision(connection) is not None:
                raise RepositoryError(database.label, "the database already holds a catalog")
            if tables := inspect(connection).get_table_names():
                raise RepositoryError(database.label, f"the database is not empty: it has the table {tables[0]!r}")
            migrate.upgrade(connection)
            if not unfinished:
                recover.finish(connection, repository_uuid, recover.new_incarnation(), 0)
                recover.enable_collection(connection)
            connection.execute(insert(backends).values(name=backend_name, kind=backend_kind))

        try:
            database.write(work)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @classmethod
    def open(cls, url: str) -> "Catalog":
        """Open a catalog of exactly this program's schema; nothing is migrated, nothing is made.

        Raises: NewerFormatError, RepositoryError, CatalogDamagedError, ConfigError.
        """
        database = _existing(url)

        def check(connection: Connection) -> None:
            revision = _known_revision(connection, database.label)
            if not migrate.is_current(revision):
                raise RepositoryError(
                    database.label, f"schema {revision} is older than {migrate.HEAD}, which this casimg needs"
                )

        try:
            database.read(check)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @classmethod
    def upgrade(cls, url: str) -> str:
        """Bring a catalog to this program's schema and return the revision it had; only ever on request.

        Raises: as open.
        """
        database = _existing(url)

        def work(connection: Connection) -> str:
            revision = _known_revision(connection, database.label)
            if not migrate.is_current(revision):
                migrate.upgrade(connection)
            return revision

        try:
            return database.write(work)
        finally:
            database.close()

    def close(self) -> None:
        """Give the connections back; again is harmless."""
        self._database.close()

    def transaction(self, work: Callable[[Connection], T], *, try_count: int = TRY_COUNT_MAX) -> T:
        """Run `work` in one transaction, again from the start when the database says so.

        Args:
            work: may run several times; makes no backend call.
        """
        return self._database.write(work, try_count=try_count)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run statements that only read; nothing is decided by them alone."""
        return self._database.read(work)

    def repo(self) -> RepoRow:
        """Return the one row of the repository. Raises: CatalogDamagedError."""
        row = self._database.read(lambda connection: connection.execute(select(repo)).first())
        if row is None:
            raise CatalogDamagedError(self._database.label, "it does not say whose it is")
        return RepoRow(row.repository_uuid, row.incarnation, row.epoch, row.change_no, row.collection_enabled)

    def backend_id(self, name: str) -> int:
        """Return the number of a backend. Raises: CatalogDamagedError."""
        query = select(backends.c.backend_id).where(backends.c.name == name)
        found = self._database.read(lambda connection: connection.execute(query).scalar())
        if found is None:
            raise CatalogDamagedError(self._database.label, f"it does not know the backend {name!r}")
        return int(found)

    def backends(self) -> list[BackendRow]:
        """Return every backend that there ever was, in the order in which they came."""
        return self._read(figures.all_backends)

    def add_backend(self, name: str, kind: str) -> int:
        """Enter a backend and return its number; again is harmless."""

        def work(connection: Connection) -> int:
            query = select(backends.c.backend_id).where(backends.c.name == name)
            if connection.execute(query).first() is None:
                connection.execute(insert(backends).values(name=name, kind=kind))
            return int(connection.execute(query).scalar_one())

        return self.transaction(work)

    # Sessions

    def open_session(self, kind: str) -> SessionRow:
        """Open a session and commit it; only then may the live list be read."""
        session_id = new_session_id()
        try:
            self.transaction(lambda connection: sessions.open_session(connection, session_id, kind))
            return self.session(session_id)
        except CasimgError:
            # Only the answer may be lost, and a session that nobody knows would hold collections up until it is stale.
            with contextlib.suppress(CasimgError):
                self.end_session(session_id)
            raise

    def session(self, session_id: SessionId) -> SessionRow:
        """Return a session. Raises: SessionFencedError when there is none."""
        query = select(sessions_table).where(sessions_table.c.session_id == session_id)
        row = self._database.read(lambda connection: connection.execute(query).first())
        if row is None:
            raise SessionFencedError(session_id)
        return sessions.session_row(row)

    def sessions(self, *, ended: bool) -> list[SessionRow]:
        """Return open sessions, oldest first; with `ended`, all."""
        query = select(sessions_table).order_by(sessions_table.c.opened_at)
        if not ended:
            query = query.where(sessions_table.c.state == "open")
        rows = self._read(lambda connection: connection.execute(query).all())
        return [sessions.session_row(row) for row in rows]

    def live_packs(self, session_id: SessionId) -> list[PackRow]:
        """Return the packs that this session may rely on. Raises: SessionFencedError."""
        return self._read(lambda connection: packs.live_packs(connection, session_id, self._backend_id))

    def heartbeat(self, session_id: SessionId) -> None:
        """Say that the session makes progress. Raises: SessionFencedError."""
        self.transaction(lambda connection: sessions.beat(connection, session_id))

    def end_session(self, session_id: SessionId) -> None:
        """Close a session without a commit; again is harmless."""
        self.transaction(lambda connection: sessions.close_session(connection, session_id))

    def fence_stale(
        self, *, heartbeat_age_s: float = HEARTBEAT_AGE_MAX_S, age_max_s: float = SESSION_AGE_MAX_S
    ) -> list[SessionRow]:
        """Fence sessions that are dead or too old and return them."""
        return self.transaction(lambda connection: sessions.fence_stale(connection, heartbeat_age_s, age_max_s))

    # Packs

    def insert_pack(self, session_id: SessionId, new: NewPack) -> int:
        """Enter a durable pack and return its number. Raises: SessionFencedError."""
        return self.transaction(lambda connection: packs.insert_pack(connection, session_id, new))

    def packs(self, pack_nos: Collection[int]) -> list[PackRow]:
        return self._read(lambda connection: packs.packs_by_number(connection, pack_nos))

    def all_packs(self, states: Iterable[str]) -> list[PackRow]:
        """Return packs in these states, by number."""
        return self._read(lambda connection: packs.packs_in(connection, states, self._backend_id))

    def unreferenced(self) -> list[PackRow]:
        """Return live packs that no content names and no open session owns."""
        return self._read(lambda connection: packs.unreferenced(connection, self._backend_id))

    def packs_only_of(self, content_ids: Collection[ContentId]) -> list[PackRow]:
        """Return live packs that only these contents name."""
        return self._read(lambda connection: packs.named_only_by(connection, content_ids, self._backend_id))

    def mark_verified(self, pack_no: int) -> None:
        """Remember that a pack was read whole and found right."""
        self.transaction(lambda connection: packs.mark_verified(connection, pack_no))

    # Images and contents

    def begin_image(self, session_id: SessionId, new: NewImage, content_id: ContentId, *, backend_id: int) -> None:
        """Enter an image being saved, claimed by the session. Raises: SessionFencedError."""
        self.transaction(
            lambda connection: images.begin_image(connection, session_id, new, content_id, backend_id=backend_id)
        )

    def note_content(self, session_id: SessionId, image_id: ImageId) -> list[PackRow]:
        """Return an active image's packs, held for this session. Raises: ImageNotFoundError, SessionFencedError."""
        return self.transaction(lambda connection: contents.note_content(connection, session_id, image_id))

    def commit(
        self,
        session_id: SessionId,
        image_id: ImageId,
        content: NewContent,
        pack_nos: Collection[int],
        *,
        unique_name: bool,
        virtual_size: int | None = None,
        recorded_revision: int | None = None,
        is_staged: bool = False,
    ) -> ImageRow:
        """Make the image active and its content complete, in one transaction.

        Args:
            recorded_revision: of an image that may be edited while it is saved: what the record that was put says.
            is_staged: keep the content aside for an import, instead.
        Raises: SessionFencedError, NameTakenError, PackGoneError, ImageNotFoundError, CatalogBusyError.
        """
        try:
            self.transaction(
                lambda connection: images.commit(
                    connection,
                    session_id,
                    image_id,
                    content,
                    pack_nos,
                    unique_name=unique_name,
                    virtual_size=virtual_size,
                    recorded_revision=recorded_revision,
                    is_staged=is_staged,
                )
            )
        except (SessionFencedError, TryAgainError):
            # The answer of a commit that happened may have been lost: the image's own row tells (K5).
            if not self.is_committed(session_id, image_id):
                raise
        return self.image(image_id)

    def snapshot_row(
        self,
        session_id: SessionId,
        parent_id: ImageId,
        new: NewImage,
        *,
        unique_name: bool,
        recorded: ContentId | None = None,
    ) -> ImageRow:
        """Add an image that shares its parent's content, which its record names; closes the session.

        Raises: as commit.
        """
        try:
            self.transaction(
                lambda connection: images.snapshot_row(
                    connection, session_id, parent_id, new, unique_name=unique_name, recorded=recorded
                )
            )
        except (SessionFencedError, TryAgainError):
            if not self.is_committed(session_id, new.id):
                raise
        return self.image(new.id)

    def check_name_free(self, name: str) -> None:
        """Raise NameTakenError when an active image has the name now; the commit decides for good."""
        taken = self._read(lambda connection: images.named(connection, name))
        if taken:
            raise NameTakenError(name, taken)

    def images(self, *, name: str | None = None, include_deleted: bool = False) -> list[ImageRow]:
        return self._read(lambda connection: images.list_images(connection, name, include_deleted))

    def image(self, image_id: ImageId) -> ImageRow:
        """Return an image in any status. Raises: ImageNotFoundError."""
        return self._read(lambda connection: images.image_by_id(connection, image_id))

    def find(self, ref: str) -> ImageRow:
        """Return an active image by id, name or beginning of an id. Raises: ImageNotFoundError, AmbiguousNameError."""
        return self._read(lambda connection: images.find_image(connection, ref))

    def children(self, image_id: ImageId) -> list[ImageRow]:
        """Return the active images made from this one, which may be gone itself."""
        return self._read(lambda connection: images.children(connection, image_id))

    def images_of_packs(self, pack_nos: Collection[int]) -> list[ImageRow]:
        return self._read(lambda connection: images.images_of_packs(connection, pack_nos))

    def delete_image(self, image_id: ImageId) -> None:
        """Delete an image: one status update. Raises: ImageNotFoundError, ProtectedImageError."""
        self.transaction(lambda connection: images.delete_image(connection, image_id))

    def content(self, content_id: ContentId) -> ContentRow:
        """Return a content. Raises: CatalogDamagedError when there is none."""
        return self._read(lambda connection: contents.content_row(connection, content_id))

    def content_packs(self, content_id: ContentId) -> list[PackRow]:
        return self._read(lambda connection: packs.packs_of_content(connection, content_id))

    def totals(self) -> CatalogTotals:
        """Return how many images and contents there are, and what the packs hold."""
        return self._read(figures.totals)

    # Collection

    def dead_contents(self) -> list[ContentId]:
        return self._read(contents.dead_contents)

    def end_dead_saves(self) -> int:
        """End what dead sessions were saving: registered images are queued again, others deleted; returns how many."""
        return self.transaction(uploads.end_dead_saves)

    def deleted_with_content(self) -> list[ImageId]:
        return self._read(contents.deleted_with_content)

    def forget_content(self, image_id: ImageId) -> None:
        """Take the content from a deleted image; its records must be gone."""
        self.transaction(lambda connection: contents.forget_content(connection, image_id))

    def reap_content(self, content_id: ContentId) -> bool:
        """Remove a content that nothing points to; False when something does."""
        return self.transaction(lambda connection: contents.reap_content(connection, content_id))

    def condemn(self, pack_nos: Collection[int]) -> tuple[int, list[int]]:
        """Condemn those of the packs that nothing names; returns the new epoch and them."""
        return self.transaction(lambda connection: collect.condemn(connection, pack_nos))

    def sweep(self, pack_no: int, *, age_min_s: float = 0.0) -> SweepVerdict:
        """Decide whether a condemned pack's object may be removed now."""
        return self.transaction(lambda connection: collect.sweep(connection, pack_no, age_min_s))

    def mark_deleted(self, pack_no: int) -> None:
        """Say that the object of a pack in `deleting` is gone."""
        self.transaction(lambda connection: collect.mark_deleted(connection, pack_no))

    # Orphans

    def pack_states(self, pack_ids: Collection[PackId]) -> dict[PackId, str]:
        """Return the states of those packs that have a row."""
        return self._read(lambda connection: orphans.pack_states(connection, pack_ids, self._backend_id))

    def image_sessions(self, image_ids: Collection[ImageId]) -> dict[ImageId, tuple[str, frozenset[SessionId]]]:
        """Return status and sessions of those images that have a row."""
        return self._read(lambda connection: orphans.image_sessions(connection, image_ids, self._backend_id))

    def known_sessions(self, session_ids: Collection[SessionId]) -> set[SessionId]:
        """Return those of the sessions that have a row, open or ended."""
        return self._read(lambda connection: orphans.known_sessions(connection, session_ids))

    def remember_orphans(self, backend_id: int, names: Collection[str]) -> int:
        """Remember objects that were listed without a row, with an epoch after the listing."""
        return self.transaction(lambda connection: orphans.remember(connection, backend_id, names))

    def ripe_orphans(self, backend_id: int) -> tuple[list[str], int]:
        """Return remembered names that no older open session can explain, and how many wait."""
        return self.transaction(lambda connection: orphans.ripe(connection, backend_id))

    def enable_collection(self) -> bool:
        """Take the latch off that `recover` left on; False when it was not on. Only after a full check."""
        return self.transaction(recover.enable_collection)

    def forget_orphan(self, backend_id: int, name: str) -> None:
        """Say that a remembered object is gone, or has a row after all."""
        self.transaction(lambda connection: orphans.forget(connection, backend_id, name))

    # Inner

    def is_committed(self, session_id: SessionId, image_id: ImageId) -> bool:
        """K5: tell whether a session whose commit gave no answer did commit; asked before anything else ends it."""

        def work(connection: Connection) -> bool:
            row = connection.execute(
                select(sessions_table.c.state).where(sessions_table.c.session_id == session_id).with_for_update()
            ).first()
            if row is None or row.state != "closed":
                return False
            # Not images.session_id: a newer record may be the image's by now. Only the commit closes a session before
            # its caller does.
            status = images.image_by_id(connection, image_id).status
            if status in CLAIMED_STATUSES:
                return uploads.has_staged(connection, session_id, image_id)
            return status != "queued"

        try:
            return self.transaction(work)
        except CasimgError as error:  # the first error says more than this one
            _log.warning("commit.outcome_unknown session=%s error=%s", session_id, error)
            return False

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._database.read(work)


def _known_revision(connection: Connection, label: str) -> str:
    revision = migrate.current_revision(connection)
    if revision is None:
        raise CatalogDamagedError(label, "there is no catalog in this database")
    if not migrate.knows(revision):
        raise NewerFormatError(label, f"schema {revision} is newer than this casimg; upgrade casimg")
    return revision


def _existing(url: str) -> Database:
    """Return a database that is there: SQLite would make an empty file of a wrong path."""
    database = _database(url)
    if database.sqlite_path is not None and not Path(database.sqlite_path).is_file():
        raise RepositoryError(database.label, "the catalog is missing; `casimg recover` makes it anew")
    return database


def _database(url: str) -> Database:
    try:
        return Database(url)
    except ConfigError:
        raise
    except Exception as error:  # SQLAlchemy and drivers have no common root for a bad URL or a missing driver
        raise ConfigError("[catalog] url", f"it cannot be used: {error}") from None
