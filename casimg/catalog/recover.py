"""Rows of a catalog made anew from the backend (rule 15), and the end of the one before it.

Until `finish` the new catalog has no `repo` row: it cannot be opened, and no session can begin in it. Functions take
the connection of a transaction.
"""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, text, update

from casimg.catalog import image_rows as rows
from casimg.catalog.engine import now_us
from casimg.catalog.locations import Located, put_rows, say
from casimg.catalog.outbox import note_change
from casimg.catalog.processes import node_name, own_pid
from casimg.catalog.rows import MemberRow, NewContent, NewImage, NewPack
from casimg.catalog.schema import (
    content_hashes,
    content_packs,
    content_trees,
    contents,
    image_copies,
    image_members,
    packs,
    repo,
    sessions,
)
from casimg.catalog.sessions import micros_of
from casimg.catalog.transaction import batches
from casimg.ids import ContentId, SessionId


@dataclass(frozen=True, slots=True)
class NewCopy:
    """A further content of an image, and the session of the record that says so."""

    backend_id: int
    content_id: ContentId
    session_id: SessionId


def close_for_good(connection: Connection) -> int:
    """End a catalog that is about to be replaced: nobody commits in it or opens a session there any more.

    Returns: how many open sessions were fenced.
    """
    done = connection.execute(update(sessions).where(sessions.c.state == "open").values(state="fenced"))
    connection.execute(delete(repo))
    return int(done.rowcount)


def file_problem(connection: Connection) -> str | None:
    """Return what is wrong with the file of a SQLite catalog, None for a sound one and for servers."""
    if connection.dialect.name != "sqlite":
        return None
    found = str(connection.execute(text("PRAGMA integrity_check(1)")).scalar())
    return None if found == "ok" else found


def insert_ended_session(connection: Connection, session_id: SessionId, kind: str, opened_at: datetime | None) -> None:
    """Enter a session that wrote what is there and is over; again is harmless."""
    if connection.execute(select(sessions.c.epoch).where(sessions.c.session_id == session_id)).first() is not None:
        return
    now = now_us(connection)
    pid, pid_start = own_pid()
    connection.execute(
        insert(sessions).values(
            session_id=session_id,
            kind=kind,
            node=node_name(),
            pid=pid,
            pid_start=pid_start,
            state="closed",
            epoch=0,
            beats=0,
            heartbeat=now,
            opened_at=now if opened_at is None else micros_of(opened_at),
        )
    )


def insert_packs(
    connection: Connection, session_id: SessionId, found: Sequence[tuple[NewPack, bool]], change_no: int
) -> list[int]:
    """Enter packs (with: is it damaged) and return their numbers; the database gives them, so none comes twice."""
    now = now_us(connection)
    numbers: list[int] = []
    for offset, (new, damaged) in enumerate(found, 1):
        done = connection.execute(
            insert(packs).values(
                backend_id=new.backend_id,
                pack_id=new.pack_id,
                kind=new.kind,
                domain=new.domain,
                size=new.size,
                trailer_offset=new.trailer_offset,
                plain_size=new.plain_size,
                chunk_count=new.chunk_count,
                state="live",
                session_id=session_id,
                change_no=change_no + offset,
                created_at=now,
                damaged_at=now if damaged else None,
            )
        )
        key = done.inserted_primary_key
        if key is None:
            raise RuntimeError("the database gave no number to the pack")
        numbers.append(int(key[0]))
    return numbers


def insert_content(
    connection: Connection, session_id: SessionId, content: NewContent, pack_nos: Collection[int], backend_id: int
) -> None:
    """Enter a complete content with the packs that hold it."""
    connection.execute(
        insert(contents).values(
            content_id=content.content_id,
            state="complete",
            session_id=session_id,
            size=content.size,
            hole_size=content.hole_size,
            created_at=now_us(connection),
            backend_id=backend_id,
        )
    )
    for tree in content.trees:
        connection.execute(
            insert(content_trees).values(content_id=content.content_id, role=tree.role, root=tree.root, size=tree.size)
        )
    for algo, value in content.hashes.items():
        connection.execute(insert(content_hashes).values(content_id=content.content_id, algo=algo, value=value))
    for batch in batches(sorted(set(pack_nos))):
        connection.execute(
            insert(content_packs), [{"content_id": content.content_id, "pack_no": pack_no} for pack_no in batch]
        )


def insert_image(
    connection: Connection,
    session_id: SessionId,
    new: NewImage,
    content_id: ContentId | None,
    *,
    created_at: datetime,
    updated_at: datetime,
    revision: int,
    status: str = "active",
    members: Sequence[MemberRow] = (),
    copies: Sequence[NewCopy] = (),
    is_behind: bool = False,
    located: Located | None = None,
) -> None:
    """Enter a stored image; `session_id` is that of its record, and gets an ended session.

    Args:
        content_id: None for one whose data lie elsewhere alone, as `located` says.
        is_behind: some record of it is, and is to be written anew.
    """
    insert_ended_session(connection, session_id, "ingest", created_at)
    rows.insert_image(
        connection,
        new,
        micros_of(created_at),
        status=status,
        session_id=session_id,
        content_id=content_id,
        updated_at=micros_of(updated_at),
        revision=revision,
    )
    for batch in batches(members):
        connection.execute(
            insert(image_members),
            [
                {
                    "image_id": new.id,
                    "member": row.member,
                    "status": row.status,
                    "created_at": micros_of(row.created_at),
                    "updated_at": micros_of(row.updated_at),
                }
                for row in batch
            ],
        )
    for copy in copies:
        insert_ended_session(connection, copy.session_id, "ingest", created_at)
        connection.execute(
            insert(image_copies).values(
                image_id=new.id,
                backend_id=copy.backend_id,
                content_id=copy.content_id,
                session_id=copy.session_id,
                created_at=micros_of(created_at),
            )
        )
    if is_behind:
        note_change(connection, new.id)
    if located is not None and located.locations:
        put_rows(connection, new.id, located.locations)
    if located is not None and content_id is None:
        say(connection, new.id, located)


def finish(connection: Connection, repository_uuid: str, incarnation: str, change_no: int) -> None:
    """Say whose the catalog is: from now on it is one, with the latch on until a full check."""
    connection.execute(
        insert(repo).values(
            one=1,
            repository_uuid=repository_uuid,
            incarnation=incarnation,
            epoch=1,
            change_no=change_no,
            collection_enabled=False,
        )
    )


def enable_collection(connection: Connection) -> bool:
    """Take the latch off; False when it was not on."""
    done = connection.execute(update(repo).where(repo.c.collection_enabled.is_(False)).values(collection_enabled=True))
    return bool(done.rowcount)


def new_incarnation() -> str:
    return str(uuid.uuid4())
