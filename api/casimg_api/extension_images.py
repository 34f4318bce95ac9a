"""What Glance does not have of single images: snapshots at once, where two differ, what one costs.

Like all of the extension these routes lie below /casimg/v1, with the same callers, rules, errors and request ids.
"""

from typing import Any, Final

from casimg.catalog import ImageRow
from casimg.errors import DataElsewhereError
from casimg_api.answers import send_json
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.extension_figures import at_work, image_usage_view
from casimg_api.images import new_entry, send_made, visible_image
from casimg_api.listing import page_links, parse_limit
from casimg_api.quota import size_limits
from casimg_api.requests import json_object, query
from casimg_api.routes import EXTENSION, Route
from casimg_api.rules import RESERVED_PREFIX

RANGE_COUNT_DEFAULT: Final = 1000
RANGE_COUNT_MAX: Final = 10_000
_OF_PARENT: Final = ("id", "disk_format", "container_format")
_DIGITS_MAX: Final = 19


def snapshot(call: Call, image_id: str) -> None:
    """POST snapshot: a new image of the data of an active one; one row, whatever the size.

    Whoever makes one may read its data, so the rule for downloads counts too.
    """
    attributes = json_object(call)
    row = visible_image(call, image_id)
    for rule in ("get_image", "casimg:snapshot_image", "download_image"):
        call.policy.enforce_on_image(call.caller, rule, row)
    for name in _OF_PARENT:
        if name in attributes:
            raise HttpError(403, f"Attribute '{name}' is read-only.")
    if row.status != "active" or row.size is None:
        raise HttpError(409, f"Image {row.id} is {row.status}: only an active image has snapshots.")
    if row.content_id is None:
        raise DataElsewhereError(row.id)
    inherited = {"min_disk": row.min_disk, "min_ram": row.min_ram}
    new = new_entry(call, {**inherited, **attributes}, _inherited(row))
    for limit in size_limits(call):
        limit.check(row.size)
    call.limits.check_snapshot(call.caller.project_id, row.size)
    send_made(call, call.registry.snapshot(row, new))


def _inherited(row: ImageRow) -> dict[str, str]:
    """Return the properties that a snapshot has from its parent."""
    return {name: value for name, value in row.properties.items() if not name.startswith(RESERVED_PREFIX)}


def diff(call: Call, image_id: str) -> None:
    """GET diff: where another image differs from this one, by ranges of whole chunks, in pages."""
    asked = dict(query(call.req))
    if not asked.get("other"):
        raise HttpError(400, "The query must name the other image: other=ID")
    limit = min(RANGE_COUNT_MAX, parse_limit(asked["limit"]) if "limit" in asked else RANGE_COUNT_DEFAULT)
    marker = _offset(asked["marker"]) if asked.get("marker") else -1
    row, other = (_comparable(call, name) for name in (image_id, asked["other"]))
    found = call.registry.figures().diff(row, other)
    rest = [one for one in found.ranges if one.offset > marker]
    page = rest[:limit]
    following = str(page[-1].offset) if page and len(rest) > limit else None
    fields = [item for item in query(call.req) if item[0] != "marker"]
    document: dict[str, Any] = {
        "image_id": row.id,
        "other_id": other.id,
        "size": row.size,
        "other_size": other.size,
        "same_size": max(row.size or 0, other.size or 0) - found.changed_size,
        "different_size": found.changed_size,
        "only_in_other_size": found.only_in_b_size,
        "ranges": [{"offset": one.offset, "size": one.size} for one in page],
        **page_links(fields, following, f"{EXTENSION}/images/{row.id}/diff"),
    }
    send_json(call, document)


def _comparable(call: Call, image_id: str) -> ImageRow:
    """Return an image that the caller may compare. Raises: ImageNotFoundError, HttpError 403, 404, 409."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "casimg:diff_images", row)
    return _with_data(row)


def _offset(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS_MAX:
        raise HttpError(400, "The marker must be the offset of a range")
    return int(text)


def usage(call: Call, image_id: str) -> None:
    """GET usage: what an image shares with others, and what deleting it would give back."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "casimg:get_image_usage", row)
    with at_work():
        send_json(call, image_usage_view(call.registry.figures().image_usage(_with_data(row))))


def _with_data(row: ImageRow) -> ImageRow:
    if row.status not in ("active", "deactivated") or row.size is None:
        raise HttpError(409, f"Image {row.id} is {row.status}: it has no data.")
    if row.content_id is None:
        raise DataElsewhereError(row.id)
    return row


ROUTES: Final = (
    Route("POST", "/images/{image_id}/snapshot", snapshot, root=EXTENSION),
    Route("GET", "/images/{image_id}/diff", diff, rejects_body=True, root=EXTENSION),
    Route("GET", "/images/{image_id}/usage", usage, rejects_body=True, root=EXTENSION),
)
