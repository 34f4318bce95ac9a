"""Choose the media type of an error's body from the Accept header, as webob does for Glance. Pure.

Clients depend on it: python-glanceclient sends `*/*` and reads HTML, tempest asks for JSON, and without a header the
answer is plain text.
"""

import re
from typing import Final

HTML: Final = "text/html"
JSON: Final = "application/json"
PLAIN: Final = "text/plain"
OFFERS: Final = (HTML, JSON)

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QVALUE = r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)"
_PARAMETER = rf"""[ \t]*;[ \t]*(?![qQ][ \t]*=){_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*")"""
_EXTENSION = rf"""[ \t]*;[ \t]*{_TOKEN}(?:=(?:{_TOKEN}|"(?:[^"\\]|\\.)*"))?"""
_RANGE = re.compile(
    rf"(?P<main>{_TOKEN})/(?P<sub>{_TOKEN})(?P<parameters>(?:{_PARAMETER})*)"
    rf"(?:[ \t]*;[ \t]*[qQ]=(?P<q>{_QVALUE})(?:{_EXTENSION})*)?"
)
_SEPARATOR = re.compile(r"[ \t]*(?:,[ \t]*)+|[ \t]*$")


def error_type(accept: str) -> str:
    """Return the media type that an error is told in.

    Args:
        accept: the header; empty when there is none.
    """
    ranges = _parse(accept)
    if ranges is None:
        return HTML
    qualities = [(offer, _quality(ranges, offer)) for offer in OFFERS]
    best, quality = max(qualities, key=lambda item: item[1])
    return best if quality > 0 else PLAIN


def _parse(accept: str) -> list[tuple[str, str, bool, float]] | None:
    """Return (main, sub, has parameters, q) of each media range; None for a header that is none."""
    found: list[tuple[str, str, bool, float]] = []
    position = len(accept) - len(accept.lstrip(" \t,"))
    while position < len(accept):
        item = _RANGE.match(accept, position)
        if item is None:
            return None
        end = _SEPARATOR.match(accept, item.end())
        if end is None:
            return None
        main, sub = item["main"].lower(), item["sub"].lower()
        if main == "*" and sub != "*":
            return None
        found.append((main, sub, bool(item["parameters"]), float(item["q"] or 1)))
        position = end.end()
    return found


def _quality(ranges: list[tuple[str, str, bool, float]], offer: str) -> float:
    """Return the quality of an offer: that of the most specific range it falls in."""
    main, _, sub = offer.partition("/")
    best = (0, 0.0)
    for range_main, range_sub, has_parameters, quality in ranges:
        if has_parameters:
            continue
        if (range_main, range_sub) == (main, sub):
            specificity = 3
        elif (range_main, range_sub) == (main, "*"):
            specificity = 2
        elif range_main == "*":
            specificity = 1
        else:
            continue
        if specificity > best[0]:
            best = (specificity, quality)
    return best[1]
