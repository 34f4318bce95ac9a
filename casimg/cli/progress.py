"""Progress on stderr: a bar with speed, ETA and live ratio on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from casimg.progress import Progress, ProgressCallback
from casimg.sizes import format_size

_LINE_EVERY_S = 5.0
_COUNTED = {"index", "stats", "gc", "mark", "gather", "repack", "repair", "recover"}  # these count things, not bytes


@contextmanager
def showing(label: str, wanted: bool | None) -> Iterator[ProgressCallback | None]:
    """Give a callback that shows progress.

    Args:
        wanted: None shows a bar on a terminal and nothing elsewhere; True shows lines where there is no terminal.
    """
    if wanted is False or (wanted is None and not sys.stderr.isatty()):
        yield None
    elif sys.stderr.isatty():
        yield from _bar(label)
    else:
        yield _lines(label)


def _bar(label: str) -> Iterator[ProgressCallback]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[ratio]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, ratio="")

        def show(report: Progress) -> None:
            bar.update(task, completed=report.done_size, total=report.total_size, ratio=_ratio(report))

        yield show


def _lines(label: str) -> ProgressCallback:
    begin_s = time.monotonic()
    last_s = begin_s

    def show(report: Progress) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s < _LINE_EVERY_S:
            return
        last_s = now_s
        if report.stage in _COUNTED:
            done, total = str(report.done_size), str(report.total_size)
        else:
            done = format_size(report.done_size)
            total = "?" if report.total_size is None else format_size(report.total_size)
        speed = format_size(report.done_size / (now_s - begin_s))
        print(f"{label}: {done} of {total}, {speed}/s {_ratio(report)}".rstrip(), file=sys.stderr, flush=True)

    return show


def _ratio(report: Progress) -> str:
    if report.stage != "read" or not report.stored_size:
        return ""
    return f"{report.done_size / report.stored_size:.1f}:1"
