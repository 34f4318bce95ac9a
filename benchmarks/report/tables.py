"""Rows to Markdown tables: any flat rows, units read off the ends of their keys. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from casimg.sizes import format_size

_SIZES = ("_size", "_peak", "_growth")
_NAMES = {"mb_per_s": "speed", "rss_peak": "RSS", "rss_anon_peak": "RSS anon", "cpu_s": "CPU", "wall_s": "wall"}


def format_value(key: str, value: object) -> str:
    """Return a value in words, by the unit at the end of its key: `_s`, `_us`, `_size`, `_gb_s`, `_ratio`, `_count`."""
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if not isinstance(value, int | float):
        return escape(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
    if key.endswith("_gb_s"):
        return f"{value:.2f} GB/s"
    if key.endswith("mb_per_s"):
        return f"{value:,.0f} MB/s"
    if key.endswith("_us"):
        return format_seconds(value / 1e6)
    if key.endswith("_s"):
        return format_seconds(value)
    if key == "size" or key.endswith(_SIZES):
        return format_size(value)
    if key.endswith("ratio"):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def format_seconds(value: float) -> str:
    """Return seconds with three significant digits and a unit that suits them."""
    if value == 0 or value >= 0.9995:
        return f"{value:.0f} s" if value >= 99.95 else f"{value:.1f} s" if value >= 9.995 else f"{value:.2f} s"
    return f"{value * 1e3:.3g} ms" if value >= 0.9995e-3 else f"{value * 1e6:.3g} us"


def title_of(key: str) -> str:
    """Return a column's head: the key without its unit, which is in the cells."""
    if key in _NAMES:
        return _NAMES[key]
    for unit in ("_gb_s", "_us", "_s", "_size", "_count"):
        if key.endswith(unit) and key != unit:
            return key.removesuffix(unit).replace("_", " ")
    return key.replace("_", " ")


def titles_of(keys: Sequence[str]) -> list[str]:
    """Return the heads of columns, with the unit where two would be the same."""
    short = [title_of(key) for key in keys]
    return [title if short.count(title) == 1 else key.replace("_", " ") for key, title in zip(keys, short, strict=True)]


def escape(text: str) -> str:
    """Return text that cannot break a table cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of all rows in the order they first come in, without those that are empty everywhere."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key for key in keys if any(row.get(key) not in (None, "") for row in rows)]


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Return rows as a table; numbers to the right."""
    keys = list(columns_of(rows) if columns is None else columns)
    right = {
        key
        for key in keys
        if any(isinstance(row.get(key), int | float) and not isinstance(row.get(key), bool) for row in rows)
    }
    cells = [[format_value(key, row.get(key)) for key in keys] for row in rows]
    return table(titles_of(keys), cells, [key in right for key in keys])


def table(heads: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "|".join(" ---: " if at else " --- " for at in right) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines) + "\n"
