"""Read a map of changed ranges: what a hypervisor says has been written since the parent image.

Forms: lines of `offset size` (decimal or 0x hexadecimal, `#` begins a comment), or JSON as `nbdinfo --map --json`
(`offset`, `length`, `description` "dirty") and dirty-bitmap tools write it (`start` or `offset`, `length` or `size`,
an optional `dirty`). Like every changed-block tracking, the map is trusted: a change it does not name is not seen.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from casimg.constants import BLOCK_SIZE, MIB
from casimg.errors import ChangedMapError
from casimg.results.images import ByteRange

_MAP_SIZE_MAX = 256 * MIB


def read_changed_map(path: str | os.PathLike[str]) -> list[ByteRange]:
    """Return the ranges that a map file names, as they stand there.

    Raises: ChangedMapError naming the line or entry.
    """
    label = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAP_SIZE_MAX + 1)
    except (OSError, ValueError) as error:
        raise ChangedMapError(label, getattr(error, "strerror", None) or str(error)) from None
    if len(data) > _MAP_SIZE_MAX:
        raise ChangedMapError(label, "larger than 256 MiB")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ChangedMapError(label, "neither text nor JSON") from None
    if text.lstrip()[:1] in ("[", "{"):
        return _from_json(label, text)
    return _from_lines(label, text)


def _from_lines(label: str, text: str) -> list[ByteRange]:
    ranges = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            offset, size = (int(word, 0) for word in words)
        except ValueError:
            raise ChangedMapError(label, f"line {number} is not `offset size`: {line.strip()[:60]!r}") from None
        ranges.append(_range(label, f"line {number}", offset, size))
    return ranges


def _from_json(label: str, text: str) -> list[ByteRange]:
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise ChangedMapError(label, f"not JSON: {error}") from None
    if not isinstance(entries, list):
        raise ChangedMapError(label, "the JSON is not a list of ranges")
    ranges = []
    for number, entry in enumerate(entries):
        where = f"entry {number}"
        if not isinstance(entry, dict):
            raise ChangedMapError(label, f"{where} is not an object")
        offset = entry.get("offset", entry.get("start"))
        size = entry.get("length", entry.get("size"))
        if type(offset) is not int or type(size) is not int:
            raise ChangedMapError(label, f"{where} has no integer `offset` and `length`")
        described = entry.get("description")
        if described not in (None, "dirty", "clean"):
            raise ChangedMapError(label, f"{where} is described as {described!r}, not dirty or clean")
        if entry.get("dirty", described != "clean"):
            ranges.append(_range(label, where, offset, size))
    return ranges


def _range(label: str, where: str, offset: int, size: int) -> ByteRange:
    if offset < 0 or size < 0:
        raise ChangedMapError(label, f"{where} is negative")
    return ByteRange(offset, size)


def dirty_blocks(label: str, ranges: Iterable[ByteRange], size: int, parent_size: int) -> list[tuple[int, int]]:
    """Return the dirty (start, end) ranges of a disk of `size` bytes, widened to blocks, sorted and merged.

    What the parent does not have (a disk that grew), and a last block that is now cut elsewhere, is dirty too.

    Raises: ChangedMapError when a range reaches past the end of the disk.
    """
    spans = []
    for item in ranges:
        if item.offset + item.size > size:
            raise ChangedMapError(label, f"range {item.offset}+{item.size} reaches past the end of the disk at {size}")
        if item.size:
            spans.append((item.offset, item.offset + item.size))
    if size != parent_size:
        edge = min(size, parent_size)
        spans.append((edge - edge % BLOCK_SIZE, size))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        low = start - start % BLOCK_SIZE
        high = min(size, -(-end // BLOCK_SIZE) * BLOCK_SIZE)
        if low >= high:
            continue
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged
