"""`PUT /v2/images/{id}/stage`: data that are kept aside until an import makes them the image's."""

import logging
from typing import Final

from casimg.errors import ImageDeletedError, NoSpaceError, NotQueuedError
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.image_data import receive
from casimg_api.images import visible_image
from casimg_api.quota import size_limits
from casimg_api.routes import Route
from casimg_api.upload_body import UploadBody

_log = logging.getLogger("casimg_api.image_stage")


def stage(call: Call, image_id: str) -> None:
    """PUT stage: keep data for a queued image; whatever goes wrong, it is queued again."""
    if "glance-direct" not in call.config.image_import.enabled_import_methods:
        raise HttpError(404, "'glance-direct' method is not available at this site.")
    receive(call, image_id, _keep)


def _keep(call: Call, image_id: str, declared: int | None, body: UploadBody) -> None:
    row = visible_image(call, image_id)
    call.policy.enforce_on_image(call.caller, "modify_image", row)
    if row.status != "queued":
        raise HttpError(409, f"Image status transition from {row.status} to uploading is not allowed")
    limits = size_limits(call)
    for limit in limits:
        limit.check(declared or 0)
    call.limits.check_stage(call.caller.project_id, declared)
    body.look(limits, None)  # what is in them is looked into by the import
    try:
        call.registry.stage(row.id, body, size=declared)
    except NotQueuedError as error:
        raise HttpError(409, str(error)) from None
    except ImageDeletedError:
        raise HttpError(404, f"Image {row.id} was deleted while its data came.") from None
    except NoSpaceError as error:
        _log.error("stage.no_space image=%s why=%s", row.id, error)
        raise HttpError(413, "Image storage media is full.") from None


ROUTES: Final = (Route("PUT", "/images/{image_id}/stage", stage),)
