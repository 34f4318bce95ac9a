"""How many bytes may still come: the largest image, and what is left to a project.

Sizes are plain bytes, as clients see them: what is shared or compressed counts in full.
"""

from functools import partial

from casimg_api.config import DataConfig, binary_size
from casimg_api.context import Call
from casimg_api.ports import RegistryPort
from casimg_api.upload_body import SizeLimit


def size_limits(call: Call) -> list[SizeLimit]:
    """Return what an upload of this caller must stay within, as it is at this moment."""
    return limits_of(call.registry, call.config.data, call.caller.project_id)


def limits_of(registry: RegistryPort, data: DataConfig, project: str | None) -> list[SizeLimit]:
    """Return what new data of a project must stay within, as it is at this moment."""
    limits = [SizeLimit(data.image_size_cap, partial(_too_large, data.image_size_cap))]
    quota = binary_size(data.user_storage_quota)
    if quota and project is not None:
        left = max(0, quota - registry.usage(project).size)
        limits.append(SizeLimit(left, partial(_over_quota, left)))
    return limits


def _too_large(size_max: int, size: int) -> str:
    return f"The incoming image is too large: {size} bytes or more, at most {size_max} are allowed."


def _over_quota(left: int, size: int) -> str:
    return (
        f"Image exceeds the storage quota: The size of the data {size} will exceed the limit. {left} bytes remaining."
    )
