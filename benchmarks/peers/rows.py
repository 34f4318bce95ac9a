"""From measured stages to rows, sums and ratios. Pure functions, but for `as_tables`' drawing.

`wall_s` ends when the command does. What it left to the kernel to write is in `sync_s`, the seconds of a sync right
after it: at the same promise of durability, a peer that fsyncs nothing takes the sum of both.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from benchmarks.measure import Measured, as_row, median

STAGES: Mapping[str, str] = {
    "A": "store the first instance image",
    "B": "store its next generation, after an upgrade of the system",
    "B2": "store the same file again",
    "B3": "store the generation after it, used for a while",
    "C": "store all other raw images",
    "D": "store containers (qcow2 of three kinds, VMDK) of two goldens",
    "R": "restore B",
    "S": "restore all raw images",
}
LINEAGE = "A+B+C"
"""The stage of the row of sums: CPU and wall seconds of the whole raw lineage, bytes stored after it."""
_SUMMED = ("A", "B", "B3", "C")
_OPTIONAL = "B3"
"""A family of two generations has no such stage."""
NOT_MEASURED = "-"
"""The stage of the one row of a peer that did not begin."""
REFERENCE = "casimg"

Row = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """What one peer did in one stage.

    Attributes:
        runs: one per round.
        syncs_s: seconds that a sync took after each of them; none where that would only measure the disk.
        stored_size: bytes of disk after the stage, without caches.
        file_size: the same as bytes of files: of small files a file system takes whole blocks.
        index_size: bytes of disk of caches, which can be deleted at any time.
        equal: whether all restored files had the right SHA-256; None where nothing was restored.
        error: why there are no figures, or why they are incomplete.
        left_out: why the stage was not tried.
    """

    runs: list[Measured] = field(default_factory=list)
    syncs_s: list[float] = field(default_factory=list)
    stored_size: int | None = None
    file_size: int | None = None
    index_size: int | None = None
    equal: bool | None = None
    error: str | None = None
    left_out: str | None = None


def as_rows(name: str, version: str, note: str, outcomes: Mapping[str, Outcome]) -> list[Row]:
    """Return the rows of one peer: one per stage, and the one of sums when its three stages have figures."""
    rows = []
    for stage, outcome in outcomes.items():
        row: Row = {"peer": name, "version": version, "stage": stage}
        if outcome.runs:
            row |= as_row(median(outcome.runs))
        if outcome.syncs_s:
            row["sync_s"] = round(statistics.median(outcome.syncs_s), 3)
        facts = {
            "stored_size": outcome.stored_size,
            "file_size": outcome.file_size,
            "index_size": outcome.index_size,
            "equal": outcome.equal,
            "error": outcome.error,
            "left_out": outcome.left_out,
        }
        row |= {key: value for key, value in facts.items() if value is not None}
        rows.append({**row, "runs": len(outcome.runs), "note": note})
    total = lineage(rows)
    return [*rows, total] if total else rows


def lineage(rows: Sequence[Row]) -> Row | None:
    """Return the row of sums of one peer's rows, or None when a stage has no figures.

    Seconds are sums of medians, memory is the largest, bytes are those after the last stage.
    """
    parts = [row for stage in _SUMMED for row in rows if row["stage"] == stage]
    if {row["stage"] for row in parts} | {_OPTIONAL} != set(_SUMMED):
        return None
    if any("cpu_s" not in row or "error" in row for row in parts):
        return None
    last = parts[-1]
    return {
        **{key: last[key] for key in ("peer", "version")},
        "stage": LINEAGE,
        **{key: round(sum(row.get(key, 0) for row in parts), 3) for key in ("wall_s", "cpu_s", "sync_s")},
        **{key: max(row[key] for row in parts) for key in ("rss_peak", "rss_anon_peak")},
        **{key: last[key] for key in ("stored_size", "file_size", "index_size") if key in last},
        "runs": min(row["runs"] for row in parts),
        "note": last["note"],
    }


def ratio(rows: Sequence[Row], row: Row, key: str) -> float | None:
    """Return how many times the reference's figure of the same stage a row's is, or None without one."""
    for other in rows:
        if (other["peer"], other["stage"]) == (REFERENCE, row["stage"]) and other.get(key) and key in row:
            return float(row[key]) / float(other[key])
    return None


def as_tables(rows: Sequence[Row]) -> list[Table]:
    """Return a printable table per stage, the cheapest in CPU first, each figure with its ratio to casimg's."""
    tables = []
    for stage in (*STAGES, LINEAGE):
        of_stage = [row for row in rows if row["stage"] == stage]
        if not of_stage:
            continue
        table = Table(title=f"{stage}: {STAGES.get(stage, 'the raw lineage')}", title_justify="left")
        for heading in ("peer", "version"):
            table.add_column(heading)
        for heading in (
            "wall s",
            "sync s",
            "CPU s",
            "x casimg",
            "disk MB",
            "x casimg",
            "files MB",
            "RssAnon MB",
            "runs",
        ):
            table.add_column(heading, justify="right")
        table.add_column("equal")
        for row in sorted(of_stage, key=lambda row: row.get("cpu_s", float("inf"))):
            table.add_row(*_cells(rows, row))
        tables.append(table)
    missing = [row for row in rows if row["stage"] == NOT_MEASURED]
    if missing:
        table = Table(title="not measured", title_justify="left")
        table.add_column("peer")
        table.add_column("reason", overflow="fold")
        for row in missing:
            table.add_row(row["peer"], row["error"])
        tables.append(table)
    return tables


def _cells(rows: Sequence[Row], row: Row) -> list[str]:
    excuse = row.get("error") or row.get("left_out")
    stored, cpu = ratio(rows, row, "stored_size"), ratio(rows, row, "cpu_s")
    return [
        row["peer"],
        row["version"],
        f"{row['wall_s']:.2f}" if "wall_s" in row else "",
        f"{row['sync_s']:.2f}" if "sync_s" in row else "",
        f"{row['cpu_s']:.2f}" if "cpu_s" in row else "",
        f"{cpu:.2f}" if cpu is not None else "",
        f"{row['stored_size'] / 1e6:.1f}" if "stored_size" in row else "",
        f"{stored:.2f}" if stored is not None else "",
        f"{row['file_size'] / 1e6:.1f}" if "file_size" in row else "",
        f"{row['rss_anon_peak'] / 1e6:.0f}" if "rss_anon_peak" in row else "",
        str(row["runs"]),
        excuse.strip().splitlines()[-1][:80] if excuse else {True: "yes", False: "NO", None: ""}[row.get("equal")],
    ]
