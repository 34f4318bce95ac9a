"""`/v2/images/{id}/locations` and `/v2/stores/{store}/{id}`: where data is, as far as clients may know.

What a client says of a location is checked, and hashed, by a task (`location_work`); the older way of saying it is a
patch (`location_changes`).
"""

from typing import Any, Final

from casimg.catalog import ImageRow
from casimg.errors import (
    ChangedMeanwhileError,
    CopyNotFoundError,
    LastCopyError,
    StoreNotFoundError,
)
from casimg.locations import Located
from casimg.registry import Edit
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.http_store import ALGORITHMS
from casimg_api.image_import import begin_task, break_stale_lock, checked_uri
from casimg_api.images import PATCH_ATTEMPTS_MAX, visible_image
from casimg_api.import_data import Job
from casimg_api.import_marks import LOCK
from casimg_api.importing import LOCATION_TASK_TYPE, end_dead
from casimg_api.location_changes import check_hash
from casimg_api.places import told
from casimg_api.requests import json_object
from casimg_api.routes import Route

_LAST: Final = "Cannot delete image data from the only store containing it. Consider deleting the image instead."


def index(call: Call, image_id: str) -> None:
    """GET /images/{id}/locations, for services."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "fetch_image_location", row)
    send_json(call, [told(place) for place in call.places.of(row)])


def create(call: Call, image_id: str) -> None:
    """POST /images/{id}/locations: say where the data of a queued image are; a task looks at them. 202."""
    body: dict[str, Any] = json_object(call)
    url = body.get("url")
    if not isinstance(url, str):
        raise HttpError(400, "Provided object does not match schema 'location': 'url' is a required property")
    said = _said_hash(body)
    row = visible_image(call, image_id)
    if LOCK in row.properties:
        row = _without_dead_task(call, row)
    if row.status != "queued":
        raise HttpError(409, f"It's not allowed to add locations if image status is {row.status}.")
    call.policy.enforce_on_image(call.caller, "add_image_location", row)
    is_http = url.lower().startswith(("http:", "https:"))
    if not call.caller.is_service and (call.stores.http is None or not is_http):
        raise HttpError(403, "http store must be enabled to use location API by normal user.")
    if said is not None:
        check_hash(*said, 400)
    if call.stores.http is None or not is_http:
        raise HttpError(400, "No store of this site takes data by this location.")
    checked_uri(call, url, "location")
    if not row.disk_format or not row.container_format:
        raise HttpError(400, "Properties disk_format, container_format must be set prior to saving data.")
    break_stale_lock(call, row)
    given = {"image_id": row.id, "loc_url": url, "validation_data": body.get("validation_data", {})}
    said_hash = None if said is None else (said[0], said[1].lower())
    job = Job("location", row.id, "", call.caller.project_id, (), uri=url, said_hash=said_hash)
    begin_task(call, row, LOCATION_TASK_TYPE, given, job)
    send_nothing(call, 202)


def _without_dead_task(call: Call, row: ImageRow) -> ImageRow:
    """Return an image as it is when a task that is gone holds it no more. Raises: HttpError 403."""
    end_dead(call.registry, call.tasks)
    row = visible_image(call, row.id)
    holder = row.properties.get(LOCK)
    is_waiting = row.status == "importing" and row.session_id is None and bool(row.locations)
    if holder is not None and is_waiting and call.imports.is_stale(holder):
        call.policy.enforce_on_image(call.caller, "add_image_location", row)
        call.imports.break_lock(row.id, holder)
        row = visible_image(call, row.id)
    return row


def _said_hash(body: dict[str, Any]) -> tuple[str, str] | None:
    """Return algorithm and value that a body says data have. Raises: HttpError 400."""
    given = body.get("validation_data", {})
    if not isinstance(given, dict) or not set(given) <= {"os_hash_algo", "os_hash_value"}:
        raise HttpError(400, "Provided object does not match schema 'location': validation_data has two fields")
    if not given:
        return None
    algo, value = given.get("os_hash_algo"), given.get("os_hash_value")
    if algo not in ALGORITHMS or not isinstance(value, str):
        raise HttpError(400, f"validation_data needs an os_hash_value and an os_hash_algo of {', '.join(ALGORITHMS)}")
    return algo, value


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
    if len(row.stores) + len(row.locations) <= 1:
        raise HttpError(403, _LAST)
    if store_id not in call.stores.names_of(row):
        raise HttpError(404, f"Image {row.id} is not stored in store {store_id}.")
    if store_id == call.stores.http or row.stores == (store_id,):
        _leave(call, row, store_id)
        send_nothing(call)
        return
    try:
        call.registry.remove_copy(row.id, store_id)
    except (CopyNotFoundError, StoreNotFoundError):  # one that is read-only holds no copies
        raise HttpError(404, f"Image {row.id} is not stored in store {store_id}.") from None
    except LastCopyError:  # others were faster
        raise HttpError(403, _LAST) from None
    send_nothing(call)


def _leave(call: Call, row: ImageRow, store_id: str) -> None:
    """Take an image's first location in a store away, or its own data when it has others.

    Raises: HttpError 403, 404, 409.
    """
    for _ in range(PATCH_ATTEMPTS_MAX):
        places = call.places.of(row)
        gone = next((place for place in places if place.store == store_id), None)
        if gone is None:
            raise HttpError(404, f"Image {row.id} is not stored in store {store_id}.")
        if len(places) <= 1:
            raise HttpError(403, _LAST)
        at = places.index(gone) - len(row.stores)  # negative of own data
        left = row.locations if gone.is_own else (*row.locations[:at], *row.locations[at + 1 :])
        edit = Edit(located=Located(left, keeps_content=bool(row.stores) and not gone.is_own))
        try:
            call.registry.edit(row.id, edit, revision=row.revision)
        except ChangedMeanwhileError:
            row = visible_image(call, row.id)
            continue
        return
    raise HttpError(409, f"Image {row.id} is being changed by others; try again.")


ROUTES: Final = (
    Route("POST", "/images/{image_id}/locations", create),
    Route("GET", "/images/{image_id}/locations", index),
    Route("DELETE", "/stores/{store_id}/{image_id}", delete_from_store, rejects_body=True),
)
