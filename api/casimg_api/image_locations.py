"""`/v2/images/{id}/locations` and `/v2/stores/{store}/{id}`: where data is, as far as clients may know.

Data lie in packs that many images share, so no image has a location that a client could use: the list is empty, and
none can be added, as on a Glance without an http store.
"""

from typing import Any, Final

from casimg.errors import CopyNotFoundError, LastCopyError, StoreNotFoundError
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.images import visible_image
from casimg_api.requests import json_object
from casimg_api.routes import Route

_LAST: Final = "Cannot delete image data from the only store containing it. Consider deleting the image instead."


def index(call: Call, image_id: str) -> None:
    """GET /images/{id}/locations, for services."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "fetch_image_location", row)
    send_json(call, [])


def create(call: Call, image_id: str) -> None:
    """POST /images/{id}/locations: refused for every URL."""
    body: dict[str, Any] = json_object(call)
    if not isinstance(body.get("url"), str):
        raise HttpError(400, "Provided object does not match schema 'location': 'url' is a required property")
    row = visible_image(call, image_id)
    if row.status != "queued":
        raise HttpError(409, f"It's not allowed to add locations if image status is {row.status}.")
    call.policy.enforce_on_image(call.caller, "add_image_location", row)
    if not call.caller.is_service:
        raise HttpError(403, "http store must be enabled to use location API by normal user.")
    raise HttpError(400, "No store of this site takes data by their location.")


def delete_from_store(call: Call, store_id: str, image_id: str) -> None:
    """DELETE /stores/{store}/{id}: one copy of the data, never the last."""
    if not call.stores.is_shown:
        raise HttpError(404)
    if call.stores.find(store_id) is None:
        raise HttpError(409, f"The selected store {store_id} is not available on this node.")
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "get_image_location", row)
    call.policy.enforce_on_image(call.caller, "delete_image_location", row)
    if row.status != "active":
        raise HttpError(409, "It's not allowed to remove image data from store if image status is not 'active'")
    if len(row.stores) <= 1:
        raise HttpError(403, _LAST)
    try:
        call.registry.remove_copy(row.id, store_id)
    except (CopyNotFoundError, StoreNotFoundError):  # one that is read-only holds no copies
        raise HttpError(404, f"Image {row.id} is not stored in store {store_id}.") from None
    except LastCopyError:  # others were faster
        raise HttpError(403, _LAST) from None
    send_nothing(call)


ROUTES: Final = (
    Route("POST", "/images/{image_id}/locations", create),
    Route("GET", "/images/{image_id}/locations", index),
    Route("DELETE", "/stores/{store_id}/{image_id}", delete_from_store, rejects_body=True),
)
