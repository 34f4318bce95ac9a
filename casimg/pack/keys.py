"""Keys of objects in a backend. Pure."""

import re

from casimg.ids import ImageId, PackId, SessionId

PACK_PREFIX = "packs/"
RECORD_PREFIX = "records/"
QUARANTINE_PREFIX = "quarantine/"
_RECORD = re.compile(r"records/([0-9a-f-]{36})/([0-9a-f]{32})")
_PACK = re.compile(r"packs/([0-9a-f]{2})/(\1[0-9a-f]{62})")


def pack_key(pack_id: PackId) -> str:
    """Return the key of a pack; two hex digits spread packs over 256 folders."""
    name = pack_id.hex()
    return f"{PACK_PREFIX}{name[:2]}/{name}"


def quarantine_key(pack_id: PackId) -> str:
    """Return the key under which a damaged pack is kept aside; nothing of casimg reads or removes it."""
    return QUARANTINE_PREFIX + pack_key(pack_id).removeprefix(PACK_PREFIX)


def pack_id_of_key(key: str) -> PackId | None:
    """Return the pack id that a key names, None when it is no pack's."""
    match = _PACK.fullmatch(key)
    return None if match is None else PackId(bytes.fromhex(match[2]))


def record_of_key(key: str) -> tuple[ImageId, SessionId] | None:
    """Return image and session that a key names, None when it is no record's."""
    match = _RECORD.fullmatch(key)
    return None if match is None else (ImageId(match[1]), SessionId(match[2]))


def record_key(image_id: ImageId, session_id: SessionId) -> str:
    """Return the key of a record: each session writes its own, so no loser overwrites a winner."""
    return f"{RECORD_PREFIX}{image_id}/{session_id}"
