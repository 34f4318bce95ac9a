"""What a list of images is asked for: whose eyes, which filters, what order, which page. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from casimg.ids import ImageId

FILTER_OPS: Final = ("eq", "neq", "in", "gt", "gte", "lt", "lte")
PROPERTY_PREFIX: Final = "property:"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose eyes see: an administrator sees everything, others what their project may.

    Attributes:
        project_id: None sees what is public or community only.
    """

    project_id: str | None
    is_admin: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition; an image without a value of the field never meets it.

    Attributes:
        field: a column (`id name status owner visibility disk_format container_format protected hidden min_disk min_ram
            size virtual_size created_at updated_at`), `checksum` (md5), `os_hash_value` and `os_hash_algo` (sha512), or
            `property:<name>`.
        op: properties and hashes know `eq`, `neq` and `in`; `in` takes a tuple of texts.
        value: times are compared in whole seconds, as they are shown.
    """

    field: str
    op: Literal["eq", "neq", "in", "gt", "gte", "lt", "lte"]
    value: str | int | bool | datetime | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """GET /images.

    Attributes:
        filters: all must be met. tags: an image must have all of them.
        visibility: None is Glance's default list: own, public, shared with the viewer and accepted; community images of
            others only when it is "community" or "all".
        member_status: of images shared with the viewer: accepted, pending, rejected or all.
        hidden: only hidden images, or only those that are not.
        sort: (key, ascending); `created_at` and `id` are appended, descending, or in the direction of a single key. An
            image without a value comes before all others when ascending.
        marker: the last image of the page before.
    """

    filters: tuple[Filter, ...] = ()
    tags: tuple[str, ...] = ()
    visibility: str | None = None
    member_status: str = "accepted"
    hidden: bool = False
    sort: tuple[tuple[str, bool], ...] = (("created_at", False),)
    marker: ImageId | None = None
    limit: int = 25


def is_text(value: str) -> bool:
    """Tell whether a database can hold a text: PostgreSQL takes no zero, none takes half a surrogate pair."""
    return "\0" not in value and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))
