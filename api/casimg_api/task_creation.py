"""`POST /v2/tasks`: the older way of import, for administrators; a task makes an image of what is at a URL.

What can be told now is told now: what the image is to be, and where its data may come from. The image is made in the
background, holding the lock of its task, and goes again when its data do not come.
"""

from dataclasses import replace
from typing import Any, Final

from casimg.catalog.task_rows import NewTask
from casimg.ids import new_image_id
from casimg.registry import NewEntry
from casimg_api.answers import send_json
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.image_import import checked_uri
from casimg_api.images import new_entry
from casimg_api.import_data import Job
from casimg_api.import_marks import LOCK
from casimg_api.importing import LEGACY_TASK_TYPE
from casimg_api.requests import json_object
from casimg_api.routes import Route
from casimg_api.tasks import enforce_access, task_path, task_view
from casimg_api.urls import absolute_url

_INPUTS: Final = ("import_from", "import_from_format", "image_properties")


def create(call: Call) -> None:
    """POST /tasks: check, enter a task, have it done; 201."""
    enforce_access(call)
    given = _input(json_object(call))
    uri = checked_uri(call, given["import_from"], "legacy import task")
    new = _new_image(call, given["image_properties"])
    image_id = new.id or new_image_id()
    caller = call.caller
    row = call.tasks.create(
        NewTask(
            type=LEGACY_TASK_TYPE,
            owner=caller.project_id,
            user_id=caller.user_id,
            request_id=call.request_id,
            image_id=image_id,
            input=given,
        )
    )
    # Whoever finds an image with the lock of a task that has failed may take it away.
    new = replace(new, id=image_id, properties={**new.properties, LOCK: row.id})
    try:
        call.imports.begin(Job("import", image_id, row.id, caller.project_id, (call.stores.default,), uri=uri, new=new))
    except HttpError:
        call.tasks.fail(row.id, "it could not be begun")
        raise
    send_json(call, task_view(row, call.may), 201)
    call.resp.location = absolute_url(call.req.env, call.config.server, task_path(row.id))


def _input(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a task is given. Raises: HttpError 400."""
    for name in ("type", "input"):
        if name not in body:
            raise HttpError(400, f"Task '{name}' is required")
    # The other types are entered by the server alone, with what it has checked.
    if body["type"] != LEGACY_TASK_TYPE:
        raise HttpError(400, f"Provided type of task is unsupported: {str(body['type'])[:80]!r}")
    given = body["input"]
    if not isinstance(given, dict):
        raise HttpError(400, "Provided object does not match schema 'task': input must be an object")
    for name in _INPUTS:
        if name not in given:
            raise HttpError(400, f"Input does not contain '{name}' field")
    if not isinstance(given["import_from_format"], str):
        raise HttpError(400, "'import_from_format' must be a text")
    return given


def _new_image(call: Call, attributes: object) -> NewEntry:
    """Return the image that is asked for, which must be able to take data. Raises: HttpError 400, 403."""
    if not isinstance(attributes, dict):
        raise HttpError(400, "'image_properties' must be an object")
    new = new_entry(call, attributes, {})
    missing = [name for name in ("disk_format", "container_format") if not getattr(new, name)]
    if missing:
        raise HttpError(400, f"Properties {', '.join(missing)} must be set prior to saving data.")
    return new


ROUTES: Final = (Route("POST", "/tasks", create),)
