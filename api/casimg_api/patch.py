"""Both JSON-patch dialects of Glance, from a request's body to an edit of an image. Pure.

`application/openstack-images-v2.1-json-patch` says `{"op": "add", "path": "/x", "value": 1}`, the older v2.0 form
`{"add": "/x", "value": 1}`; tempest sends the older one for everything. A body is checked whole before the image is
looked at, so a malformed one is 400 whatever it names.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol, cast

from casimg.catalog import ImageRow
from casimg.registry import Edit
from casimg_api.config import ImagesConfig
from casimg_api.errors import HttpError
from casimg_api.property_protection import May
from casimg_api.property_protection import Operation as PropertyOperation
from casimg_api.rules import check_count, check_name, check_reserved, plain_int, reserved

V20: Final = "application/openstack-images-v2.0-json-patch"
V21: Final = "application/openstack-images-v2.1-json-patch"
ACCEPT_PATCH: Final = f"{V20}, {V21}"
Operation = Literal["add", "remove", "replace"]
OPERATIONS: Final[tuple[Operation, ...]] = ("add", "remove", "replace")

READ_ONLY: Final = frozenset(
    {
        *("created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file"),
        *("schema", "id", "os_hash_algo", "os_hash_value", "stores"),
    }
)
FIELD_OF: Final = {
    "name": "name",
    "disk_format": "disk_format",
    "container_format": "container_format",
    "owner": "owner",
    "visibility": "visibility",
    "protected": "protected",
    "os_hidden": "hidden",
    "min_disk": "min_disk",
    "min_ram": "min_ram",
    "tags": "tags",
}
"""Attributes that can be set, by their names on the wire."""

_DEPTHS: Final = {"locations": {"add": 2, "remove": 2, "replace": 1}}
_FORMATS: Final = frozenset({"disk_format", "container_format"})
_OPEN_FOR_FORMATS: Final = frozenset({"queued"})
"""Statuses in which formats may change; Glance lets them while data that were inspected by them are imported."""


@dataclass(frozen=True, slots=True)
class Change:
    """One operation of a patch."""

    op: Operation
    path: tuple[str, ...]
    value: Any = None
    adds_only_new: bool = False
    """The older dialect: an `add` of what is there is a conflict."""


class Permissions(Protocol):
    """Says whether the caller may do what a change asks; refuses with an HttpError."""

    @property
    def is_admin(self) -> bool: ...
    @property
    def may(self) -> May: ...
    def set_property(self, name: str, value: object) -> None: ...
    def set_locations(self) -> None: ...
    def delete_locations(self) -> None: ...


class Located(Protocol):
    """Where the image's data shall lie, as changes ask; refuses with an HttpError."""

    def change(self, change: Change, formats: Sequence[str | None]) -> None: ...
    def edit(self) -> Edit: ...


def dialect(content_type: str | None) -> str:
    """Return the media type of a patch. Raises: HttpError 415 with `Accept-Patch` for any other."""
    found = (content_type or "").partition(";")[0].strip().lower()
    if found not in (V20, V21):
        raise HttpError(
            415,
            "The request media type is not supported by this server.",
            detail=f"Image PATCH expects Content-Type one of: {ACCEPT_PATCH}",
            headers={"Accept-Patch": ACCEPT_PATCH},
        )
    return found


def parse(media_type: str, body: Any, validate: Callable[[dict[str, Any]], None]) -> tuple[Change, ...]:
    """Return the changes that a body asks for.

    Args:
        media_type: V20 or V21.
        validate: raises HttpError 400 for attributes that the schema of an image does not allow.
    Raises: HttpError 400 when malformed, 403 for what clients never set.
    """
    if not isinstance(body, list):
        raise HttpError(400, "Request body must be a JSON array of operation objects.")
    return tuple(_change(media_type, item, validate) for item in body)


def _change(media_type: str, item: Any, validate: Callable[[dict[str, Any]], None]) -> Change:
    if not isinstance(item, dict):
        raise HttpError(400, "Operations must be JSON objects.")
    op, pointer = _operation_v21(item) if media_type == V21 else _operation_v20(item)
    path = decode_pointer(pointer)
    if len(path) != _DEPTHS.get(path[0], {}).get(op, 1):
        raise HttpError(400, f"Invalid JSON pointer for this resource: '/{'/'.join(path)}'")
    value = None
    if op != "remove":
        if "value" not in item:
            raise HttpError(400, f'Operation "{op}" requires a member named "value".')
        value = item["value"]
    name = path[0]
    if name in READ_ONLY:
        raise HttpError(403, f"Attribute '{name}' is read-only.")
    check_reserved(name)
    if op != "remove":
        check_name(name)
        validate({name: [value] if len(path) > 1 else value})
    return Change(op, path, value, adds_only_new=media_type == V20)


def _operation_v21(item: dict[str, Any]) -> tuple[Operation, object]:
    op = item.get("op")
    if op not in OPERATIONS:
        raise HttpError(400, f"Invalid operation: `{op}`. It must be one of the following: {', '.join(OPERATIONS)}.")
    if "path" not in item:
        raise HttpError(400, "Unable to find 'path' in JSON Schema change")
    return cast(Operation, op), item["path"]


def _operation_v20(item: dict[str, Any]) -> tuple[Operation, object]:
    found = [op for op in OPERATIONS if op in item]
    if len(found) != 1:
        raise HttpError(400, 'Operation objects must contain exactly one member named "add", "remove", or "replace".')
    return found[0], item[found[0]]


def decode_pointer(pointer: object) -> tuple[str, ...]:
    """Return the parts of a JSON pointer; only those that begin with / and have no empty part inside."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise HttpError(400, f'Pointer `{pointer}` does not start with "/".')
    if re.search(r"/\s*?/", pointer):
        raise HttpError(400, f'Pointer `{pointer}` contains adjacent "/".')
    if len(pointer) > 1 and pointer.endswith("/"):
        raise HttpError(400, f'Pointer `{pointer}` ends with "/".')
    if re.search(r"~[^01]", pointer) or pointer.endswith("~"):
        raise HttpError(400, f'Pointer `{pointer}` contains "~" not part of a recognized escape sequence.')
    return tuple(part.replace("~1", "/").replace("~0", "~").strip() for part in pointer[1:].split("/"))


@dataclass(slots=True)
class _Draft:
    """An image while a patch is applied to it."""

    fields: dict[str, Any]
    properties: dict[str, str]
    may: May
    touched: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        """Return whether there is such an attribute, or a property that the caller may read."""
        return name in FIELD_OF or (name in self.properties and self.may("read", name))

    def set(self, name: str, value: Any) -> None:
        if name in FIELD_OF:
            self.fields[name] = value
            self.touched.add(FIELD_OF[name])
            return
        self.touched.add("properties")
        if name not in self.properties:
            self._check("create", name)
        else:
            self._check("delete" if value is None else "update", name)
        if value is None:  # kernel_id and ramdisk_id may be: no property has no value
            self.properties.pop(name, None)
        else:
            self.properties[name] = value

    def _check(self, operation: PropertyOperation, name: str) -> None:
        if not self.may(operation, name):
            raise reserved(name)


def apply(
    changes: tuple[Change, ...],
    row: ImageRow,
    allow: Permissions,
    config: ImagesConfig,
    located: Located | None = None,
) -> Edit:
    """Return the edit that a patch makes of an image.

    Args:
        located: of a site where locations are seen; None when they are invisible.
    Raises: HttpError 403 for what may not be set, 409 for what is there or is not, 413 for too many of something.
    """
    values = {
        "name": row.name,
        "disk_format": row.disk_format,
        "container_format": row.container_format,
        "owner": row.owner,
        "visibility": row.visibility,
        "protected": row.protected,
        "os_hidden": row.hidden,
        "min_disk": row.min_disk,
        "min_ram": row.min_ram,
        "tags": row.tags,
    }
    draft = _Draft(values, dict(row.properties), allow.may)
    for change in changes:
        name = change.path[0]
        if name == "locations":
            _change_locations(change, allow, located, (draft.fields["disk_format"], draft.fields["container_format"]))
            continue
        if change.op != "remove" and name == "owner" and not allow.is_admin:
            raise HttpError(403, "Owner can't be updated by non admin.")
        allow.set_property(name, change.value)
        if change.op == "remove":
            _remove(draft, name)
        else:
            _set(draft, change, row)
    if len(draft.properties) > len(row.properties) or set(draft.properties) - set(row.properties):
        check_count("properties", len(draft.properties), config.image_property_quota)
    if "tags" in draft.touched:
        check_count("tags", len(draft.fields["tags"]), config.image_tag_quota)
    edits: dict[str, Any] = {FIELD_OF[name]: value for name, value in draft.fields.items()}
    edits["properties"] = draft.properties
    edit = Edit() if located is None else located.edit()
    return replace(edit, **{name: edits[name] for name in draft.touched})


def _set(draft: _Draft, change: Change, row: ImageRow) -> None:
    name, value = change.path[0], change.value
    if change.op == "replace" and not draft.has(name):
        raise HttpError(409, f"Property {name} does not exist.")
    if change.op == "add" and change.adds_only_new and draft.has(name):
        raise HttpError(409, f"Property {name} already present.")
    if name in _FORMATS and row.status not in _OPEN_FOR_FORMATS:
        raise HttpError(403, f"Attribute {name} can be only replaced for a queued image.")
    if name in ("min_disk", "min_ram"):
        value = plain_int(name, value)
    elif name == "tags":
        value = tuple(sorted(set(value)))
    draft.set(name, value)


def _remove(draft: _Draft, name: str) -> None:
    if name in FIELD_OF:
        raise HttpError(403, f"Property {name} may not be removed.")
    if not draft.has(name):
        raise HttpError(409, f"Property {name} does not exist.")
    draft.set(name, None)


def _change_locations(
    change: Change, allow: Permissions, located: Located | None, formats: Sequence[str | None]
) -> None:
    """Change locations, or refuse to, in the order in which Glance looks."""
    if change.op == "replace" and not change.value:
        raise HttpError(403, "Cannot set locations to empty list.")
    if change.op == "remove":
        allow.delete_locations()
    else:
        allow.set_locations()
    if located is None:
        raise HttpError(403, f"It's not allowed to {change.op} locations if locations are invisible.")
    located.change(change, formats)
