"""Rows of the catalog as clients see them. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from casimg.catalog import ImageRow, MemberRow
from casimg_api.places import Places
from casimg_api.property_protection import May, everything
from casimg_api.stores import Stores

HASH_ALGORITHM: Final = "sha512"
HIDDEN_PROPERTIES: Final = frozenset({"os_glance_stage_host", "os_glance_hash_op_host"})


def time_text(moment: datetime) -> str:
    """Return a time as Glance writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def image_path(image_id: str) -> str:
    return f"/v2/images/{image_id}"


def image_view(row: ImageRow, stores: Stores, places: Places, may: May = everything) -> dict[str, Any]:
    """Return an image as JSON wants it; extra properties stand beside the attributes and never hide them.

    Args:
        may: says which extra properties are shown.
    """
    path = image_path(row.id)
    algorithm = row.hash_algo or (HASH_ALGORITHM if HASH_ALGORITHM in row.hashes else None)
    view: dict[str, Any] = {
        **{
            name: value for name, value in row.properties.items() if name not in HIDDEN_PROPERTIES and may("read", name)
        },
        "name": row.name,
        "disk_format": row.disk_format,
        "container_format": row.container_format,
        "visibility": row.visibility,
        "size": row.size,
        "virtual_size": row.virtual_size,
        "status": row.status,
        "checksum": row.hashes.get("md5"),
        "protected": row.protected,
        "min_ram": row.min_ram,
        "min_disk": row.min_disk,
        "owner": row.owner,
        "os_hidden": row.hidden,
        "os_hash_algo": algorithm,
        "os_hash_value": None if algorithm is None else row.hashes.get(algorithm),
        "id": row.id,
        "created_at": time_text(row.created_at),
        "updated_at": time_text(row.updated_at),
        "tags": list(row.tags),
        "self": path,
        "file": f"{path}/file",
        "schema": "/v2/schemas/image",
    }
    if stores.is_shown and (names := stores.names_of(row)):
        view["stores"] = ",".join(names)
    return {**view, **places.shown(row)}


def member_view(row: MemberRow) -> dict[str, Any]:
    """Return a project that an image is shared with."""
    return {
        "member_id": row.member,
        "image_id": row.image_id,
        "status": row.status,
        "created_at": time_text(row.created_at),
        "updated_at": time_text(row.updated_at),
        "schema": "/v2/schemas/member",
    }


def members_view(rows: Iterable[MemberRow]) -> dict[str, Any]:
    return {"members": [member_view(row) for row in rows], "schema": "/v2/schemas/members"}
