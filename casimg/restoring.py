"""From a committed image to a file, device or stream: the flow around `casimg.restore`."""

import logging
import os
import threading
import time
from typing import BinaryIO

from casimg.catalog import ImageRow
from casimg.images import image_of
from casimg.ingest import thread_count
from casimg.leasing import leased_reader
from casimg.progress import ProgressCallback
from casimg.restore import Restore
from casimg.results.images import GetReport
from casimg.target import open_target
from casimg.wiring import Wiring

_log = logging.getLogger("casimg.restoring")


def get(
    wiring: Wiring,
    row: ImageRow,
    target: str | os.PathLike[str] | BinaryIO,
    *,
    resume: bool,
    in_place: bool,
    threads: int,
    progress: ProgressCallback | None,
    cancel: threading.Event | None,
) -> GetReport:
    """Write an image's bytes to a target, every chunk verified.

    Raises: ImageNotFoundError, TargetError, NoSpaceError, ChunkLostError, NodeDamagedError, CancelledError.
    """
    begin_s = time.monotonic()
    with leased_reader(wiring, row) as reader:
        opened = open_target(target, reader.tree.size, resume=resume, in_place=in_place)
        try:
            figures = Restore(reader, opened, threads=thread_count(threads), progress=progress, cancel=cancel).run()
            opened.finish()
        except BaseException:
            opened.abandon()
            raise
    _log.info("image.restored image=%s size=%d", row.id, figures.done_size)
    return GetReport(
        image=image_of(row),
        target=opened.label,
        size=figures.done_size,
        written_size=figures.written_size,
        hole_size=figures.hole_size,
        kept_size=figures.kept_size,
        duration_s=time.monotonic() - begin_s,
    )
