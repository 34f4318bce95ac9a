"""What all routes of metadata definitions share: the namespace a path names, rules about it, bodies and pages."""

from collections.abc import Callable
from typing import Final, TypeVar

from casimg.catalog.metadef_rows import NamespaceRow
from casimg.metadef_documents import READ_ONLY
from casimg_api.context import Call
from casimg_api.errors import HttpError
from casimg_api.listing import parse_limit
from casimg_api.policy import forbidden
from casimg_api.requests import json_object, query
from casimg_api.rules import INT_MAX

T = TypeVar("T")
_TIMES: Final = ("created_at", "updated_at")


def namespace_for(call: Call, name: str, *rules: str) -> NamespaceRow:
    """Return the namespace of a path, when the caller sees it and all the rules allow it.

    Raises: HttpError 403, MetadefNotFoundError.
    """
    found = call.metadefs.namespace(name, call.caller.viewer)
    for rule in rules:
        enforce(call, rule, found)
    return found


def enforce(call: Call, rule: str, namespace: NamespaceRow | None = None) -> None:
    """Raise 403 unless a rule allows it; 404 when the caller may not even see the namespace."""
    if allows(call, rule, namespace):
        return
    if rule == "get_metadef_namespace" or not allows(call, "get_metadef_namespace", namespace):
        raise HttpError(404)
    raise forbidden(rule)


def allows(call: Call, rule: str, namespace: NamespaceRow | None = None) -> bool:
    """Return whether a rule allows something in a namespace, or in none when the caller's project counts."""
    target = {"project_id": call.caller.project_id}
    if namespace is not None:
        target = {"project_id": namespace.owner, "visibility": namespace.visibility}
    # what is not set is absent, so that it equals nothing
    return call.policy.allows(call.caller, rule, {key: value for key, value in target.items() if value is not None})


def body(call: Call, parse: Callable[[object], T], *, links: bool = True) -> T:
    """Return what a request's body describes.

    Args:
        links: `self` and `schema` are fields of what it describes, which only the server sets.
    Raises: HttpError 400, 403 for fields that only the server sets, 413; InputError.
    """
    document = json_object(call)
    for name in READ_ONLY:
        if name in document:
            if links or name in _TIMES:
                raise HttpError(403, f"Attribute '{name}' is read-only.")
            raise HttpError(400, f"Additional properties are not allowed ('{name}' was unexpected)")
    return parse(document)


def fields(call: Call) -> dict[str, str]:
    """Return the fields of the query; of one that is there twice the last counts."""
    return dict(query(call.req))


def ascending(asked: dict[str, str]) -> bool:
    """Return whether to sort upwards; downwards is the default. Raises: HttpError 400."""
    direction = asked.get("sort_dir", "desc")
    if direction not in ("asc", "desc"):
        raise HttpError(400, f"Invalid sort direction: {direction}")
    return direction == "asc"


def sort_key(asked: dict[str, str], known: tuple[str, ...]) -> str:
    """Return what to sort by. Raises: HttpError 400."""
    key = asked.get("sort_key", "created_at")
    if key not in known:
        raise HttpError(400, f"Invalid sort key: {key}; it must be one of {', '.join(known)}")
    return key


def limit(asked: dict[str, str], *, lowest: int = 0) -> int | None:
    """Return how many to list at most, None when that was not asked. Raises: HttpError 400."""
    if "limit" not in asked:
        return None
    found = parse_limit(asked["limit"])
    if found < lowest:
        raise HttpError(400, "limit param must be positive")
    return min(found, INT_MAX)


def check_visibility(asked: dict[str, str], *known: str) -> str | None:
    """Return the visibility to list. Raises: HttpError 400."""
    found = asked.get("visibility")
    if found and found not in known:
        raise HttpError(400, f"Invalid visibility value: {found}")
    return found
