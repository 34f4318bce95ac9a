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


def limits_of(registry: RegistryPort, data: DataConfig, project: str | None, store_count: int = 1) -> list[SizeLimit]:
    """Return what new data of a project must stay within, as it is at this moment.

    Args:
        store_count: stores that they go to; each copy counts.
    """
    cap = SizeLimit(data.image_size_cap, partial(_too_large, data.image_size_cap))
    return [cap, *copy_limits_of(registry, data, project, store_count)]


def copy_limits_of(
    registry: RegistryPort, data: DataConfig, project: str | None, store_count: int = 1
) -> list[SizeLimit]:
    """Return what one more copy of data that are there must stay within."""
    quota = binary_size(data.user_storage_quota)
    if not quota or project is None:
        return []
    left = max(0, quota - registry.usage(project).size) // store_count
    return [SizeLimit(left, partial(_over_quota, left))]


def _too_large(size_max: int, size: int) -> str:
    return f"The incoming image is too large: {size} bytes or more, at most {size_max} are allowed."


def _over_quota(left: int, size: int) -> str:
    return (
        f"Image exceeds the storage quota: The size of the data {size} will exceed the limit. {left} bytes remaining."
    )
