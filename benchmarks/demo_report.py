"""What the demo shows: progress while it runs, and at its end a table that needs no explanation.

In: `casimg.Progress` and the rows of the outcome. Out: text on a console, or plain values for JSON.
"""

import os
import platform
import time
from dataclasses import asdict, dataclass
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

import casimg
from casimg.chunker import description
from casimg.results.figures import Stats
from casimg.sizes import format_size

_MB = 10**6
_LINE_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """One image, stored and given back. Sizes are bytes; `stored_size` counts data and metadata packs."""

    name: str
    virtual_size: int
    hole_size: int
    plain_size: int
    new_size: int
    stored_size: int
    put_s: float
    get_s: float
    sha256: str
    equal: bool
    instant: bool = False
    """True for a snapshot of a stored image: no byte is read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a run found; `failures` is empty when every comparison held."""

    rows: tuple[Row, ...]
    file_count: int
    different_share: float
    """Of the files of system-b, those added or changed when it was built; planned, not measured on the images."""
    stats: Stats
    verify_equal: bool
    freed_size: int
    objects_size_before: int
    objects_size_after: int
    check_clean: bool
    failures: tuple[str, ...]
    duration_s: float

    def to_json(self) -> dict[str, Any]:
        """Return plain values, with the machine and the ratios beside the figures they come from."""
        ratios = {name: getattr(self.stats, name) for name in ("hole_ratio", "dedup_ratio", "compression_ratio")}
        stats = {**asdict(self.stats), **ratios, "total_ratio": self.stats.total_ratio}
        return {**asdict(self), "machine": machine(), "stats": stats}


def machine() -> str:
    """Return what the speeds depend on, in one line."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {platform.machine()}, {description()}, Python {platform.python_version()}"


class Ticker:
    """Shows the progress of one step: a bar on a terminal, a line now and then elsewhere. A context manager.

    Threads: called from the thread that runs the step.
    """

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._begin_s = self._line_s = time.monotonic()
        self._last: casimg.Progress | None = None
        columns = (TextColumn("{task.description:<28}", markup=False), BarColumn(30), TaskProgressColumn())
        more = (TextColumn("{task.fields[facts]}", markup=False), TimeRemainingColumn())
        self._bar = Progress(*columns, *more, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task(title, total=None, facts="") if self._bar else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()
        if error[0] is None:
            # A collection counts packs, not bytes.
            size = f" {format_size(self._last.done_size)}" if self._last and self._last.stage != "gc" else ""
            took_s = time.monotonic() - self._begin_s
            say(self._console, f"{self._title}:{size} in {took_s:.1f} s{_ratio_of(self._last)}")

    def tell(self, progress: casimg.Progress) -> None:
        """Take a report of the library."""
        self._last = progress
        done_s = time.monotonic()
        facts = f"{_mb_s(progress.done_size, done_s - self._begin_s)} MB/s{_ratio_of(progress)}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=progress.done_size, total=progress.total_size, facts=facts)
        elif not self._bar and done_s - self._line_s >= _LINE_EVERY_S:
            self._line_s = done_s
            share = f"{progress.done_size / progress.total_size:.0%} " if progress.total_size else ""
            say(self._console, f"  {self._title}: {share}{facts}")


def say(console: Console, text: str) -> None:
    """Print a line as it is: no markup, no colours of numbers, no wrapping."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def print_report(console: Console, outcome: Outcome) -> None:
    """Print the table, the ratios and the closing sentence."""
    console.print()
    console.print(_table(outcome.rows))
    stats = outcome.stats
    say(console, f"Speeds are of bytes outside holes, in MB (10^6 bytes) per second, on {machine()}.")
    say(
        console,
        f"Holes save {stats.hole_ratio:.2f}x ({format_size(stats.virtual_size)} -> {format_size(stats.plain_size)}), "
        f"deduplication {stats.dedup_ratio:.2f}x (-> {format_size(stats.unique_size)}), "
        f"compression {stats.compression_ratio:.2f}x (-> {format_size(stats.stored_size)}); "
        f"metadata {format_size(stats.metadata_size)}, index (a cache) {format_size(stats.index_size)}.",
    )
    say(
        console,
        f"system-a holds {outcome.file_count} files. system-b was built apart from it, in another order, with "
        f"{outcome.different_share:.1%} of its files added or changed.",
    )
    say(
        console,
        f"Deleting system-b and gc gave back {format_size(outcome.freed_size)}: the packs went from "
        f"{format_size(outcome.objects_size_before)} to {format_size(outcome.objects_size_after)}. "
        "Packs that are needed in part are written anew when they hold too much that is not.",
    )
    if outcome.failures:
        say(console, f"FAILED, {len(outcome.failures)} times:")
        for failure in outcome.failures:
            say(console, f"  {failure}")
        return
    total_size = stats.stored_size + stats.metadata_size
    say(
        console,
        f"{stats.image_count} images of {format_size(stats.virtual_size)} in all are kept in "
        f"{format_size(total_size)}, "
        f"{stats.total_ratio:.1f} times less, and every one came back bit for bit ({outcome.duration_s:.0f} s).",
    )


def _table(rows: tuple[Row, ...]) -> Table:
    table = Table(title="casimg demo", title_justify="left")
    table.add_column("image", overflow="fold")
    for head in ("virtual", "holes", "plain", "new bytes", "stored", "ratio", "put MB/s", "get MB/s", "SHA-256 equal"):
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*_cells(row), style=None if row.equal else "bold red")
    table.add_section()
    # An instant snapshot reads nothing; counted in, it would make the speed of storing look better than it is.
    read = [row for row in rows if not row.instant]
    total = _cells(_total(rows))
    total[7] = _mb_s(sum(row.plain_size for row in read), sum(row.put_s for row in read))
    table.add_row(*total, style="bold")
    return table


def _total(rows: tuple[Row, ...]) -> Row:
    return Row(
        name="in all",
        virtual_size=sum(row.virtual_size for row in rows),
        hole_size=sum(row.hole_size for row in rows),
        plain_size=sum(row.plain_size for row in rows),
        new_size=sum(row.new_size for row in rows),
        stored_size=sum(row.stored_size for row in rows),
        put_s=sum(row.put_s for row in rows),
        get_s=sum(row.get_s for row in rows),
        sha256="",
        equal=all(row.equal for row in rows),
    )


def _cells(row: Row) -> list[str]:
    sizes = (row.virtual_size, row.hole_size, row.plain_size, row.new_size, row.stored_size)
    return [
        row.name,
        *(format_size(size) for size in sizes),
        f"{row.virtual_size / row.stored_size:.1f}" if row.stored_size else "all shared" if row.plain_size else "-",
        f"{1000 * row.put_s:.0f} ms" if row.instant else _mb_s(row.plain_size, row.put_s),
        _mb_s(row.plain_size, row.get_s),
        "yes" if row.equal else "NO",
    ]


def _ratio_of(progress: casimg.Progress | None) -> str:
    """Return what storing makes of the bytes so far, when anything is stored."""
    if progress is None or not progress.stored_size:
        return ""
    return f", {progress.done_size / progress.stored_size:.1f}:1"


def _mb_s(size: int, duration_s: float) -> str:
    return f"{size / _MB / duration_s:.0f}" if duration_s > 0 and size else "-"
