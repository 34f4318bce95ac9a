"""Projects that an image is shared with. Functions take the connection of a transaction.

Sharing changes what the image's record must say, so it counts as a change of the image, but not as its last update.
"""

from sqlalchemy import Connection, Row, delete, insert, select, update

from casimg.catalog.engine import now_us
from casimg.catalog.rows import MemberRow
from casimg.catalog.schema import image_members
from casimg.catalog.sessions import time_of
from casimg.errors import MemberExistsError, MemberNotFoundError
from casimg.ids import ImageId


def members_of(connection: Connection, image_id: ImageId) -> list[MemberRow]:
    """Return the members of an image, oldest first."""
    wanted = select(image_members).where(image_members.c.image_id == image_id)
    rows = connection.execute(wanted.order_by(image_members.c.created_at, image_members.c.member))
    return [_member_row(row) for row in rows]


def member(connection: Connection, image_id: ImageId, name: str) -> MemberRow:
    """Return one member. Raises: MemberNotFoundError."""
    wanted = select(image_members).where(image_members.c.image_id == image_id, image_members.c.member == name)
    row = connection.execute(wanted).first()
    # MariaDB takes "web" and "web " for equal.
    if row is None or row.member != name:
        raise MemberNotFoundError(image_id, name)
    return _member_row(row)


def add_member(connection: Connection, image_id: ImageId, name: str) -> None:
    """Share an image that is locked; the answer is pending. Raises: MemberExistsError."""
    taken = select(image_members.c.member).where(image_members.c.image_id == image_id, image_members.c.member == name)
    if connection.execute(taken).first() is not None:
        raise MemberExistsError(image_id, name)
    now = now_us(connection)
    connection.execute(
        insert(image_members).values(image_id=image_id, member=name, status="pending", created_at=now, updated_at=now)
    )


def set_member_status(connection: Connection, image_id: ImageId, name: str, status: str) -> None:
    """Keep a member's answer. Raises: MemberNotFoundError."""
    member(connection, image_id, name)
    connection.execute(
        update(image_members)
        .where(image_members.c.image_id == image_id, image_members.c.member == name)
        .values(status=status, updated_at=now_us(connection))
    )


def remove_member(connection: Connection, image_id: ImageId, name: str) -> None:
    """Share an image that is locked no more with a member. Raises: MemberNotFoundError."""
    member(connection, image_id, name)
    connection.execute(
        delete(image_members).where(image_members.c.image_id == image_id, image_members.c.member == name)
    )


def _member_row(row: Row[tuple[str, str, str, int, int]]) -> MemberRow:
    return MemberRow(ImageId(row.image_id), row.member, row.status, time_of(row.created_at), time_of(row.updated_at))
