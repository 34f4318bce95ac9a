"""What `check` asks of the catalog. Plain reads; functions take a connection."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, or_, select

from casimg.catalog.image_rows import is_stored
from casimg.catalog.packs import PACK_COLUMNS, lies_on, pack_row
from casimg.catalog.rows import PackRow
from casimg.catalog.schema import content_packs, contents, image_copies, images, outbox, packs
from casimg.catalog.sessions import time_of
from casimg.ids import ContentId, ImageId

_FINDING_COUNT_MAX = 20


@dataclass(frozen=True, slots=True)
class Verification:
    """When a pack was last read whole: and found right, or found damaged; None when never."""

    row: PackRow
    verified_at: datetime | None
    looked_at: datetime | None


def integrity(connection: Connection) -> list[str]:
    """Return what SQLite says is wrong with its own file; nothing on a server, which looks after itself."""
    if connection.dialect.name != "sqlite":
        return []
    found = connection.exec_driver_sql(f"PRAGMA integrity_check({_FINDING_COUNT_MAX})").scalars().all()
    problems = [str(line) for line in found if line != "ok"]
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(_FINDING_COUNT_MAX):
        problems.append(f"row {row[1]} of {row[0]} names a row of {row[2]} that is not there")
    return problems


def verifications(connection: Connection, backend_id: int | None = None) -> list[Verification]:
    """Return the packs whose object should be there, those never read first, then the least recently read."""
    rows = connection.execute(
        select(*PACK_COLUMNS, packs.c.verified_at)
        .where(packs.c.state.in_(["live", "condemned"]), lies_on(backend_id))
        .order_by(packs.c.pack_no)
    ).all()
    found = []
    for row in rows:
        # A pack known to be damaged was looked at too: else it would come first for ever and hold up the others.
        looked_at = max((at for at in (row.verified_at, row.damaged_at) if at is not None), default=None)
        verified_at = row.verified_at if row.damaged_at is None else None
        found.append((looked_at or 0, row.pack_no, _verification(row, verified_at, looked_at)))
    return [item for _, _, item in sorted(found, key=lambda entry: entry[:2])]


def _verification(row: object, verified_at: int | None, looked_at: int | None) -> Verification:
    return Verification(
        pack_row(row),
        None if verified_at is None else time_of(verified_at),
        None if looked_at is None else time_of(looked_at),
    )


def gone_packs(connection: Connection) -> dict[int, tuple[str, list[ContentId]]]:
    """Return pack number -> (state, contents) of packs that complete contents name and that are on their way out."""
    rows = connection.execute(
        select(content_packs.c.pack_no, packs.c.state, contents.c.content_id)
        .join(contents, contents.c.content_id == content_packs.c.content_id)
        .outerjoin(packs, packs.c.pack_no == content_packs.c.pack_no)
        .where(
            contents.c.state == "complete",
            or_(packs.c.pack_no.is_(None), packs.c.state.not_in(["live", "condemned"])),
        )
        .order_by(content_packs.c.pack_no)
    )
    found: dict[int, tuple[str, list[ContentId]]] = {}
    for row in rows:
        found.setdefault(row.pack_no, (row.state or "unknown", []))[1].append(ContentId(row.content_id))
    return found


def is_behind(connection: Connection, image_id: ImageId) -> bool:
    """Tell whether a change of the image waits for its record to follow."""
    return connection.execute(select(outbox.c.seq).where(outbox.c.image_id == image_id)).first() is not None


def image_ids_of(connection: Connection, content_id: ContentId) -> list[ImageId]:
    """Return the stored images of a content, oldest first."""
    copied = select(image_copies.c.image_id).where(image_copies.c.content_id == content_id)
    rows = connection.execute(
        select(images.c.id)
        .where(or_(images.c.content_id == content_id, images.c.id.in_(copied)), is_stored())
        .order_by(images.c.created_at, images.c.id)
    )
    return [ImageId(row.id) for row in rows]
