"""`/v2/tasks`: what Glance does in the background, for administrators. Nothing makes tasks here yet: none is there."""

from typing import Final

from casimg_api import listing
from casimg_api.answers import send_json
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.requests import query
from casimg_api.routes import Route
from casimg_api.rules import is_uuid


def index(call: Call) -> None:
    """GET /tasks."""
    _enforce(call)
    fields = query(call.req)
    asked = dict(fields)
    if asked.get("sort_dir", "desc") not in ("asc", "desc"):
        raise HttpError(400, f"Invalid sort direction: {asked['sort_dir']}")
    if asked.get("status") and asked["status"] not in ("pending", "processing", "success", "failure"):
        raise HttpError(400, f"Invalid status value: {asked['status']}")
    if asked.get("type") and asked["type"] != "import":
        raise HttpError(400, f"Invalid type value: {asked['type']}")
    if "limit" in asked:
        listing.parse_limit(asked["limit"])
    if asked.get("marker"):
        why = "is of no task" if is_uuid(asked["marker"]) else "has an invalid format"
        raise HttpError(400, f"The marker {why}")
    page = listing.page_links([item for item in fields if item[0] != "marker"], None, "/v2/tasks")
    send_json(call, {"tasks": [], **page, "schema": "/v2/schemas/tasks"})


def show(call: Call, task_id: str) -> None:
    """GET /tasks/{id}."""
    _enforce(call)
    raise HttpError(404, f"No task found with ID {task_id}")


def delete(call: Call, task_id: str) -> None:  # noqa: ARG001 - named by the path
    """DELETE /tasks/{id}: tasks go by themselves."""
    _enforce(call)
    raise HttpError(
        405,
        "This operation is currently not permitted on Glance Tasks. They are auto deleted after reaching the time "
        "based on their expires_at property.",
        headers={"Allow": "GET"},
    )


def _enforce(call: Call) -> None:
    call.policy.enforce(call.caller, "tasks_api_access", {})


ROUTES: Final = (
    Route("GET", "/tasks", index),
    Route("GET", "/tasks/{task_id}", show),
    Route("DELETE", "/tasks/{task_id}", delete),
)
