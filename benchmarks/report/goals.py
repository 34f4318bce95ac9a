"""The goals: what each measures, what is asked, and whether it is met. Pure: results in, verdicts out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.report.results import FROM_PIPE, OURS, Results, best_dedup, figure, number, rows_of
from casimg.constants import KIB, MIB
from casimg.sizes import format_size

_COMPACT: Final = "casimg-compact"
_MEMORY_MAX: Final = 256 * MIB


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal.

    Attributes:
        what: what is measured, against whom.
        measured: in words; "not measured" when a result is missing.
        goal: in words.
        met: None when it is not measured.
    """

    what: str
    measured: str
    goal: str
    met: bool | None


Goal = Callable[[Results], Verdict]


def verdicts(results: Results) -> list[Verdict]:
    """Return every goal's verdict, in the order of the table."""
    return [goal(results) for goal in GOALS]


def at_most(what: str, value: float | None, limit: float, detail: str = "", unit: str = "x") -> Verdict:
    """Return the verdict on a value that shall not be larger than the limit."""
    return _verdict(what, value, f"at most {limit:g} {unit}", value is not None and value <= limit, detail, unit)


def at_least(what: str, value: float | None, limit: float, detail: str = "", unit: str = "x") -> Verdict:
    """Return the verdict on a value that shall not be smaller than the limit."""
    return _verdict(what, value, f"at least {limit:g} {unit}", value is not None and value >= limit, detail, unit)


def _verdict(what: str, value: float | None, goal: str, met: bool, detail: str, unit: str) -> Verdict:
    if value is None:
        return Verdict(what, "not measured", goal, None)
    return Verdict(what, f"{value:.3g} {unit}" + (f" ({detail})" if detail else ""), goal, met)


def wall(what: str, ours: str, theirs: str, limit: float) -> Goal:
    """Return the goal: casimg's wall time of a stage over the fastest dedup peer's of a stage is at most `limit`."""

    def goal(results: Results) -> Verdict:
        mine, best = figure(results, OURS, ours, "wall_s"), best_dedup(results, "wall_s", theirs)
        if mine is None or best is None:
            return at_most(what, None, limit)
        return at_most(what, mine / best[1], limit, f"{mine:.2f} s, {best[0]} {best[1]:.2f} s")

    return goal


def stored(peer: str, limit: float) -> Goal:
    """Return the goal: what is stored after all raw images, over the best dedup peer's."""

    def goal(results: Results) -> Verdict:
        what = f"bytes stored after C, {peer}, over the best dedup peer's"
        mine, best = figure(results, peer, "C", "stored_size"), best_dedup(results, "stored_size", "C")
        if mine is None or best is None:
            return at_most(what, None, limit)
        return at_most(what, mine / best[1], limit, f"{format_size(mine)}, {best[0]} {format_size(best[1])}")

    return goal


def cpu(results: Results) -> Verdict:
    """CPU of taking in all raw images, over the thriftiest dedup peer's."""
    stages: tuple[str, ...]
    what, stages = "CPU of all raw images, over the thriftiest dedup peer's", ("A", "B", "C")
    if figure(results, OURS, "B3", "cpu_s") is not None:
        stages = ("A", "B", "B3", "C")
    parts = [figure(results, OURS, stage, "cpu_s") for stage in stages]
    mine, best = [part for part in parts if part is not None], best_dedup(results, "cpu_s", *stages)
    if len(mine) < len(parts) or best is None:
        return at_most(what, None, 0.5)
    return at_most(what, sum(mine) / best[1], 0.5, f"{sum(mine):.1f} s, {best[0]} {best[1]:.1f} s")


def stream(results: Results) -> Verdict:
    """Putting a known image again from standard input: a stage of its own, or the stage of the peer that does so.

    The bytes are all that come in, holes included.
    """
    what = "the same again from standard input (B2-)"
    for peer, stage in ((OURS, "B2-"), (FROM_PIPE, "B2")):
        wall_s = figure(results, peer, stage, "wall_s")
        size = figure(results, peer, stage, "size") or image_size(results, "B")
        if size and wall_s:
            return at_least(what, size / wall_s / 1e9, 1.5, f"{format_size(size)} in {wall_s:.2f} s", "GB/s")
    return at_least(what, None, 1.5, unit="GB/s")


def image_size(results: Results, stage: str) -> float | None:
    """Return the bytes of the images of a stage, which the settings of peers.json list."""
    images = results["peers"].settings.get("images") if "peers" in results else None
    of_stage = images.get(stage) if isinstance(images, dict) else None
    if not isinstance(of_stage, list):
        return None
    sizes = [size for image in of_stage if isinstance(image, dict) and (size := number(image, "size")) is not None]
    return sum(sizes) or None


def limit_share(what: str, stage: str, least: float) -> Goal:
    """Return the goal: the smallest ratio of `limits.json` rows about a stage is at least `least`."""

    def goal(results: Results) -> Verdict:
        rows = [
            row
            for row in rows_of(results, "limits")
            if str(row.get("what", "")).replace(":", " ").split()[:1] == [stage]
        ]
        ratios = [ratio for row in rows if (ratio := number(row, "ratio")) is not None]
        return at_least(what, min(ratios, default=None), least)

    return goal


def random_read(results: Results) -> Verdict:
    """A random read of 4 KiB with warm caches: the slowest of casimg's ways to read."""
    medians = [
        (median_s, str(row.get("what", "")))
        for row in rows_of(results, "random_reads")
        if row.get("size") == 4 * KIB
        and row.get("state") == "warm"
        and (median_s := number(row, "median_s")) is not None
    ]
    what, goal = "random read of 4 KiB, warm, median", "less than 1 ms"
    if not medians:
        return Verdict(what, "not measured", goal, None)
    median_s, where = max(medians)
    return Verdict(what, f"{median_s * 1e3:.3g} ms" + (f" ({where})" if where else ""), goal, median_s < 1e-3)


def generations(results: Results) -> Verdict:
    """Restoring the last generation of a disk, over restoring the first, after gc."""
    key = "last_over_first_after_gc"
    found = [value for row in rows_of(results, "generations") if (value := number(row, key)) is not None]
    return at_most("restore of the last generation over the first's, after gc", max(found, default=None), 1.5)


def memory(results: Results) -> Verdict:
    """Anonymous memory of every process tree of casimg that was measured."""
    peaks = [
        (peak, f"{name} {row.get('stage', '')}".strip())
        for name, result in sorted(results.items())
        for row in result.rows
        if str(row.get("peer", OURS)).startswith(OURS) and (peak := number(row, "rss_anon_peak")) is not None
    ]
    what, goal = "anonymous memory at the peak, every casimg run", f"less than {format_size(_MEMORY_MAX)}"
    if not peaks:
        return Verdict(what, "not measured", goal, None)
    peak, where = max(peaks)
    return Verdict(what, f"{format_size(peak)} ({where})", goal, peak < _MEMORY_MAX)


GOALS: Final[Sequence[Goal]] = (
    wall("first image (A), wall over the fastest dedup peer's A", "A", "A", 0.5),
    wall("next generation (B), wall over the fastest dedup peer's B", "B", "B", 0.25),
    wall("the generation after it (B3), wall over the fastest dedup peer's B3", "B3", "B3", 0.25),
    wall("the same again (B2), wall over the fastest dedup peer's B", "B2", "B", 0.25),
    stream,
    wall("restore (R), wall over the fastest dedup peer's R", "R", "R", 0.5),
    cpu,
    stored(OURS, 0.92),
    stored(_COMPACT, 0.85),
    limit_share("A, speed of the bare pipeline reached", "A", 0.85),
    limit_share("R, speed of bare decoding and writing reached", "R", 0.80),
    random_read,
    generations,
    memory,
)
