"""What `Repository.put` and `snapshot` take by name; `put_report` and `snapshot_report` say what it means."""

import os
import threading
from collections.abc import Iterable, Mapping
from typing import Required, TypedDict

from casimg.progress import ProgressCallback
from casimg.results.images import ByteRange
from casimg.source import SourceLike


class PutKeywords(TypedDict, total=False):
    """Of a put."""

    name: Required[str]
    backend: str | None
    disk_format: str
    container_format: str
    owner: str | None
    visibility: str
    properties: Mapping[str, str] | None
    same_name: bool
    allow_changes: bool
    progress: ProgressCallback | None
    cancel: threading.Event | None


class SnapshotKeywords(TypedDict, total=False):
    """Of a snapshot."""

    name: Required[str]
    source: SourceLike | None
    changed: str | os.PathLike[str] | Iterable[ByteRange] | None
    disk_format: str | None
    properties: Mapping[str, str] | None
    same_name: bool
    allow_changes: bool
    progress: ProgressCallback | None
    cancel: threading.Event | None
