"""Choose the media type of an error's body from the Accept header, as webob does for Glance. Pure.

Clients depend on it: python-glanceclient sends `*/*` and reads HTML, tempest asks for JSON, and without a header the
answer is plain text.
"""

import re
from dataclasses import dataclass
from typing import Final

HTML: Final = "text/html"
JSON: Final = "application/json"
PLAIN: Final = "text/plain"
OFFERS: Final = (HTML, JSON)

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_VALUE = rf"""(?:{_TOKEN}|"(?:[^"\\]|\\.)*")"""
_QUALITY = r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)"
_RANGE = (
    rf"(?P<main>{_TOKEN})/(?P<sub>{_TOKEN})(?P<parameters>(?:[ \t]*;[ \t]*(?![qQ]=){_TOKEN}={_VALUE})*)"
    rf"(?:[ \t]*;[ \t]*[qQ]=(?P<quality>{_QUALITY})(?:[ \t]*;[ \t]*{_TOKEN}(?:={_VALUE})?)*)?"
)
_FIRST = re.compile(rf",|{_RANGE}")
_NEXT = re.compile(rf"[ \t]*,(?:[ \t]*{_RANGE})?")


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


@dataclass(frozen=True, slots=True)
class _MediaRange:
    main: str
    sub: str
    has_parameters: bool
    quality: float

    def specificity(self, main: str, sub: str) -> int:
        """Return how closely the range names a media type without parameters; 0 when it does not."""
        if (self.main, self.sub) == (main, sub):
            return 0 if self.has_parameters else 3
        if self.sub == "*":
            return 2 if self.main == main else int(self.main == "*")
        return 0


def _parse(accept: str) -> list[_MediaRange] | None:
    """Return the media ranges of a header; None for one that is none."""
    found: list[_MediaRange] = []
    position = 0
    while position < len(accept):
        item = (_NEXT if position else _FIRST).match(accept, position)
        if item is None:
            return None
        if item["main"]:
            quality = float(item["quality"] or 1)
            found.append(_MediaRange(item["main"].lower(), item["sub"].lower(), bool(item["parameters"]), quality))
        position = item.end()
    return found


def _quality(ranges: list[_MediaRange], offer: str) -> float:
    """Return the quality of an offer: that of the first of the most specific ranges that it falls in."""
    main, _, sub = offer.partition("/")
    best, quality = 0, 0.0
    for item in ranges:
        specificity = item.specificity(main, sub)
        if specificity > best:
            best, quality = specificity, item.quality
    return quality
