"""Which keys a backend takes. Pure."""

import re

from casimg.errors import InputError

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*")


def check_key(key: str) -> None:
    """Raise InputError for a key that is no relative path of plain parts."""
    if len(key) > 512 or not _KEY.fullmatch(key):
        raise InputError(f"{key[:80]!r} is not a key of a backend")
