"""Read result files. A file that is missing or damaged is a result that is not measured, never an error."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

DEDUP_PEERS = ("restic", "borg", "borg-64k", "borg2", "casync", "desync", "desync-16k", "bup", "zpaq", "hf-xet")
"""Programs that deduplicate, as casimg does; the goals are against these. Names are compared in small letters."""
OURS = "casimg"
FROM_PIPE = "casimg-stdin"
"""Ours, fed through a pipe."""


def is_dedup(peer: object) -> bool:
    """Tell whether a peer deduplicates; we are no peer."""
    return str(peer).lower() in DEDUP_PEERS


@dataclass(frozen=True, slots=True)
class Result:
    """One result file, as `benchmarks.measure.save` writes it."""

    name: str
    machine: Mapping[str, Any]
    made_at: str
    commit: str
    command: str
    settings: Mapping[str, Any]
    rows: Sequence[Row]


Results = Mapping[str, Result]
"""Result files by name."""


def load_results(folder: Path) -> dict[str, Result]:
    """Return the readable result files of a folder by name, sorted; an absent folder has none."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        result = _load(path)
        if result is not None:
            found[result.name] = result
    return found


def _load(path: Path) -> Result | None:
    try:
        whole = json.loads(path.read_text())
        rows = [row for row in whole["rows"] if isinstance(row, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Result(
        name=str(whole.get("name", path.stem)),
        machine=dict(whole.get("machine") or {}),
        made_at=str(whole.get("made_at", "")),
        commit=str(whole.get("commit", "")),
        command=str(whole.get("command", "")),
        settings=dict(whole.get("settings") or {}),
        rows=rows,
    )


def rows_of(results: Results, name: str) -> Sequence[Row]:
    """Return the rows of a result file; none when it is not there."""
    return results[name].rows if name in results else ()


def number(row: Row, key: str) -> float | None:
    """Return a figure of a row, None when it is not a number or the row is of a run that failed."""
    value = row.get(key)
    failed = bool(row.get("error")) or row.get("equal") is False
    return None if failed or isinstance(value, bool) or not isinstance(value, int | float) else value


def figure(results: Results, peer: str, stage: str, key: str) -> float | None:
    """Return a figure of a peer at a stage of `peers.json`."""
    found = [
        row for row in rows_of(results, "peers") if str(row.get("peer")).lower() == peer and row.get("stage") == stage
    ]
    return next((value for row in found if (value := number(row, key)) is not None), None)


def best_dedup(results: Results, key: str, *stages: str) -> tuple[str, float] | None:
    """Return the dedup peer with the smallest sum of a figure over stages, all of which it must have done."""
    sums = []
    for peer in DEDUP_PEERS:
        parts = [figure(results, peer, stage, key) for stage in stages]
        known = [part for part in parts if part is not None]
        if known and len(known) == len(parts):
            sums.append((sum(known), peer))
    if not sums:
        return None
    value, peer = min(sums)
    return peer, value
