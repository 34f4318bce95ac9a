"""`POST /v2/images/{id}/import`: what was staged, or what is at a URL, becomes the image's data, in the background."""

from dataclasses import replace
from typing import Any, Final

from casimg.catalog import ImageRow
from casimg.catalog.task_rows import NewTask
from casimg.errors import BadStatusError, CasimgError, DataElsewhereError, ImageLockedError
from casimg_api.answers import send_nothing
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.fetch_rules import FetchRefusedError, UnknownHostError
from casimg_api.images import visible_image
from casimg_api.import_data import Job
from casimg_api.import_marks import LOCK
from casimg_api.importing import TASK_TYPE, end_dead
from casimg_api.remote_images import RemoteImage, remote_image
from casimg_api.requests import json_object
from casimg_api.routes import Route
from casimg_api.rules import is_uuid

_STATUSES: Final = {
    "glance-direct": "uploading",
    "web-download": "queued",
    "glance-download": "queued",
    "copy-image": "active",
}
"""What an image must be for each method."""


def import_image(call: Call, image_id: str) -> None:
    """POST import: check, lock the image, enter a task; 202."""
    body = json_object(call)
    method = _method(call, body)
    name = method["name"]
    row = visible_image(call, image_id)
    if _is_busy(row, name) or LOCK in row.properties:
        # It may be left over from a process that is gone.
        end_dead(call.registry, call.tasks)
        row = visible_image(call, image_id)
    _check_image(row, name)
    remote = _remote(call, method) if name == "glance-download" else None
    call.policy.enforce_on_image(call.caller, "copy_image" if name == "copy-image" else "modify_image", row)
    call.limits.check_import(call.caller.project_id)
    break_stale_lock(call, row)
    stores = _stores(call, body)
    if name == "copy-image" and row.content_id is None:
        raise DataElsewhereError(row.id)
    if name == "copy-image":
        stores = _without_copies(row, stores, body)
        if not stores:
            send_nothing(call, 202)
            return
    must_all = body.get("all_stores_must_succeed", True)
    if not must_all and not call.stores.is_shown:
        raise HttpError(400, "All_stores_must_succeed can only be set with enabled_backends")
    job = Job(
        name,
        row.id,
        "",
        call.caller.project_id,
        stores,
        must_all,
        call.stores.is_shown,
        uri=checked_uri(call, method.get("uri"), name) if name == "web-download" else None,
        remote=remote,
        may=call.may,
    )
    told_stores = list(job.stores) if job.shows_stores else [None]
    given = {"image_id": row.id, "import_req": body, "backend": told_stores}
    begin_task(call, row, TASK_TYPE, given, job)
    send_nothing(call, 202)


def _method(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    """Return the method that a body asks for. Raises: HttpError 400."""
    if "method" not in body:
        raise HttpError(400, "Import request requires a 'method' field.")
    method = body["method"]
    if not isinstance(method, dict) or "name" not in method:
        raise HttpError(400, "Import request requires a 'name' field.")
    if method["name"] not in call.config.image_import.enabled_import_methods:
        raise HttpError(400, f"Unknown import method name '{method['name']}'.")
    for key in ("all_stores_must_succeed", "all_stores"):
        if not isinstance(body.get(key, False), bool):
            raise HttpError(400, f"'{key}' must be boolean value only")
    return method


def _check_image(row: ImageRow, name: str) -> None:
    """Raise 409 for an image that cannot be the method's now."""
    if _is_busy(row, name):
        if row.status == "active":
            raise HttpError(409, "Image with status active cannot be target for import")
        if name == "copy-image":
            raise HttpError(409, "Only images with status active can be targeted for copying")
        if name == "glance-direct":
            raise HttpError(409, "Image needs to be staged before 'glance-direct' method can be used")
        raise HttpError(409, f"Image needs to be in 'queued' state to use '{name}' method")
    for field in ("container_format", "disk_format"):
        if not getattr(row, field):
            raise HttpError(409, f"'{field}' needs to be set before import")


def _is_busy(row: ImageRow, name: str) -> bool:
    """Tell whether an image is something else than a method needs; staged data are those that have come whole."""
    return row.status != _STATUSES[name] or (row.status == "uploading" and row.session_id is not None)


def break_stale_lock(call: Call, row: ImageRow) -> None:
    """Raise 409 while an import works at the image; one that nothing was heard of is forgotten."""
    holder = row.properties.get(LOCK)
    if holder is None:
        return
    if not call.imports.is_stale(holder):
        raise HttpError(409, "Image has active task")
    call.imports.break_lock(row.id, holder)


def _stores(call: Call, body: dict[str, Any]) -> tuple[str, ...]:
    """Return the stores to import to. Raises: HttpError 400, 409."""
    stores = call.stores
    if not stores.is_shown:
        return (stores.default,)
    header = call.req.get_header("X-Image-Meta-Store")
    if body.get("all_stores", False):
        if "stores" in body or header is not None:
            raise HttpError(
                400, "All_stores parameter can't be used with x-image-meta-store header or stores parameter"
            )
        return stores.writable
    if "stores" in body and header is not None:
        raise HttpError(400, "Stores parameter and x-image-meta-store header can't be both specified")
    asked = body.get("stores", [stores.default if header is None else header])
    if not isinstance(asked, list) or not asked or not all(isinstance(name, str) for name in asked):
        raise HttpError(400, "'stores' must be a list of names")
    for name in asked:
        found = stores.find(name)
        if found is None:
            raise HttpError(409, f"Unknown scheme '{name}' found in URI")
        if found.is_read_only:
            raise HttpError(409, f"Adding images to store '{name}' is disabled")
    return tuple(dict.fromkeys(asked))


def _without_copies(row: ImageRow, stores: tuple[str, ...], body: dict[str, Any]) -> tuple[str, ...]:
    """Return the stores to copy an image to. Raises: HttpError 400 when one of those asked for has it."""
    left = tuple(name for name in stores if name not in row.stores)
    if left != stores and not body.get("all_stores", False):
        there = next(name for name in stores if name in row.stores)
        raise HttpError(400, f"Image is already present at store '{there}'")
    return left


def checked_uri(call: Call, uri: object, what: str) -> str:
    """Return a URL that may be fetched, as far as can be told now. Raises: HttpError 400.

    Args:
        what: it is for, in messages.
    """
    if not isinstance(uri, str):
        raise HttpError(400, f"URI for {what} does not pass filtering: it is missing")
    try:
        call.imports.rules.addresses(call.imports.rules.place(uri))
    except UnknownHostError:
        pass  # its name may have an address in a moment; else the task fails
    except FetchRefusedError as error:
        raise HttpError(400, f"URI for {what} does not pass filtering: {error}") from None
    return uri


def _remote(call: Call, method: dict[str, Any]) -> RemoteImage:
    """Return the image of another region that is asked for. Raises: HttpError 400."""
    for key in ("glance_region", "glance_image_id"):
        if key not in method:
            raise HttpError(400, f"'{key}' needs to be set for glance-download import method")
    image_id, region = method["glance_image_id"], method["glance_region"]
    interface = method.setdefault("glance_service_interface", "public")
    if not isinstance(image_id, str) or not is_uuid(image_id):
        raise HttpError(400, f"Remote image id does not look like a UUID: {image_id}")
    # Whether there is such a region and interface is found out by the task.
    if not isinstance(region, str) or not isinstance(interface, str):
        raise HttpError(400, "'glance_region' and 'glance_service_interface' must be names")
    return remote_image(call.req.env, region, image_id, interface)


def begin_task(call: Call, row: ImageRow, kind: str, given: dict[str, Any], job: Job) -> None:
    """Lock the image for a new task of a kind, and have it done. Raises: HttpError 409, 503."""
    caller = call.caller
    task = call.tasks.create(
        NewTask(
            type=kind,
            owner=caller.project_id,
            user_id=caller.user_id,
            request_id=call.request_id,
            image_id=row.id,
            input=given,
        )
    )
    job = replace(job, task_id=task.id)
    try:
        call.imports.lock(job, row.status)
        try:
            call.imports.begin(job)
        except HttpError:
            call.imports.unlock(job)
            raise
    except ImageLockedError:
        call.tasks.fail(task.id, "another one was faster")
        raise HttpError(
            409, f"New operation on image '{row.id}' is not permitted as prior operation is still in progress"
        ) from None
    except BadStatusError as error:
        call.tasks.fail(task.id, str(error))
        raise HttpError(409, str(error)) from None
    except (HttpError, CasimgError):
        call.tasks.fail(task.id, "it could not be begun")
        raise


ROUTES: Final = (Route("POST", "/images/{image_id}/import", import_image),)
