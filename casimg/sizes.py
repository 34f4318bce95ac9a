"""Sizes as people write them: `64KiB`, `20TiB`. Pure."""

import re

from casimg.errors import InputError

_UNITS = ("", "K", "M", "G", "T", "P")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?\s*", re.IGNORECASE)


def parse_size(text: str | int) -> int:
    """Return the bytes that a size like `20TiB`, `64K` or `4096` means; units are powers of 1024.

    Raises: InputError.
    """
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text)
    if match is None:
        raise InputError(f"{text!r} is not a size; write it like 64KiB, 1.5GiB or 20TiB")
    return round(float(match[1]) * (1 << 10 * _UNITS.index(match[2].upper())))


def parse_share(text: str | int, whole: int) -> int:
    """Return the bytes that a share of `whole` like `5%`, or a size like `10GiB`, means.

    Raises: InputError.
    """
    if isinstance(text, str) and text.rstrip().endswith("%"):
        try:
            percent = float(text.rstrip()[:-1])
        except ValueError:
            percent = -1.0
        if not 0 < percent <= 100:
            raise InputError(f"{text!r} is not a share; write it like 5% or 0.5%")
        return int(whole * percent / 100)
    return parse_size(text)


def format_size(size: float) -> str:
    """Return a size with three significant digits in binary units: `1.50 GiB`, `873 MiB`, `0 B`."""
    sign, value = ("-", -size) if size < 0 else ("", float(size))
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            if not unit:
                return f"{sign}{value:.0f} B"
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{sign}{value:.{digits}f} {unit}iB"
        value /= 1024
    raise AssertionError("unreachable: the last unit always returns")
