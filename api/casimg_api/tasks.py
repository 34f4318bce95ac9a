"""`/v2/tasks`, for administrators, and `/v2/images/{id}/tasks`: what is done in the background, and what became of it.

Tasks are entered by whoever has something done: `image_import`, and `task_creation` for `POST /tasks`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from casimg.catalog.task_rows import TASK_SORT_KEYS, TASK_STATUSES, TaskQuery, TaskRow
from casimg.errors import TaskNotFoundError
from casimg_api import listing
from casimg_api.answers import send_json
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.images import SET_AT_CREATION, visible_image
from casimg_api.property_protection import May
from casimg_api.requests import query
from casimg_api.routes import Route
from casimg_api.rules import is_uuid
from casimg_api.views import time_text

_FILTERS: Final = ("id", "type", "status", "owner", "image_id", "user_id", "request_id")


def index(call: Call) -> None:
    """GET /tasks, by pages."""
    enforce_access(call)
    fields = query(call.req)
    asked = dict(fields)
    if asked.get("sort_dir", "desc") not in ("asc", "desc"):
        raise HttpError(400, f"Invalid sort direction: {asked['sort_dir']}")
    if asked.get("status") and asked["status"] not in TASK_STATUSES:
        raise HttpError(400, f"Invalid status value: {asked['status']}")
    if asked.get("type") and asked["type"] != "import":
        raise HttpError(400, f"Invalid type value: {asked['type']}")
    key = asked.get("sort_key", "created_at")
    if key not in TASK_SORT_KEYS:
        raise HttpError(400, f"Invalid sort key: {key}. It must be one of the following: {', '.join(TASK_SORT_KEYS)}.")
    marker = asked.get("marker") or None
    if marker is not None and not is_uuid(marker):
        raise HttpError(400, "The marker has an invalid format")
    images = call.config.images
    wanted = listing.parse_limit(asked["limit"]) if "limit" in asked else images.limit_param_default
    limit = min(images.api_limit_max, wanted)
    page = TaskQuery(
        filters=tuple((name, asked[name]) for name in _FILTERS if name in asked),
        sort_key=key,
        ascending=asked.get("sort_dir") == "asc",
        marker=marker,
        limit=limit,
    )
    try:
        found = call.tasks.list(page, call.caller.viewer)
    except TaskNotFoundError:
        raise HttpError(400, "The marker is of no task") from None
    following = found[-1].id if found and len(found) == limit else None
    links = listing.page_links([item for item in fields if item[0] != "marker"], following, "/v2/tasks")
    send_json(call, {"tasks": [_stub(row) for row in found], **links, "schema": "/v2/schemas/tasks"})


def show(call: Call, task_id: str) -> None:
    """GET /tasks/{id}."""
    enforce_access(call)
    send_json(call, task_view(call.tasks.show(task_id, call.caller.viewer), call.may))


def delete(call: Call, task_id: str) -> None:  # noqa: ARG001 - named by the path
    """DELETE /tasks/{id}: tasks go by themselves."""
    enforce_access(call)
    raise HttpError(
        405,
        "This operation is currently not permitted on Glance Tasks. They are auto deleted after reaching the time "
        "based on their expires_at property.",
        headers={"Allow": "GET"},
    )


def of_image(call: Call, image_id: str) -> None:
    """GET /images/{id}/tasks: what is done with an image, as far as the caller's project did it."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "get_image", row)
    # Tasks that are nobody's are not those of whoever has no project either.
    found = () if call.caller.is_anonymous else call.tasks.of_image(row.id, call.caller.viewer)
    may = call.may
    send_json(call, {"tasks": [_record(task, may) for task in found]})


def enforce_access(call: Call) -> None:
    """Raise 403 unless the caller may ask for tasks."""
    call.policy.enforce(call.caller, "tasks_api_access", {})


def task_path(task_id: str) -> str:
    return f"/v2/tasks/{task_id}"


def task_view(row: TaskRow, may: May) -> dict[str, Any]:
    """Return a task with all that is told of it, to somebody who may do so much with properties."""
    said = {"image_id": row.image_id, "request_id": row.request_id, "user_id": row.user_id}
    return {
        **_stub(row),
        **{name: value for name, value in said.items() if value},
        "input": _input(row, may),
        "result": row.result,
        "message": row.message,
    }


def _stub(row: TaskRow) -> dict[str, Any]:
    """Return a task as lists have it."""
    view = {
        "id": row.id,
        "type": row.type,
        "status": row.status,
        "owner": row.owner,
        "created_at": time_text(row.created_at),
        "updated_at": time_text(row.updated_at),
        "self": task_path(row.id),
        "schema": "/v2/schemas/task",
    }
    return view if row.expires_at is None else {**view, "expires_at": time_text(row.expires_at)}


def _record(row: TaskRow, may: May) -> dict[str, Any]:
    """Return a task as images have it: Glance's row, with times to the microsecond."""
    return {
        "id": row.id,
        "type": row.type,
        "status": row.status,
        "owner": row.owner,
        "expires_at": None if row.expires_at is None else _exact(row.expires_at),
        "created_at": _exact(row.created_at),
        "updated_at": _exact(row.updated_at),
        "deleted_at": None,
        "deleted": False,
        "image_id": row.image_id,
        "request_id": row.request_id,
        "user_id": row.user_id,
        "input": _input(row, may),
        "result": row.result,
        "message": row.message,
    }


def _input(row: TaskRow, may: May) -> Any:
    """Return what a task was given, without properties of an image that may not be read."""
    given = row.input.get("image_properties")
    if not isinstance(given, Mapping):
        return row.input
    shown = {name: value for name, value in given.items() if name in SET_AT_CREATION or may("read", name)}
    return {**row.input, "image_properties": shown}


def _exact(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


ROUTES: Final = (
    Route("GET", "/tasks", index),
    Route("GET", "/tasks/{task_id}", show),
    Route("DELETE", "/tasks/{task_id}", delete),
    Route("GET", "/images/{image_id}/tasks", of_image, rejects_body=True),
)
