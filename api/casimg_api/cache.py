"""`/v2/cache`: the cache of whole images that Glance keeps in front of slow stores; off here, for good.

Answers are those of a Glance without `image_cache_dir`: 403 for whoever may not manage a cache, 404 for who may.
"""

from collections.abc import Callable
from typing import Final

from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.routes import Route


def _absent(rule: str) -> Callable[..., None]:
    def handler(call: Call, **_parts: str) -> None:
        target = {} if call.caller.project_id is None else {"project_id": call.caller.project_id}
        call.policy.enforce(call.caller, rule, target)
        raise HttpError(404, "Caching via API is not supported at this site.")

    return handler


ROUTES: Final = (
    Route("GET", "/cache", _absent("cache_list"), rejects_body=True),
    Route("DELETE", "/cache", _absent("cache_delete")),
    Route("DELETE", "/cache/{image_id}", _absent("cache_delete")),
    Route("PUT", "/cache/{image_id}", _absent("cache_image")),
    Route("GET", "/cache/nodes/{image_id}", _absent("list_cached_nodes"), rejects_body=True),
    Route("POST", "/cache/clean", _absent("cache_clean")),
    Route("POST", "/cache/prune", _absent("cache_prune")),
)
