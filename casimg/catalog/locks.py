"""A property as a lock: who gives an image one that it does not have holds it, until he takes it away again.

Glance tells so whose import an image waits for. Functions take a connection.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, Select, delete, insert, select

from casimg.catalog.edits import hold
from casimg.catalog.schema import image_properties
from casimg.errors import BadStatusError, ImageLockedError, NotLockedError
from casimg.ids import ImageId


def lock(
    connection: Connection, image_id: ImageId, name: str, value: str, status: str, beside: Mapping[str, str]
) -> None:
    """Give an image of this status the property, and others beside it.

    Raises: ImageNotFoundError, BadStatusError, ImageLockedError; all mean roll back.
    """
    found = hold(connection, image_id).status
    if found != status:
        raise BadStatusError(image_id, found, f"it must be {status}")
    # Asked under the image's lock: nobody else gives it one now.
    holder = connection.execute(_value_of(image_id, name)).scalar()
    if holder is not None:
        raise ImageLockedError(image_id, holder)
    _put(connection, image_id, {**beside, name: value})


def unlock(connection: Connection, image_id: ImageId, name: str, value: str, beside: Mapping[str, str]) -> None:
    """Take the property away if it has this value, and set others.

    Raises: ImageNotFoundError, NotLockedError; both mean roll back.
    """
    hold(connection, image_id)
    if connection.execute(_value_of(image_id, name)).scalar() != value:
        raise NotLockedError(image_id, value)
    _remove(connection, image_id, name)
    _put(connection, image_id, beside)


def _value_of(image_id: ImageId, name: str) -> Select[tuple[str]]:
    return select(image_properties.c.value).where(
        image_properties.c.image_id == image_id, image_properties.c.name == name
    )


def _put(connection: Connection, image_id: ImageId, properties: Mapping[str, str]) -> None:
    for name, value in properties.items():
        _remove(connection, image_id, name)
        connection.execute(insert(image_properties).values(image_id=image_id, name=name, value=value))


def _remove(connection: Connection, image_id: ImageId, name: str) -> None:
    connection.execute(
        delete(image_properties).where(image_properties.c.image_id == image_id, image_properties.c.name == name)
    )


__all__ = ["lock", "unlock"]
