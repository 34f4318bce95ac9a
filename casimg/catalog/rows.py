"""Rows of the catalog as frozen values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from casimg.ids import ContentId, ImageId, PackId, SessionId


@dataclass(frozen=True, slots=True)
class RepoRow:
    """Whose catalog it is, and its counters: epochs of sessions, changes of packs."""

    repository_uuid: str
    incarnation: str
    epoch: int
    change_no: int
    collection_enabled: bool


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A writer; `heartbeat` is when it last made progress."""

    session_id: SessionId
    kind: str
    node: str
    pid: int
    state: str
    epoch: int
    heartbeat: datetime
    opened_at: datetime


@dataclass(frozen=True, slots=True)
class NewPack:
    """A pack that is durable on its backend; sizes in bytes."""

    backend_id: int
    pack_id: PackId
    kind: int
    domain: int
    size: int
    trailer_offset: int
    plain_size: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class PackRow:
    """A pack on its backend; sizes in bytes."""

    pack_no: int
    backend_id: int
    pack_id: PackId
    kind: int
    domain: int
    size: int
    trailer_offset: int
    plain_size: int
    chunk_count: int
    state: str
    live_plain_size: int | None = None
    """Plain bytes that some content reaches, as last looked at; None when that is not known."""
    loss_no: int = 0
    """How many contents that named the pack have gone."""
    damaged: bool = False
    """A check found its object missing or damaged: writers do not rely on it."""


@dataclass(frozen=True, slots=True)
class PackTotals:
    """Packs of one kind in one state; sizes in bytes."""

    kind: int
    state: str
    pack_count: int
    size: int
    plain_size: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class CatalogTotals:
    """Counts over the whole catalog."""

    image_counts: Mapping[str, int]
    """By status; a status without images is absent."""
    content_counts: Mapping[str, int]
    """By state."""
    packs: tuple[PackTotals, ...]


@dataclass(frozen=True, slots=True)
class TreeRow:
    """A tree of a content; root None is nothing but zeros."""

    role: str
    root: bytes | None
    size: int


@dataclass(frozen=True, slots=True)
class NewContent:
    """What a commit says of a content; sizes in bytes."""

    content_id: ContentId
    size: int
    hole_size: int
    trees: tuple[TreeRow, ...]
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContentRow:
    """A content; sizes in bytes, None while it is pending."""

    content_id: ContentId
    state: str
    size: int | None
    hole_size: int
    trees: tuple[TreeRow, ...]
    hashes: Mapping[str, str]
    backend_id: int | None = None
    """Where its packs lie; None is the default one."""


@dataclass(frozen=True, slots=True)
class BackendRow:
    """A backend that packs or contents may name."""

    backend_id: int
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class CopyRow:
    """A further content of an image, with the same bytes, on another backend than the first."""

    backend_id: int
    store: str
    content_id: ContentId
    session_id: SessionId
    """Of its record there."""


@dataclass(frozen=True, slots=True)
class NewImage:
    """What a new image begins with; without name and formats only before it has data."""

    id: ImageId
    name: str | None
    disk_format: str | None
    container_format: str | None
    owner: str | None
    visibility: str
    protected: bool
    parent_id: ImageId | None
    properties: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    """None: when the row is inserted. Given, so that the record put before says the same."""
    hidden: bool = False
    min_disk: int = 0
    min_ram: int = 0
    virtual_size: int | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageChange:
    """What to change of an image; None stays as it is."""

    name: str | None = None
    protected: bool | None = None
    visibility: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    """To set; others stay."""
    unset: tuple[str, ...] = ()
    """Properties to remove; one that is not there is no error."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where data of an image lie that the repository does not keep; metadata as JSON has it."""

    url: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageRow:
    """An image with sizes and hashes of its data; sizes in bytes, but for `min_disk` (GiB) and `min_ram` (MiB)."""

    id: ImageId
    name: str | None
    status: str
    content_id: ContentId | None
    session_id: SessionId | None
    parent_id: ImageId | None
    disk_format: str | None
    container_format: str | None
    owner: str | None
    visibility: str
    protected: bool
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    size: int | None
    hole_size: int
    properties: Mapping[str, str]
    revision: int = 0
    """Counts changes of its metadata."""
    hidden: bool = False
    min_disk: int = 0
    min_ram: int = 0
    virtual_size: int | None = None
    tags: tuple[str, ...] = ()
    """Sorted."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """Of the data, by algorithm: "md5", "sha512"; empty when they were not computed."""
    registered: bool = False
    """Made before its data: a save that fails leaves it queued."""
    stores: tuple[str, ...] = ()
    """Names of the backends that a stored image lies on; the one that is read first at the front."""
    backend_id: int | None = None
    """Where `content_id` lies."""
    copies: tuple[CopyRow, ...] = ()
    """Of a stored image: its contents on further backends, the oldest first."""
    locations: tuple[Location, ...] = ()
    """Where its data lie elsewhere, in the order in which they are read; a queued image has those that a try left."""
    hash_algo: str | None = None
    """Of an image whose data lie elsewhere alone: the algorithm of its hash, also while that is still computed."""


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A project that an image is shared with, and what it answered: pending, accepted or rejected."""

    image_id: ImageId
    member: str
    status: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What an owner has; sizes are plain bytes, whatever is shared or compressed."""

    image_count: int
    """Not deleted, whether they have data or not."""
    size: int
    """Of images with data; a content that several images share counts for each, and each copy on a backend counts."""
    uploading_count: int
    """Of those whose data are on their way, or kept aside for an import."""
    staged_size: int = 0
    """Of what is kept aside."""
