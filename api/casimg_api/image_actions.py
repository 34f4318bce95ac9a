"""`/v2/images/{id}/actions`: take an image's data away from users for a while, and give it back."""

from typing import Final

from casimg_api.answers import send_nothing
from casimg_api.context import Call
from casimg_api.images import visible_image
from casimg_api.routes import Route


def deactivate(call: Call, image_id: str) -> None:
    """POST deactivate; one that is deactivated stays so."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "deactivate", row)
    call.registry.deactivate(row.id)
    send_nothing(call)


def reactivate(call: Call, image_id: str) -> None:
    """POST reactivate; one that is active stays so."""
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "reactivate", row)
    call.registry.reactivate(row.id)
    send_nothing(call)


ROUTES: Final = (
    Route("POST", "/images/{image_id}/actions/deactivate", deactivate, rejects_body=True),
    Route("POST", "/images/{image_id}/actions/reactivate", reactivate, rejects_body=True),
)
