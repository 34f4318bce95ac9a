"""Tasks as frozen values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from casimg.ids import ImageId

TASK_TYPES: Final = ("import", "api_image_import", "location_import")
TASK_STATUSES: Final = ("pending", "processing", "success", "failure")
TASK_SORT_KEYS: Final = ("created_at", "updated_at", "expires_at", "id", "type", "status", "owner")


@dataclass(frozen=True, slots=True)
class NewTask:
    """What a task begins with.

    Args:
        type: one of TASK_TYPES.
        owner: the project that is told of it; user_id, request_id: of whoever asked for it.
        input: what it is to do, as JSON has it.
    """

    type: str
    owner: str | None
    user_id: str | None = None
    request_id: str | None = None
    image_id: ImageId | None = None
    input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task, and what became of it."""

    id: str
    type: str
    status: str
    owner: str | None
    user_id: str | None
    request_id: str | None
    image_id: ImageId | None
    input: Mapping[str, Any]
    result: Mapping[str, Any] | None
    message: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    """When it is forgotten; None while it has not ended."""


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks to list, and in what order; created_at and id break ties.

    Args:
        filters: exact values of `type`, `status`, `owner`, `image_id`, `user_id`, `request_id` or `id`.
        marker: id of the last task of the page before.
    """

    filters: tuple[tuple[str, str], ...] = ()
    sort_key: str = "created_at"
    ascending: bool = False
    marker: str | None = None
    limit: int | None = None
