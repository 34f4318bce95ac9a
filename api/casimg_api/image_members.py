"""`/v2/images/{id}/members`: projects that an image is shared with, and what they answer."""

from collections.abc import Sequence
from typing import Any, Final

from casimg.catalog import ImageRow, MemberRow
from casimg.errors import MemberNotFoundError
from casimg_api.answers import send_json, send_nothing
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.images import visible_image
from casimg_api.listing import MEMBER_STATUSES
from casimg_api.policy import image_target
from casimg_api.requests import check_text, json_object
from casimg_api.routes import Route
from casimg_api.rules import NAME_LENGTH_MAX, check_count
from casimg_api.views import member_view, members_view


def create(call: Call, image_id: str) -> None:
    """POST: share an image; answers 200, as Glance does, not 201."""
    member = _text(call, "member", "Member to be added not specified")
    if not member:
        raise HttpError(400, "Member can't be empty")
    if len(member) > NAME_LENGTH_MAX:
        raise HttpError(400, f"A member has at most {NAME_LENGTH_MAX} characters")
    row = _shared_image(call, image_id)
    _enforce(call, "add_member", row)
    check_count("members", len(call.registry.members(row.id)) + 1, call.config.images.image_member_quota)
    send_json(call, member_view(call.registry.add_member(row.id, member)))


def index(call: Call, image_id: str) -> None:
    """GET: all for the owner, itself for a member."""
    row = _shared_image(call, image_id)
    _enforce(call, "get_members", row)
    found = _visible_members(call, row)
    if found and not call.policy.allows(call.caller, "get_member", image_target(call.caller, row)):
        found = []
    send_json(call, members_view(found))


def show(call: Call, image_id: str, member_id: str) -> None:
    """GET of one; whoever may not see it is told that it is not there."""
    try:
        row = _shared_image(call, image_id)
        member = _member(call, row, member_id)
    except HttpError as error:
        raise HttpError(404 if error.status == 403 else error.status, error.explanation) from None
    send_json(call, member_view(member))


def update(call: Call, image_id: str, member_id: str) -> None:
    """PUT: a member accepts, rejects, or thinks again."""
    status = _text(call, "status", "Status not specified")
    row = _shared_image(call, image_id)
    _member(call, row, member_id)
    _enforce(call, "modify_member", row)
    if status not in MEMBER_STATUSES or status == "all":
        raise HttpError(400, 'Status must be "pending", "accepted" or "rejected".')
    send_json(call, member_view(call.registry.set_member_status(row.id, member_id, status)))


def delete(call: Call, image_id: str, member_id: str) -> None:
    """DELETE: share it no more."""
    row = _shared_image(call, image_id)
    _member(call, row, member_id)
    _enforce(call, "delete_member", row)
    call.registry.remove_member(row.id, member_id)
    send_nothing(call)


def _text(call: Call, name: str, missing: str) -> str:
    body = json_object(call)
    if name not in body:
        raise HttpError(400, missing)
    value: Any = body[name]
    if not isinstance(value, str):
        raise HttpError(400, f'Expected a {name} in the form: {{"{name}": "..."}}')
    return check_text(value)


def _shared_image(call: Call, image_id: str) -> ImageRow:
    row = visible_image(call, image_id)
    if row.visibility != "shared":
        raise HttpError(403, "Only shared images have members.")
    return row


def _enforce(call: Call, rule: str, row: ImageRow) -> None:
    call.policy.enforce_on_image(call.caller, "get_image", row)
    call.policy.enforce(call.caller, rule, image_target(call.caller, row))


def _visible_members(call: Call, row: ImageRow) -> Sequence[MemberRow]:
    """Return the members that the caller sees: its own entry alone, unless the image is its own."""
    found = call.registry.members(row.id)
    if call.caller.is_admin or (row.owner is not None and row.owner == call.caller.project_id):
        return found
    return [member for member in found if member.member == call.caller.project_id]


def _member(call: Call, row: ImageRow, member_id: str) -> MemberRow:
    """Return a member that the caller sees. Raises: MemberNotFoundError, HttpError 403."""
    _enforce(call, "get_member", row)
    owns = row.owner is not None and row.owner == call.caller.project_id
    if not (call.caller.is_admin or owns or member_id == call.caller.project_id):
        raise MemberNotFoundError(row.id, member_id)
    return call.registry.member(row.id, member_id)


ROUTES: Final = (
    Route("GET", "/images/{image_id}/members", index, rejects_body=True),
    Route("POST", "/images/{image_id}/members", create),
    Route("GET", "/images/{image_id}/members/{member_id}", show, rejects_body=True),
    Route("PUT", "/images/{image_id}/members/{member_id}", update),
    Route("DELETE", "/images/{image_id}/members/{member_id}", delete, rejects_body=True),
)
