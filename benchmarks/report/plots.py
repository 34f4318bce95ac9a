"""Results to small SVG plots, the same bytes for the same results; told apart by markers and hatches, not by colour."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullFormatter

from benchmarks.report.results import OURS, Result, Results, Row, is_dedup, number, rows_of
from benchmarks.report.tables import format_value, title_of
from casimg.constants import GIB, KIB, MIB
from casimg.sizes import format_size

_STYLE: Any = {
    "svg.hashsalt": "casimg",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}
_LINES = (("o", "-"), ("s", "--"), ("^", ":"), ("D", "-."), ("v", "-"), ("x", "--"))
_COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666")
_STAGES = ("A", "B", "R")
_X_KEYS = (
    "repository_size",
    "unique_size",
    "plain_size",
    "image_count",
    "entry_count",
    "chunk_count",
    "generation_count",
    "generation",
    "changed_size",
    "disk_size",
    "size",
    "count",
)
_SERIES = ("growth", "growth_images", "growth_index", "snapshot", "generations", "random_reads", "small_images")
_Y_ENDS = ("_s", "_us", "_size", "_peak", "_ratio")
_PANELS_MAX = 6
_PANELS_IN_A_ROW = 3
_TICKS_MAX = 8
_LOG_OVER = 64  # the largest over the smallest value
_GROUP_KEYS = ("what", "state", "chunker", "pattern", "way")


def draw_all(results: Results, folder: Path) -> dict[str, list[str]]:
    """Draw what the results allow and return the file names by result; plots of an earlier run are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    drawn: dict[str, list[str]] = {}
    with mpl.rc_context(_STYLE):
        if any(number(row, "frames_size") for row in rows_of(results, "chunkers")):
            drawn["chunkers"] = [_save(_chunkers(results["chunkers"].rows), folder, "chunkers")]
        peers = rows_of(results, "peers")
        for name, figure in (("peers-wall", _peers_wall(peers)), ("peers-stored", _peers_stored(peers))):
            if figure is not None:
                drawn.setdefault("peers", []).append(_save(figure, folder, name))
        for name in _SERIES:
            figure = _series(results[name]) if name in results else None
            if figure is not None:
                drawn[name] = [_save(figure, folder, name)]
    return drawn


def _save(figure: Figure, folder: Path, name: str) -> str:
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    return f"{name}.svg"


def _chunkers(rows: Sequence[Row]) -> Figure:
    """Stored bytes and cut speed over the chunk size, a line per kind."""
    figure = Figure(figsize=(8.5, 3.2))
    large = max(number(row, "frames_size") or 0 for row in rows) >= GIB
    unit, name = (GIB, "GiB") if large else (MIB, "MiB")
    stored, speed = figure.subplots(1, 2)
    for number_, kind in enumerate(dict.fromkeys(str(row.get("chunker")) for row in rows)):
        of_kind = sorted((row for row in rows if row.get("chunker") == kind), key=lambda row: float(row["chunk_size"]))
        sizes = [float(row["chunk_size"]) / KIB for row in of_kind]
        # The index and the manifest are stored too; small chunks pay for them.
        whole = [
            sum(number(row, key) or 0.0 for key in ("frames_size", "manifest_size", "index_size")) / unit
            for row in of_kind
        ]
        _line(stored, number_, sizes, whole, kind)
        # Fixed cuts look at nothing but zeros: their speed is another scale.
        if kind != "fixed":
            _line(speed, number_, sizes, [number(row, "cut_gb_s") or 0.0 for row in of_kind], kind)
    for axes, title in (
        (stored, f"{name} stored: zstd 3 frames, manifest, index"),
        (speed, "cut speed, GB/s of one thread"),
    ):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("chunk size, KiB")
        axes.set_title(title, loc="left", fontsize=9)
        axes.legend()
    speed.set_ylim(bottom=0)
    return figure


def _line(axes: Axes, number_: int, x: Sequence[float], y: Sequence[float], label: str) -> None:
    marker, style = _LINES[number_ % len(_LINES)]
    axes.plot(x, y, marker=marker, linestyle=style, color=_COLORS[number_ % len(_COLORS)], label=label, markersize=4)


def _peers_wall(rows: Sequence[Row]) -> Figure | None:
    """Wall time per stage, a panel each, a bar per peer."""
    panels = [(stage, _figures(rows, stage, "wall_s")) for stage in _STAGES]
    panels = [(stage, found) for stage, found in panels if found]
    if not panels:
        return None
    names = [name for name in _peer_order(rows) if any(name in found for _, found in panels)]
    figure = Figure(figsize=(8.5, 0.8 + 0.22 * len(names)))
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (stage, found) in zip(all_axes, panels, strict=True):
        _bars(axes, names, found, lambda value: format_value("wall_s", value))
        axes.set_title(f"{stage}: seconds of wall time", loc="left", fontsize=9)
    figure.tight_layout()
    return figure


def _peers_stored(rows: Sequence[Row]) -> Figure | None:
    """Bytes stored after the last stage that stores, a bar per peer."""
    stages = [stage for stage in ("C", "B", "A") if _figures(rows, stage, "stored_size")]
    if not stages:
        return None
    found = {name: value / GIB for name, value in _figures(rows, stages[0], "stored_size").items()}
    names = [name for name in _peer_order(rows) if name in found]
    figure = Figure(figsize=(6, 0.8 + 0.22 * len(names)))
    axes = figure.subplots()
    _bars(axes, names, found, lambda value: format_size(value * GIB))
    axes.set_title(f"GiB stored after {stages[0]}", loc="left", fontsize=9)
    return figure


def _figures(rows: Sequence[Row], stage: str, key: str) -> dict[str, float]:
    return {
        str(row["peer"]): value
        for row in rows
        if row.get("stage") == stage and row.get("peer") and (value := number(row, key)) is not None
    }


def _peer_order(rows: Sequence[Row]) -> list[str]:
    """Ours first, then those that deduplicate, then the others."""
    names = dict.fromkeys(str(row.get("peer", "")) for row in rows)
    return sorted(names, key=lambda name: 0 if name.startswith(OURS) else 1 if is_dedup(name) else 2)


def _bars(axes: Axes, names: Sequence[str], found: Mapping[str, float], say: Any) -> None:
    for place, name in enumerate(names):
        if name not in found:
            continue
        ours, dedup = name.startswith(OURS), is_dedup(name)
        axes.barh(
            place,
            found[name],
            color="#0072b2" if ours else "#bbbbbb" if dedup else "#ffffff",
            edgecolor="black",
            linewidth=0.6,
            hatch="///" if ours else "",
        )
        axes.text(found[name], place, f" {say(found[name])}", va="center", fontsize=7)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.25)


def _series(result: Result) -> Figure | None:
    """Any figures over the first column that grows; None when the rows are no series."""
    x_key = next((key for key in _X_KEYS if len({row[key] for row in result.rows if number(row, key)}) > 2), None)
    if x_key is None:
        return None
    y_keys = [key for key in dict.fromkeys(key for row in result.rows for key in row) if _is_figure(key, x_key)]
    y_keys = chosen([key for key in y_keys if len({number(row, key) for row in result.rows} - {None}) > 1])
    if not y_keys:
        return None
    group_keys = [key for key in _GROUP_KEYS if len({row.get(key) for row in result.rows}) > 1]
    columns = min(len(y_keys), _PANELS_IN_A_ROW)
    lines = -(-len(y_keys) // columns)
    figure = Figure(figsize=(2.9 * max(2, columns), 2.8 * lines))
    panels = [axes for line in figure.subplots(lines, columns, squeeze=False) for axes in line]
    for unused in panels[len(y_keys) :]:
        unused.remove()
    for axes, y_key in zip(panels[: len(y_keys)], y_keys, strict=True):
        groups: dict[str, list[tuple[float, float]]] = {}
        for row in result.rows:
            x, y = number(row, x_key), number(row, y_key)
            if x is not None and y is not None:
                groups.setdefault(", ".join(str(row.get(key, "")) for key in group_keys), []).append((x, y))
        for number_, (name, points) in enumerate(groups.items()):
            points.sort()
            _line(axes, number_, [x for x, _ in points], [y for _, y in points], name)
        _scale(axes, x_key, y_key, [point for points in groups.values() for point in points])
        axes.set_xlabel(title_of(x_key))
        axes.set_title(title_of(y_key), loc="left", fontsize=9)
        if len(groups) > 1:
            axes.legend(fontsize=7)
    figure.tight_layout()
    return figure


def _scale(axes: Axes, x_key: str, y_key: str, points: Sequence[tuple[float, float]]) -> None:
    """Give the axes their units, and logarithms where the values need them; else they begin at zero."""
    for axis, set_scale, key, values in (
        (axes.xaxis, axes.set_xscale, x_key, sorted({x for x, _ in points})),
        (axes.yaxis, axes.set_yscale, y_key, sorted({y for _, y in points})),
    ):
        if values[0] > 0 and values[-1] / values[0] >= _LOG_OVER:
            set_scale("log", base=2 if key == "size" or key.endswith(("_size", "_peak")) else 10)
            axis.set_minor_formatter(NullFormatter())
        elif key == y_key:
            axes.set_ylim(0, values[-1] * 1.1 or 1)
        if key == x_key and len(values) <= _TICKS_MAX:
            axis.set_major_locator(FixedLocator(values))
        elif key.endswith(("_size", "_peak")) and axis.get_scale() == "linear":
            axis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(values[-1] / 4 or 1))))
        axis.set_major_formatter(FuncFormatter(partial(_tick, key)))
    axes.tick_params(axis="x", labelrotation=30, labelsize=7)


def _tick(key: str, value: float, _: object) -> str:
    return format_value(key, float(value))  # a number of numpy, which is no float of Python


def chosen(y_keys: Sequence[str]) -> list[str]:
    """Return the first keys, as many as are drawn; memory is always among them."""
    memory = [key for key in y_keys if key.endswith("_peak")][:1]
    others = [key for key in y_keys if key not in memory]
    return [*others[: _PANELS_MAX - len(memory)], *memory]


def _is_figure(key: str, x_key: str) -> bool:
    return key != x_key and key.endswith(_Y_ENDS) and not key.endswith("cpu_s")
