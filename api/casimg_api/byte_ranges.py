"""Which bytes of an image a request asks for: `Range`, and the `Content-Range` that old clients send instead. Pure.

As Glance reads them: one range only; an end past the end of the image is clamped; a range that cannot be read or begins
past the end is not satisfiable. Where Glance stumbles (a range of an empty image, `bytes=-`, `bytes=-0`) this answers
as RFC 9110 wants.
"""

import re
from typing import Final

_RANGE: Final = re.compile(r"\s*bytes\s*=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*", re.ASCII | re.IGNORECASE)
_CONTENT_RANGE: Final = re.compile(r"\s*bytes\s+([0-9]{1,19})-([0-9]{1,19})/(?:([0-9]{1,19})|[*])\s*", re.ASCII)
"""Nineteen digits hold any size there is, and cost nothing to read."""


class ManyRangesError(ValueError):
    """More than one range: a bad request, as in Glance."""


class UnsatisfiableRangeError(ValueError):
    """No byte of the image is in the range, or it cannot be read."""


def parse_range(range_header: str | None, content_range: str | None, size: int) -> tuple[int, int] | None:
    """Return the (start, end) bytes that are asked for, `end` exclusive; None for all of the image.

    Args:
        range_header, content_range: the headers of the request; the second counts only without the first.
        size: bytes of the image.
    Raises: ManyRangesError, UnsatisfiableRangeError.
    """
    if range_header is not None:
        return _range(range_header, size)
    if content_range is not None:
        return _content_range(content_range, size)
    return None


def _range(header: str, size: int) -> tuple[int, int]:
    if "," in header:
        raise ManyRangesError(
            "Requests with multiple ranges are not supported in Glance. You may make multiple single-range requests "
            "instead."
        )
    match = _RANGE.fullmatch(header)
    if match is None or match[1] == match[2] == "":
        raise UnsatisfiableRangeError("Invalid Range header.")
    if match[1] == "":
        count = int(match[2])
        if not count or not size:
            raise _beyond("Range", size)
        return max(0, size - count), size
    start = int(match[1])
    end = size if match[2] == "" else int(match[2]) + 1
    if end <= start < size:
        raise UnsatisfiableRangeError("Invalid Range header.")
    if start >= size:
        raise _beyond("Range", size)
    return start, min(end, size)


def _content_range(header: str, size: int) -> tuple[int, int]:
    match = _CONTENT_RANGE.fullmatch(header)
    if match is None:
        raise UnsatisfiableRangeError("Invalid Content-Range header.")
    start, end = int(match[1]), int(match[2]) + 1
    if start >= end or start >= size:
        raise _beyond("Content-Range", size)
    if end > size:
        raise UnsatisfiableRangeError(
            "Invalid stop position in Content-Range header. The stop position MUST be in the inclusive range "
            f"[0, {size - 1}]."
        )
    return start, end


def _beyond(header: str, size: int) -> UnsatisfiableRangeError:
    if not size:
        return UnsatisfiableRangeError(f"Invalid {header} header: the image has no bytes.")
    return UnsatisfiableRangeError(
        f"Invalid start position in {header} header. Start position MUST be in the inclusive range [0, {size - 1}]."
    )
