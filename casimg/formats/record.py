"""Records: what `recover` needs to know of an image, kept beside the packs on the backend.

magic 8 | version 2 | flags 2 | zero 4 | payload size 8 | payload (JSON, keys sorted) | BLAKE3 of all before 32
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from blake3 import blake3

from casimg.constants import FORMAT_VERSION, ID_SIZE, MIB
from casimg.formats.damage import FormatDamage
from casimg.ids import BytesLike

_MAGIC: Final = b"CASIMGrc"
_HEADER: Final = struct.Struct("<8sHH4xQ")
RECORD_SIZE_MAX: Final = 256 * MIB


@dataclass(frozen=True, slots=True)
class TreeRecord:
    """A tree of the content; its root in hex."""

    role: str
    root: str | None
    size: int


@dataclass(frozen=True, slots=True)
class ContentRecord:
    """The content, and the packs that it needs; sizes in bytes."""

    content_id: str
    size: int
    hole_size: int
    trees: tuple[TreeRecord, ...]
    pack_ids: tuple[str, ...]
    hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """A project that the image is shared with, and its answer; times in ISO 8601."""

    member: str
    status: str
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class LocationRecord:
    """Where data of the image lie that the repository does not keep."""

    url: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image and its content, times in ISO 8601.

    The content of data that lie elsewhere alone has an empty id, no trees and no packs.

    Ids are those that mean something without a catalog: packs by pack id, never by number.
    """

    image_id: str
    name: str | None
    status: str
    disk_format: str | None
    container_format: str | None
    owner: str | None
    visibility: str
    protected: bool
    parent_id: str | None
    created_at: str
    updated_at: str
    revision: int
    """How often the metadata had changed; of several records of an image the greatest counts."""
    properties: Mapping[str, str]
    content: ContentRecord
    tags: tuple[str, ...] = ()
    hidden: bool = False
    min_disk: int = 0
    min_ram: int = 0
    virtual_size: int | None = None
    members: tuple[MemberRecord, ...] = ()
    locations: tuple[LocationRecord, ...] = ()


_OPTIONAL: Final[Mapping[str, object]] = {
    "tags": (),
    "hidden": False,
    "min_disk": 0,
    "min_ram": 0,
    "virtual_size": None,
    "members": (),
    "locations": (),
}
"""Fields that are written only when they say something: a record without them means these values."""


def encode_record(record: ImageRecord) -> bytes:
    """Return the object to put. Raises: ValueError when it is larger than 256 MiB."""
    document = asdict(record)
    for name, default in _OPTIONAL.items():
        if getattr(record, name) == default:
            del document[name]
    payload = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    data = _HEADER.pack(_MAGIC, FORMAT_VERSION, 0, len(payload)) + payload
    if len(data) + ID_SIZE > RECORD_SIZE_MAX:
        raise ValueError(f"a record of {len(data)} bytes is too large")
    return data + blake3(data).digest()


def decode_record(data: BytesLike) -> ImageRecord:
    """Return the record that exactly these bytes are. Raises: FormatDamage."""
    if not _HEADER.size + ID_SIZE <= len(data) <= RECORD_SIZE_MAX:
        raise FormatDamage(f"a record cannot have {len(data)} bytes")
    body = memoryview(data)[:-ID_SIZE]
    if blake3(body).digest() != bytes(data[-ID_SIZE:]):
        raise FormatDamage("it does not match its hash")
    magic, version, flags, size = _HEADER.unpack_from(body)
    if magic != _MAGIC or flags or size != len(body) - _HEADER.size:
        raise FormatDamage("it is not a record", 0)
    if version != FORMAT_VERSION:
        raise FormatDamage(f"it is of format version {version}, this casimg reads {FORMAT_VERSION}", 8)
    try:
        document: Any = json.loads(bytes(body[_HEADER.size :]))
        content = document.pop("content")
        trees = tuple(TreeRecord(**tree) for tree in content.pop("trees"))
        pack_ids = tuple(content.pop("pack_ids"))
        tags = tuple(document.pop("tags", ()))
        members = tuple(MemberRecord(**member) for member in document.pop("members", ()))
        locations = tuple(LocationRecord(**location) for location in document.pop("locations", ()))
        whole = ContentRecord(trees=trees, pack_ids=pack_ids, **content)
        return ImageRecord(content=whole, tags=tags, members=members, locations=locations, **document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatDamage(f"its JSON is not a record: {error}") from None
