"""An image, and what storing and restoring it did. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from casimg.ids import ContentId, ImageId


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the catalog knows it.

    Attributes:
        name, disk_format, container_format: empty only when a registry was never told.
        size: plain bytes, holes included; None while it has no data.
        hole_size: of these, bytes in holes.
        parent_id: the image this one is a snapshot of; that image may be gone.
        stores: names of the backends where its data lie; the one that is read first at the front.
        locations: URLs of data that the repository does not keep; without a content they are all that there is.
    """

    id: ImageId
    name: str
    status: str
    disk_format: str
    container_format: str
    size: int | None
    hole_size: int
    content_id: ContentId | None
    parent_id: ImageId | None
    owner: str | None
    visibility: str
    protected: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    stores: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PutReport:
    """What an ingest did, or, as a dry run, would do.

    Attributes:
        size: plain bytes of the source, holes included.
        read_size: bytes read from the source (hints and maps save reading).
        hole_size: bytes in holes.
        known_size: plain bytes found in the repository or earlier in the same source.
        new_size: plain bytes stored new.
        stored_size: bytes written for them to data packs.
        metadata_size: bytes written to metadata packs.
        duration_s: wall time.
    """

    image: Image | None
    size: int
    read_size: int
    hole_size: int
    known_size: int
    new_size: int
    stored_size: int
    metadata_size: int
    duration_s: float
    root: str | None
    """Hex id of the manifest root; None when there is nothing but holes."""


@dataclass(frozen=True, slots=True)
class GetReport:
    """What a restore did.

    Attributes:
        written_size: bytes written, holes not counted unless written as zeros.
        kept_size: bytes that `--resume` found right in the unfinished file.
    """

    image: Image
    target: str
    size: int
    written_size: int
    hole_size: int
    kept_size: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Half-open: `offset` to `offset + size`."""

    offset: int
    size: int
