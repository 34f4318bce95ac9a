"""`/v2/images` and `/v2/images/{id}`: create, list, show, change, delete."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from casimg.catalog import ImageRow
from casimg.errors import ChangedMeanwhileError, ImageNotFoundError
from casimg.ids import ImageId
from casimg.registry import NewEntry
from casimg_api import listing, patch
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.location_changes import LocationChanges, Sizes
from casimg_api.policy import forbidden, image_target
from casimg_api.property_protection import May
from casimg_api.requests import json_body, json_object, query
from casimg_api.routes import Route
from casimg_api.rules import check_count, check_name, check_reserved, image_id_of, is_uuid, plain_int, reserved
from casimg_api.urls import absolute_url
from casimg_api.views import image_path, image_view

PATCH_ATTEMPTS_MAX: Final = 10
"""So often is a change made anew because somebody else was faster, before that is a conflict."""

SET_AT_CREATION: Final = frozenset(
    {"id", "name", "visibility", "protected", "os_hidden", "owner", "container_format", "disk_format", "tags"}
    | {"min_disk", "min_ram"}
)

_VISIBILITY_RULES: Final = {"public": "publicize_image", "community": "communitize_image"}


def visible_image(call: Call, image_id: str) -> ImageRow:
    """Return an image that the caller may see. Raises: ImageNotFoundError, HttpError 404."""
    row = call.registry.show(image_id_of(image_id), call.caller.viewer)
    if call.caller.is_anonymous and row.visibility != "public":
        raise ImageNotFoundError(row.id)
    return row


def create(call: Call) -> None:
    """POST /images: register an image; its data comes later."""
    send_made(call, call.registry.create(new_entry(call, json_object(call), {})))


def new_entry(call: Call, attributes: dict[str, Any], inherited: Mapping[str, str]) -> NewEntry:
    """Return the image that a body describes, when the caller may make it.

    Args:
        inherited: extra properties that it has unless the body says otherwise.
    Raises: HttpError 400, 403, 413.
    """
    for name in ("direct_url", "self", "file", "schema", "stores"):
        if name in attributes:
            raise HttpError(403, f"Attribute '{name}' is read-only.")
    call.services.schemas.validate_image(attributes)
    image_id = attributes.get("id")
    if image_id is not None and not is_uuid(image_id):
        raise HttpError(400, "Provided object does not match schema 'image': data.id must be a UUID")
    said = _properties(attributes)
    may = call.may
    for name in said:
        if not may("create", name):
            raise reserved(name)
    properties = {**inherited, **said}
    owner = attributes.get("owner", call.caller.project_id)
    visibility = attributes.get("visibility", "shared")
    _check_creation(call, owner, visibility, said=attributes.get("visibility", "private"))
    for name in patch.READ_ONLY - {"id"}:
        if name in attributes:
            raise HttpError(403, f"Attribute '{name}' is read-only.")
    tags = tuple(sorted(set(attributes.get("tags", ()))))
    check_count("tags", len(tags), call.config.images.image_tag_quota)
    check_count("properties", len(properties), call.config.images.image_property_quota)
    call.limits.check_new_image(call.caller.project_id)
    return NewEntry(
        id=None if image_id is None else image_id_of(image_id),
        name=attributes.get("name"),
        disk_format=attributes.get("disk_format"),
        container_format=attributes.get("container_format"),
        owner=owner,
        visibility=visibility,
        protected=attributes.get("protected", False),
        hidden=attributes.get("os_hidden", False),
        min_disk=plain_int("min_disk", attributes.get("min_disk", 0)),
        min_ram=plain_int("min_ram", attributes.get("min_ram", 0)),
        tags=tags,
        properties=properties,
        parent_id=_parent(call, properties),
    )


def send_made(call: Call, row: ImageRow) -> None:
    """Answer with an image that was just made."""
    send_json(call, image_view(row, call.stores, call.places, call.may), 201)
    call.resp.location = absolute_url(call.req.env, call.config.server, image_path(row.id))
    methods = call.config.image_import.enabled_import_methods
    if methods:
        call.resp.set_header("OpenStack-image-import-methods", ",".join(methods))
    if call.stores.is_shown:
        call.resp.set_header("OpenStack-image-store-ids", ",".join(store.name for store in call.stores.all))


def _properties(attributes: dict[str, Any]) -> dict[str, str]:
    """Return what of a new image's attributes are extra properties. Raises: HttpError 400, 403."""
    found: dict[str, str] = {}
    for name, value in attributes.items():
        if name in SET_AT_CREATION or name in patch.READ_ONLY:
            continue
        check_name(name)
        check_reserved(name)
        if name == "locations":
            raise HttpError(403, "Attribute 'locations' is reserved.")
        if value is not None:  # kernel_id and ramdisk_id may be: no property has no value
            found[name] = value
    return found


def _check_creation(call: Call, owner: str | None, visibility: str, *, said: str) -> None:
    """Raise 403 unless the caller may create such an image for such an owner."""
    target: dict[str, object] = {"visibility": said}
    if owner is not None:
        target |= {"owner": owner, "project_id": owner}
    if not call.policy.allows(call.caller, "add_image", target):
        if owner != call.caller.project_id:
            raise HttpError(403, f"You are not permitted to create images owned by '{owner}'")
        raise forbidden("add_image")
    if visibility in _VISIBILITY_RULES:
        call.policy.enforce(call.caller, _VISIBILITY_RULES[visibility], target)


def _parent(call: Call, properties: dict[str, str]) -> ImageId | None:
    """Return the image that a snapshot of Nova says it was made from, when the caller may see it."""
    named = properties.get("base_image_ref", "")
    if not is_uuid(named):
        return None
    try:
        return visible_image(call, named).id
    except ImageNotFoundError:
        return None


def index(call: Call) -> None:
    """GET /images: one page of what the caller may see."""
    request = listing.parse(query(call.req), call.config.images)
    if call.caller.is_anonymous and request.query.visibility in (None, "all"):
        request = replace(request, query=replace(request.query, visibility="public"))
    target = {} if call.caller.project_id is None else {"project_id": call.caller.project_id}
    call.policy.enforce(call.caller, "get_images", target)
    may = call.may
    # What may not be read is not found out by asking for it either.
    is_readable = all(may("read", name) for name in listing.properties_asked(request.query))
    rows = call.registry.list(request.query, call.caller.viewer) if request.query.limit and is_readable else []
    shown = _allowed(call, rows)
    full = bool(shown) and len(rows) == request.query.limit
    send_json(
        call,
        {
            "images": [image_view(row, call.stores, call.places, may) for row in shown],
            **listing.page_links(request.fields, shown[-1].id if full else None, "/v2/images"),
            "schema": "/v2/schemas/images",
        },
    )


def _allowed(call: Call, rows: Sequence[ImageRow]) -> list[ImageRow]:
    """Return the images of a page that the rule `get_image` lets the caller see.

    Cost: the default rule looks at owner and visibility alone, so it is asked once for each pair of them.
    """
    known: dict[tuple[str | None, str], bool] = {}
    by_kind = call.policy.is_default("get_image")
    shown: list[ImageRow] = []
    for row in rows:
        kind = (row.owner, row.visibility)
        allowed = known.get(kind) if by_kind else None
        if allowed is None:
            allowed = call.policy.allows(call.caller, "get_image", image_target(call.caller, row))
            known[kind] = allowed
        if allowed:
            shown.append(row)
    return shown


def show(call: Call, image_id: str) -> None:
    """GET /images/{id}."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "get_image", row)
    send_json(call, image_view(row, call.stores, call.places, call.may))


def update(call: Call, image_id: str) -> None:
    """PATCH /images/{id}, in both dialects."""
    media_type = patch.dialect(call.req.content_type)
    changes = patch.parse(media_type, json_body(call), call.services.schemas.validate_image)
    sizes = Sizes(call.imports.http_store)
    for _ in range(PATCH_ATTEMPTS_MAX):
        row = visible_image(call, image_id)
        if changes:
            located = LocationChanges(call, row, sizes) if call.config.images.show_multiple_locations else None
            edit = patch.apply(changes, row, _Permissions(call, row, call.may), call.config.images, located)
            try:
                row = call.registry.edit(row.id, edit, revision=row.revision)
                for store in () if located is None else located.left_stores:
                    row = call.registry.remove_copy(row.id, store)
            except ChangedMeanwhileError:
                continue
        else:
            call.policy.enforce_on_image(call.caller, "get_image", row)
        send_json(call, image_view(row, call.stores, call.places, call.may))
        return
    raise HttpError(409, f"Image {image_id} is being changed by others; try again.")


@dataclass(frozen=True, slots=True)
class _Permissions:
    """What the caller may change of an image."""

    call: Call
    row: ImageRow
    may: May
    """What it may do with extra properties."""
    granted: set[str] = field(default_factory=set)
    """Rules that were asked: a patch may have thousands of operations."""

    @property
    def is_admin(self) -> bool:
        return self.call.caller.is_admin

    def set_property(self, name: str, value: object) -> None:
        if name == "visibility":
            rule = _VISIBILITY_RULES.get(str(value))
            if rule is not None:
                self._enforce(rule)
        self._enforce("modify_image")

    def set_locations(self) -> None:
        self._enforce("set_image_location")

    def delete_locations(self) -> None:
        self._enforce("delete_image_location")

    def _enforce(self, rule: str) -> None:
        if rule not in self.granted:
            self.call.policy.enforce_on_image(self.call.caller, rule, self.row)
            self.granted.add(rule)


def delete(call: Call, image_id: str) -> None:
    """DELETE /images/{id}, whatever it is doing."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "delete_image", row)
    if row.protected:
        raise HttpError(403, f"Image {row.id} is protected and cannot be deleted.")
    call.registry.delete(row.id)
    if call.services.caching is not None:
        call.services.caching.forget_quietly(row.id)
    send_nothing(call)


ROUTES: Final = (
    Route("GET", "/images", index),
    Route("POST", "/images", create),
    Route("GET", "/images/{image_id}", show, rejects_body=True),
    Route("PATCH", "/images/{image_id}", update),
    Route("DELETE", "/images/{image_id}", delete, rejects_body=True),
)
