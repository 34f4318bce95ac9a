"""Rules of images that no JSON schema says: reserved names, lengths, numbers, counts. Pure."""

import re
from typing import Any, Final

from casimg.ids import ImageId
from casimg_api.errors import HttpError

RESERVED: Final = frozenset({"location", "deleted", "deleted_at"})
RESERVED_PREFIX: Final = "os_glance"
NAME_LENGTH_MAX: Final = 255
INT_MAX: Final = (1 << 31) - 1
"""What an INTEGER column holds in every database."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def image_id_of(text: str) -> ImageId:
    """Return an id as the catalog spells it: UUIDs in lower case; anything else as it is, and no image has it."""
    return ImageId(text.lower() if _UUID.fullmatch(text) else text)


def is_uuid(text: str) -> bool:
    """Return whether a text is a UUID in its 36-character form."""
    return _UUID.fullmatch(text) is not None


def check_reserved(name: str) -> None:
    """Raise 403 for names of properties that clients never set."""
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        raise reserved(name)


def reserved(name: str) -> HttpError:
    """Return the refusal to set a property."""
    return HttpError(403, f"Attribute '{name}' is reserved.")


def check_name(name: str) -> None:
    """Raise 400 for a name of a property that is too long."""
    if len(name) > NAME_LENGTH_MAX:
        raise HttpError(400, f"Custom property should not be greater than {NAME_LENGTH_MAX} characters.")


def plain_int(name: str, value: Any) -> int:
    """Return a number that a column holds. Raises: HttpError 400 when it is negative or too large."""
    found = int(value)
    if not 0 <= found <= INT_MAX:
        raise HttpError(400, f"Invalid value '{value}' for parameter '{name}': it must be from 0 to {INT_MAX}")
    return found


def check_count(what: str, attempted: int, quota: int) -> None:
    """Raise 413 when there would be more of something than a quota allows; a negative one allows any number."""
    if 0 <= quota < attempted:
        raise HttpError(
            413,
            f"The limit has been exceeded on the number of allowed image {what}. "
            f"Attempted: {attempted}, Maximum: {quota}",
        )
