"""`/v2/cache`: the cache of whole images that a server keeps in front of the repository, for administrators.

Without `cache.image_cache_dir` answers are those of a Glance without it: 403 for whoever may not manage a cache, 404
for who may.
"""

from typing import TYPE_CHECKING, Any, Final

from casimg.errors import ImageNotFoundError
from casimg_api.answers import send_json, send_nothing
from casimg_api.caching import cache_key
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.images import visible_image
from casimg_api.routes import Route
from casimg_api.rules import image_id_of

if TYPE_CHECKING:
    from casimg.catalog import ImageRow
    from casimg.catalog.image_cache import CachedImage
    from casimg_api.caching import Caching

_TARGET_HEADER: Final = "x-image-cache-clear-target"


def show(call: Call) -> None:
    """GET /cache: what this server has, and what it shall fetch."""
    images = _caching(call, "cache_list").state()
    cached = [_view(image) for image in images if image.state == "cached"]
    send_json(call, {"cached_images": cached, "queued_images": [i.image_id for i in images if i.state == "queued"]})


def clear(call: Call) -> None:
    """DELETE /cache: empty the cache, its queue, or both."""
    caching = _caching(call, "cache_delete")
    target = (call.req.get_header(_TARGET_HEADER) or "").lower()
    if target not in ("", "cache", "queue"):
        raise HttpError(400, f"If provided '{_TARGET_HEADER}' must be 'cache', 'queue' or empty string.")
    if target in ("", "queue"):  # first: what is fetched meanwhile does not come after all is gone
        caching.clear("queued")
    if target in ("", "cache"):
        caching.clear("cached")
    send_nothing(call)


def enqueue(call: Call, image_id: str) -> None:
    """PUT /cache/{id}: have this server fetch an active image."""
    row = visible_image(call, image_id)
    caching = _caching(call, "cache_image", row)
    if row.status != "active":
        raise HttpError(400, "Only images with status active can be targeted for queueing")
    if cache_key(row) is None:
        raise HttpError(400, "Data on web servers are cached when their sha256 or sha512 is known")
    caching.enqueue(row.id)
    send_nothing(call, 202)


def delete(call: Call, image_id: str) -> None:
    """DELETE /cache/{id}: take an image from the cache and the queue, also one that is deleted."""
    try:
        row = visible_image(call, image_id)
    except ImageNotFoundError:
        caching = call.services.caching
        # Who may not do it is not told what is there.
        if caching is None or not _allows(call, "cache_delete") or not caching.has(image_id_of(image_id)):
            raise
        caching.forget(image_id_of(image_id))
    else:
        _caching(call, "cache_delete", row).forget(row.id)
    send_nothing(call)


def nodes(call: Call, image_id: str) -> None:
    """GET /cache/nodes/{id}: the servers that have an image."""
    caching = _caching(call, "list_cached_nodes")
    row = visible_image(call, image_id)
    send_json(call, caching.rows.nodes(row.id))


def clean(call: Call) -> None:
    """POST /cache/clean: remove what cannot be used."""
    _caching(call, "cache_clean").clean()
    send_nothing(call, 200)


def prune(call: Call) -> None:
    """POST /cache/prune: bring the cache down to its size."""
    file_count, size = _caching(call, "cache_prune").prune()
    send_json(call, {"total_files_pruned": file_count, "total_bytes_pruned": size})


def _caching(call: Call, rule: str, row: "ImageRow | None" = None) -> "Caching":
    """Return the cache for a caller who may do this. Raises: HttpError 403, 404."""
    if row is None:
        call.policy.enforce(call.caller, rule, _own(call))
    else:
        call.policy.enforce_on_image(call.caller, rule, row)
    if call.services.caching is None:
        raise HttpError(404, "Caching via API is not supported at this site.")
    return call.services.caching


def _allows(call: Call, rule: str) -> bool:
    return call.policy.allows(call.caller, rule, _own(call))


def _own(call: Call) -> dict[str, object]:
    return {} if call.caller.project_id is None else {"project_id": call.caller.project_id}


def _view(image: "CachedImage") -> dict[str, Any]:
    return {
        "image_id": image.image_id,
        "hits": image.hits,
        "last_accessed": image.accessed_at.timestamp(),
        "last_modified": image.created_at.timestamp(),
        "size": image.size,
    }


ROUTES: Final = (
    Route("GET", "/cache", show, rejects_body=True),
    Route("DELETE", "/cache", clear),
    Route("DELETE", "/cache/{image_id}", delete),
    Route("PUT", "/cache/{image_id}", enqueue),
    Route("GET", "/cache/nodes/{image_id}", nodes, rejects_body=True),
    Route("POST", "/cache/clean", clean),
    Route("POST", "/cache/prune", prune),
)
