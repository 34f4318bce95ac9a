"""The query string of `GET /v2/images`, and the links from page to page. Pure.

Out goes a `casimg.registry.Query`; the catalog turns it into SQL.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, cast
from urllib.parse import urlencode

from casimg.registry import Filter, Query
from casimg_api.config import ImagesConfig
from casimg_api.errors import HttpError
from casimg_api.rules import image_id_of

SORT_KEYS: Final = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
VISIBILITIES: Final = ("community", "public", "private", "shared", "all")
MEMBER_STATUSES: Final = ("pending", "accepted", "rejected", "all")

_LISTED: Final = ("name", "id", "status", "container_format", "disk_format")
"""Texts that `in:` can ask for; a colon in a value of theirs is an operator."""
_NUMBERS: Final = ("size", "virtual_size", "min_disk", "min_ram")
_TEXTS: Final = ("owner", "checksum", "os_hash_value", "os_hash_algo")
_TIMES: Final = ("created_at", "updated_at")
_COMPARISONS: Final = ("eq", "neq", "gt", "gte", "lt", "lte")
_INTEGER: Final = re.compile(r"\s*[+-]?[0-9]{1,30}\s*", re.ASCII)
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"(?:,|$)|([^,]*)(?:,|$)')

PROPERTY: Final = "property:"
"""Before the name of an extra property in a filter."""

Fields = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ListRequest:
    """One page that a client asks for."""

    query: Query
    fields: tuple[tuple[str, str], ...]
    """The query as it came, without its marker."""


def parse(fields: Fields, config: ImagesConfig) -> ListRequest:
    """Return the page that the fields of a query string ask for. Raises: HttpError 400."""
    rest = list(fields)
    limit = _take_last(rest, "limit")
    marker = _take_last(rest, "marker")
    member_status = _take_last(rest, "member_status")
    tags = tuple(value.strip() for value in _take_all(rest, "tag"))
    sort = _sorting(rest)
    visibility = _take_last(rest, "visibility")
    hidden = _take_last(rest, "os_hidden")
    if visibility is not None and visibility not in VISIBILITIES:
        raise HttpError(400, f"Invalid visibility value: {visibility}")
    if member_status is not None and member_status not in MEMBER_STATUSES:
        raise HttpError(400, f"Invalid status: {member_status}")
    query = Query(
        filters=tuple(item for name, value in dict(rest).items() for item in _filters(name, value)),
        tags=tags,
        visibility=visibility,
        member_status=member_status or "accepted",
        hidden=hidden is not None and _boolean("os_hidden", hidden.lower()),
        sort=sort,
        marker=None if marker is None else image_id_of(marker),
        limit=min(config.api_limit_max, config.limit_param_default if limit is None else parse_limit(limit)),
    )
    return ListRequest(query, tuple(item for item in fields if item[0] != "marker"))


def properties_asked(query: Query) -> set[str]:
    """Return the names of extra properties that a query filters by."""
    return {item.field.removeprefix(PROPERTY) for item in query.filters if item.field.startswith(PROPERTY)}


def page_links(fields: Iterable[tuple[str, str]], next_marker: str | None, path: str) -> dict[str, str]:
    """Return the links of a page: `first`, and `next` when a full page came back.

    Args:
        fields: of the query, without its marker.
        next_marker: id of the last entry of a full page.
    """
    kept = list(fields)
    found = {"first": _link(path, kept)}
    if next_marker is not None:
        found["next"] = _link(path, [*kept, ("marker", next_marker)])
    return found


def parse_limit(text: str) -> int:
    """Return the wanted number of entries. Raises: HttpError 400 when it is none, or negative."""
    if not _INTEGER.fullmatch(text):
        raise HttpError(400, "limit param must be an integer")
    limit = int(text)
    if limit < 0:
        raise HttpError(400, "limit param must be positive")
    return limit


def _link(path: str, fields: Fields) -> str:
    text = urlencode(fields)
    return f"{path}?{text}" if text else path


def _take_all(fields: Fields, name: str) -> list[str]:
    found = [value for key, value in fields if key == name]
    fields[:] = [item for item in fields if item[0] != name]
    return found


def _take_last(fields: Fields, name: str) -> str | None:
    found = _take_all(fields, name)
    return found[-1] if found else None


# Order


def _sorting(fields: Fields) -> tuple[tuple[str, bool], ...]:
    """Return (key, ascending) from either syntax, with the keys that decide between equals."""
    new, keys, directions = (_take_all(fields, name) for name in ("sort", "sort_key", "sort_dir"))
    if new and (keys or directions):
        raise HttpError(400, "Old and new sorting syntax cannot be combined")
    if new:
        parts = [part.partition(":") for part in new[-1].strip().split(",")]
        keys = [key.strip() for key, _, _ in parts]
        directions = [direction.strip() or "desc" for _, _, direction in parts]
    else:
        keys = [key.strip() for key in keys] or ["created_at"]
        directions = [direction.strip() for direction in directions] or ["desc"]
        if len(directions) == 1:
            directions *= len(keys)
        if len(directions) != len(keys):
            raise HttpError(400, "Number of sort dirs does not match the number of sort keys")
    for key in keys:
        if key not in SORT_KEYS:
            raise HttpError(400, f"Invalid sort key: {key}. It must be one of the following: {', '.join(SORT_KEYS)}.")
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise HttpError(400, f"Invalid sort direction: {direction}")
    found: dict[str, bool] = {}
    for key, direction in zip(keys, directions, strict=True):
        found.setdefault(key, direction == "asc")
    among_equals = len(set(directions)) == 1 and directions[0] == "asc"
    for key in ("created_at", "id"):
        found.setdefault(key, among_equals)
    return tuple(found.items())


# Filters


def _filters(name: str, value: str) -> tuple[Filter, ...]:
    if name == "changes-since":
        raise HttpError(400, 'The "changes-since" filter is no longer available on v2.')
    if name == "deleted":
        return ()  # a list never has deleted images
    if name[-4:] in ("_min", "_max") and name[:-4] in _NUMBERS:
        return (Filter(name[:-4], "gte" if name.endswith("_min") else "lte", _number(value)),)
    if name in _TIMES:
        return (_time_filter(name, value),)
    if name in _LISTED:
        return (_text_filter(name, value),)
    if name in _NUMBERS:
        return (Filter(name, "eq", _number(value)),)
    if name == "protected":
        return (Filter(name, "eq", _boolean(name, value)),)
    return (Filter(name if name in _TEXTS else f"{PROPERTY}{name}", "eq", value),)


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise HttpError(400, f"Invalid value '{value}' for '{name}' filter. Valid values are 'true' or 'false'.")
    return value == "true"


def _number(value: str) -> int:
    if not _INTEGER.fullmatch(value):
        raise HttpError(400, "Unable to filter on a range with a non-numeric value.")
    return int(value)


def _text_filter(name: str, value: str) -> Filter:
    operator, colon, operand = value.partition(":")
    if not colon:
        operator, operand = "eq", value
    spell = image_id_of if name == "id" else str
    if operator == "in":
        return Filter(name, "in", tuple(spell(item) for item in split_list(operand)))
    if operator == "eq":
        return Filter(name, "eq", spell(operand))
    raise HttpError(400, f"Unable to filter by unknown operator '{operator}'.")


def split_list(text: str) -> list[str]:
    """Return the values of an `in:` list: separated by commas, in double quotes when they have some themselves."""
    found: list[str] = []
    position = 0
    while True:
        item = _QUOTED.match(text, position)
        if item is None or (item[1] is None and '"' in item[2].replace('\\"', "")):
            raise HttpError(400, f"Invalid filter value {text}. Quotation marks enclose a whole value.")
        found.append(item[2] if item[1] is None else item[1])
        position = item.end()
        if position >= len(text) and not item[0].endswith(","):
            return [value for value in found if value] or [""]
        if position >= len(text):
            return found


def _time_filter(name: str, value: str) -> Filter:
    operator, colon, operand = value.partition(":")
    moment = _moment(value)
    if moment is not None:
        return Filter(name, "eq", moment)
    if not colon or operator not in _COMPARISONS:
        raise HttpError(400, f'Bad "{name}" query filter format. Use ISO 8601 DateTime notation.')
    moment = _moment(operand)
    if moment is None:
        raise HttpError(400, f'Bad "{name}" query filter format. Use ISO 8601 DateTime notation.')
    return Filter(name, cast(Literal["eq", "neq", "gt", "gte", "lt", "lte"], operator), moment)


def _moment(text: str) -> datetime | None:
    """Return the time that an ISO 8601 text says, in UTC when it names no zone; None when it says none."""
    # a plus sign that was not escaped in the URL arrives as a space
    try:
        found = datetime.fromisoformat(re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", text.strip()))
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
