"""`/v2/images/{id}/tags/{tag}`: words to find images by."""

from typing import Final

from casimg_api.answers import send_nothing
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.images import visible_image
from casimg_api.routes import Route
from casimg_api.rules import NAME_LENGTH_MAX, check_count


def update(call: Call, image_id: str, tag_value: str) -> None:
    """PUT: add a tag; one that is there stays."""
    if len(tag_value) > NAME_LENGTH_MAX:
        raise HttpError(400, f"A tag has at most {NAME_LENGTH_MAX} characters")
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "modify_image", row)
    if tag_value not in row.tags:
        check_count("tags", len(row.tags) + 1, call.config.images.image_tag_quota)
        call.registry.add_tag(row.id, tag_value)
    send_nothing(call)


def delete(call: Call, image_id: str, tag_value: str) -> None:
    """DELETE: remove a tag; one that is not there is 404."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "modify_image", row)
    if tag_value not in row.tags:
        raise HttpError(404)
    call.registry.remove_tag(row.id, tag_value)
    send_nothing(call)


ROUTES: Final = (
    Route("PUT", "/images/{image_id}/tags/{tag_value}", update, rejects_body=True),
    Route("DELETE", "/images/{image_id}/tags/{tag_value}", delete, rejects_body=True),
)
