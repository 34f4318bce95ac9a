"""Rule 12: objects without a row. Functions take the connection of a transaction.

An object that a listing shows and no row explains may belong to a session that has put it and not yet inserted it.
So it is remembered with an epoch bumped after the listing, and removed only when no older session is open and there
is still no row. Sweeping by age instead would take a paused writer's pack just before its insert.
"""

from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, select, update

from casimg.catalog.packs import lies_on
from casimg.catalog.schema import contents, image_copies, images, orphans, packs, repo, sessions
from casimg.catalog.sessions import oldest_open_epoch
from casimg.catalog.transaction import batches
from casimg.ids import ImageId, PackId, SessionId


def remember(connection: Connection, backend_id: int, names: Collection[str]) -> int:
    """O3: bump the epoch and note it for names not yet remembered; forget those no longer found. Returns the epoch."""
    connection.execute(update(repo).values(epoch=repo.c.epoch + 1))
    epoch = int(connection.execute(select(repo.c.epoch)).scalar_one())
    known = set(connection.execute(select(orphans.c.name).where(orphans.c.backend_id == backend_id)).scalars())
    for batch in batches(sorted(known - set(names))):
        connection.execute(delete(orphans).where(orphans.c.backend_id == backend_id, orphans.c.name.in_(batch)))
    for batch in batches(sorted(set(names) - known)):
        connection.execute(
            insert(orphans), [{"backend_id": backend_id, "name": name, "epoch": epoch} for name in batch]
        )
    return epoch


def ripe(connection: Connection, backend_id: int) -> tuple[list[str], int]:
    """O4: return names that no older open session can still explain, and how many wait."""
    oldest = oldest_open_epoch(connection)
    rows = connection.execute(
        select(orphans.c.name, orphans.c.epoch).where(orphans.c.backend_id == backend_id).order_by(orphans.c.name)
    ).all()
    found = [row.name for row in rows if oldest is None or oldest >= row.epoch]
    return found, len(rows) - len(found)


def forget(connection: Connection, backend_id: int, name: str) -> None:
    """Say that an orphan is gone, or was none."""
    connection.execute(delete(orphans).where(orphans.c.backend_id == backend_id, orphans.c.name == name))


def pack_states(
    connection: Connection, pack_ids: Collection[PackId], backend_id: int | None = None
) -> dict[PackId, str]:
    """Return the states of the packs that have a row; with `backend_id`, for that backend."""
    found: dict[PackId, str] = {}
    for batch in batches(sorted(pack_ids)):
        wanted = select(packs.c.pack_id, packs.c.state).where(packs.c.pack_id.in_(batch), lies_on(backend_id))
        rows = connection.execute(wanted)
        found.update((PackId(bytes(row.pack_id)), row.state) for row in rows)
    return found


def image_sessions(
    connection: Connection, image_ids: Collection[ImageId], backend_id: int | None = None
) -> dict[ImageId, tuple[str, frozenset[SessionId]]]:
    """Return status and sessions of the images that have a row: whose records are theirs, or will be.

    Args:
        backend_id: where the records lie; None is anywhere. Of a change on several backends all records have one
            session, so a stored image that has left this one has none here.
    """
    found: dict[ImageId, tuple[str, frozenset[SessionId]]] = {}
    for batch in batches(sorted(image_ids)):
        copies: dict[str, set[SessionId]] = {}
        columns = (image_copies.c.image_id, image_copies.c.backend_id, image_copies.c.session_id)
        for copy in connection.execute(select(*columns).where(image_copies.c.image_id.in_(batch))):
            if backend_id in (None, copy.backend_id):
                copies.setdefault(copy.image_id, set()).add(copy.session_id)
        rows = connection.execute(
            select(images.c.id, images.c.status, images.c.session_id, contents.c.backend_id)
            .outerjoin(contents, contents.c.content_id == images.c.content_id)
            .where(images.c.id.in_(batch))
        )
        for row in rows:
            is_here = None in (backend_id, row.backend_id) or row.backend_id == backend_id
            own = {row.session_id} if row.session_id is not None and is_here else set()
            found[ImageId(row.id)] = (row.status, frozenset(own | copies.get(row.id, set())))
    return found


def known_sessions(connection: Connection, session_ids: Collection[SessionId]) -> set[SessionId]:
    """Return those of the sessions that have a row, whatever became of them."""
    found: set[SessionId] = set()
    for batch in batches(sorted(session_ids)):
        rows = connection.execute(select(sessions.c.session_id).where(sessions.c.session_id.in_(batch)))
        found.update(SessionId(row.session_id) for row in rows)
    return found
