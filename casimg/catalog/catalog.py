"""The catalog: images, contents, packs, sessions. The only commit point.

Each method is one transaction of docs/protocol.md (or a plain read); none calls a backend while it is open.
Threads: any.
"""

import uuid
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from sqlalchemy import Connection, insert, select

from casimg.catalog import collect, images, migrate, packs, sessions
from casimg.catalog.collect import SweepVerdict
from casimg.catalog.rows import ContentRow, ImageRow, NewContent, NewImage, NewPack, PackRow, RepoRow, SessionRow
from casimg.catalog.schema import backends, repo
from casimg.catalog.schema import sessions as sessions_table
from casimg.catalog.transaction import Database
from casimg.errors import (
    CatalogDamagedError,
    ConfigError,
    NameTakenError,
    NewerFormatError,
    RepositoryError,
    SessionFencedError,
    TryAgainError,
)
from casimg.ids import ContentId, ImageId, SessionId, new_session_id

T = TypeVar("T")
HEARTBEAT_AGE_MAX_S = 900.0
SESSION_AGE_MAX_S = 7 * 86400.0


class Catalog:
    """An open catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def create(cls, url: str, repository_uuid: str, backend_name: str, backend_kind: str) -> "Catalog":
        """Make the schema in an empty database and the one row that says whose it is.

        Raises: RepositoryError when the database is not empty.
        """
        database = _database(url)

        def work(connection: Connection) -> None:
            if migrate.current_revision(connection) is not None:
                raise RepositoryError(database.label, "the database already holds a catalog")
            migrate.upgrade(connection)
            connection.execute(
                insert(repo).values(
                    one=1,
                    repository_uuid=repository_uuid,
                    incarnation=str(uuid.uuid4()),
                    epoch=1,
                    change_no=0,
                    collection_enabled=True,
                )
            )
            connection.execute(insert(backends).values(name=backend_name, kind=backend_kind))

        try:
            database.write(work)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @classmethod
    def open(cls, url: str) -> "Catalog":
        """Open a catalog of exactly this program's schema; nothing is migrated.

        Raises: NewerFormatError, RepositoryError, CatalogDamagedError.
        """
        database = _database(url)

        def check(connection: Connection) -> None:
            revision = migrate.current_revision(connection)
            if revision is None:
                raise CatalogDamagedError(database.label, "there is no catalog in this database")
            if not migrate.knows(connection, revision):
                raise NewerFormatError(database.label, f"schema {revision} is newer than this casimg; upgrade casimg")
            if revision != migrate.head_revision(connection):
                raise RepositoryError(database.label, f"schema {revision} is older than this casimg needs")

        try:
            database.read(check)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        self._database.close()

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

    # Sessions

    def open_session(self, kind: str) -> SessionRow:
        """Open a session and commit it; only then may the live list be read."""
        session_id = new_session_id()
        self._write(lambda connection: sessions.open_session(connection, session_id, kind))
        return self.session(session_id)

    def session(self, session_id: SessionId) -> SessionRow:
        """Return a session. Raises: SessionFencedError when there is none."""
        query = select(sessions_table).where(sessions_table.c.session_id == session_id)
        row = self._database.read(lambda connection: connection.execute(query).first())
        if row is None:
            raise SessionFencedError(session_id)
        return sessions.session_row(row)

    def live_packs(self, session_id: SessionId) -> list[PackRow]:
        """Return the packs that this session may rely on. Raises: SessionFencedError."""
        return self._read(lambda connection: packs.live_packs(connection, session_id))

    def heartbeat(self, session_id: SessionId) -> None:
        """Say that the session makes progress. Raises: SessionFencedError."""
        self._write(lambda connection: sessions.beat(connection, session_id))

    def end_session(self, session_id: SessionId) -> None:
        """Close a session without a commit; again is harmless."""
        self._write(lambda connection: sessions.close_session(connection, session_id))

    def fence_stale(
        self, *, heartbeat_age_s: float = HEARTBEAT_AGE_MAX_S, age_max_s: float = SESSION_AGE_MAX_S
    ) -> list[SessionRow]:
        """Fence sessions that are dead or too old and return them."""
        return self._write(lambda connection: sessions.fence_stale(connection, heartbeat_age_s, age_max_s))

    # Packs

    def insert_pack(self, session_id: SessionId, new: NewPack) -> int:
        """Enter a durable pack and return its number. Raises: SessionFencedError."""
        return self._write(lambda connection: packs.insert_pack(connection, session_id, new))

    def packs(self, pack_nos: Collection[int]) -> list[PackRow]:
        return self._read(lambda connection: packs.packs_by_number(connection, pack_nos))

    def all_packs(self, states: Iterable[str]) -> list[PackRow]:
        """Return packs in these states, by number."""
        return self._read(lambda connection: packs.packs_in(connection, states))

    def unreferenced(self) -> list[PackRow]:
        """Return live packs that no content names and no open session owns."""
        return self._read(packs.unreferenced)

    def packs_only_of(self, content_ids: Collection[ContentId]) -> list[PackRow]:
        """Return live packs that only these contents name."""
        return self._read(lambda connection: packs.named_only_by(connection, content_ids))

    def mark_verified(self, pack_no: int) -> None:
        """Remember that a pack was read whole and found right."""
        self._write(lambda connection: packs.mark_verified(connection, pack_no))

    # Images and contents

    def begin_image(self, session_id: SessionId, new: NewImage, content_id: ContentId) -> None:
        """Enter an image being saved, claimed by the session. Raises: SessionFencedError."""
        self._write(lambda connection: images.begin_image(connection, session_id, new, content_id))

    def note_content(self, session_id: SessionId, image_id: ImageId) -> list[PackRow]:
        """Return an active image's packs, held for this session. Raises: ImageNotFoundError, SessionFencedError."""
        return self._write(lambda connection: images.note_content(connection, session_id, image_id))

    def commit(
        self,
        session_id: SessionId,
        image_id: ImageId,
        content: NewContent,
        pack_nos: Collection[int],
        *,
        unique_name: bool,
    ) -> ImageRow:
        """Make the image active and its content complete, in one transaction.

        Raises: SessionFencedError, NameTakenError, PackGoneError, ImageNotFoundError, CatalogBusyError.
        """
        try:
            self._write(
                lambda connection: images.commit(
                    connection, session_id, image_id, content, pack_nos, unique_name=unique_name
                )
            )
        except (SessionFencedError, TryAgainError):
            # The answer of a commit that happened may have been lost: the image's own row tells (K5).
            if not self._is_committed(session_id, image_id):
                raise
        return self.image(image_id)

    def snapshot_row(self, session_id: SessionId, parent_id: ImageId, new: NewImage, *, unique_name: bool) -> ImageRow:
        """Add an image that shares its parent's content; closes the session.

        Raises: as commit.
        """
        try:
            self._write(
                lambda connection: images.snapshot_row(connection, session_id, parent_id, new, unique_name=unique_name)
            )
        except (SessionFencedError, TryAgainError):
            if not self._is_committed(session_id, new.id):
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

    def images_of_packs(self, pack_nos: Collection[int]) -> list[ImageRow]:
        return self._read(lambda connection: images.images_of_packs(connection, pack_nos))

    def delete_image(self, image_id: ImageId) -> None:
        """Delete an image: one status update. Raises: ImageNotFoundError, ProtectedImageError."""
        self._write(lambda connection: images.delete_image(connection, image_id))

    def content(self, content_id: ContentId) -> ContentRow:
        """Return a content. Raises: CatalogDamagedError when there is none."""
        return self._read(lambda connection: images.content_row(connection, content_id))

    def content_packs(self, content_id: ContentId) -> list[PackRow]:
        return self._read(lambda connection: packs.packs_of_content(connection, content_id))

    # Collection

    def dead_contents(self) -> list[ContentId]:
        return self._read(images.dead_contents)

    def end_dead_saves(self) -> int:
        """Delete images that dead sessions were saving; returns how many."""
        return self._write(images.end_dead_saves)

    def deleted_with_content(self) -> list[ImageId]:
        return self._read(images.deleted_with_content)

    def forget_content(self, image_id: ImageId) -> None:
        """Take the content from a deleted image; its records must be gone."""
        self._write(lambda connection: images.forget_content(connection, image_id))

    def reap_content(self, content_id: ContentId) -> bool:
        """Remove a content that nothing points to; False when something does."""
        return self._write(lambda connection: images.reap_content(connection, content_id))

    def condemn(self, pack_nos: Collection[int]) -> list[int]:
        """Condemn those of the packs that nothing names, and return them."""
        return self._write(lambda connection: collect.condemn(connection, pack_nos))[1]

    def sweep(self, pack_no: int, *, age_min_s: float = 0.0) -> SweepVerdict:
        """Decide whether a condemned pack's object may be removed now."""
        return self._write(lambda connection: collect.sweep(connection, pack_no, age_min_s))

    def mark_deleted(self, pack_no: int) -> None:
        """Say that the object of a pack in `deleting` is gone."""
        self._write(lambda connection: collect.mark_deleted(connection, pack_no))

    def _is_committed(self, session_id: SessionId, image_id: ImageId) -> bool:
        def work(connection: Connection) -> bool:
            row = connection.execute(
                select(sessions_table.c.state).where(sessions_table.c.session_id == session_id).with_for_update()
            ).first()
            if row is None or row.state != "closed":
                return False
            image = images.image_by_id(connection, image_id)
            return image.status == "active" and image.session_id == session_id

        try:
            return self._write(work)
        except Exception:  # the first error says more than this one
            return False

    def _write(self, work: Callable[[Connection], T]) -> T:
        return self._database.write(work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._database.read(work)


def _database(url: str) -> Database:
    try:
        return Database(url)
    except Exception as error:  # SQLAlchemy and drivers have no common root for a bad URL or a missing driver
        raise ConfigError("[catalog] url", f"it cannot be used: {error}") from None
