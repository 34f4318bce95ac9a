"""What commands print: text for people, or exactly one JSON document. Tables are imported when one is printed."""

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from casimg.sizes import format_size

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 400  # names and ids are never cut off in a pipe


def console(file: TextIO | None = None) -> "Console":
    """Return a console: colours and the terminal's width on a terminal, plain and wide elsewhere."""
    from rich.console import Console

    stream = file or sys.stdout
    return Console(file=stream, width=None if stream.isatty() else _PLAIN_WIDTH, highlight=False, soft_wrap=True)


def jsonable(value: object) -> Any:
    """Return a value of casimg.results as JSON types: sizes as integers, times as ISO 8601, bytes as hex."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
        for name in dir(type(value)):
            if isinstance(getattr(type(value), name), property):
                found[name] = jsonable(getattr(value, name))
        return found
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, Path):
        return str(value)
    return value


def print_json(value: object, file: TextIO | None = None) -> None:
    """Print one JSON document."""
    print(json.dumps(jsonable(value), indent=2, ensure_ascii=False), file=file or sys.stdout)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print a table; columns in `right` are numbers."""
    from rich.table import Table

    target = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        table.add_column(header, justify="right" if number in right else "left", no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*(cell.replace("[", "\\[") for cell in row))
    target.print(table)


def print_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Print `label  value` lines, aligned."""
    width = max(len(label) for label, _ in pairs)
    for label, value in pairs:
        print(f"{label:<{width}}  {value}")


def size_text(size: int | None) -> str:
    """Return a size for people; a dash for none."""
    return "-" if size is None else format_size(size)


def time_text(time: datetime) -> str:
    """Return a time for people: local, to the second."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def speed_text(size: int, duration_s: float) -> str:
    """Return a speed for people."""
    return f"{format_size(size / duration_s)}/s" if duration_s > 0 else "-"
