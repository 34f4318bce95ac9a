"""casimg beside Glance: the goals, and the section of the report. Pure."""

from collections.abc import Sequence
from typing import Final

from benchmarks.report.goals import Verdict, at_least
from benchmarks.report.results import Results, number, rows_of
from benchmarks.report.tables import format_value, markdown, table

_GOALS: Final[Sequence[tuple[str, str, float]]] = (
    ("download", "download", 1.0),
    ("Range reads", "range", 1.0),
    ("upload of known data", "upload the same again", 3.0),
    ("upload of the next generation", "upload the next generation", 3.0),
    ("upload of new data", "upload new", 1.5),
    ("list", "list ", 3.0),
    ("list by a property", "by a property", 3.0),
)
"""What is measured, what names its workloads, and how many times as fast as Glance casimg shall be."""


def glance_verdicts(results: Results) -> list[Verdict]:
    """Return the verdicts: each by the workload of its kind that is least good for casimg."""
    return [_verdict(results, *goal) for goal in _GOALS]


def _verdict(results: Results, what: str, named: str, least: float) -> Verdict:
    found = [
        (ratio, str(row["what"]))
        for row in rows_of(results, "glance")
        if _is_of(str(row.get("what", "")), named) and (ratio := number(row, "wall_ratio")) is not None
    ]
    ratio, where = min(found, default=(None, ""))
    return at_least(f"{what}, speed over Glance's", ratio, least, where)


def _is_of(what: str, named: str) -> bool:
    if named == "list ":
        return what.startswith(named) and "by a property" not in what
    return named in what if named in ("range", "by a property") else what.startswith(named)


def glance_section(results: Results) -> str:
    """Return the section of the report; empty without results."""
    rows = rows_of(results, "glance")
    if not rows:
        return ""
    said = {True: "met", False: "**not met**", None: "not measured"}
    cells = [[one.what, one.measured, one.goal, said[one.met]] for one in glance_verdicts(results)]
    settings = results["glance"].settings
    about = (
        f"Glance is {settings.get('glance', '?')} with {settings.get('glance_process_count', '?')} processes of "
        f"{settings.get('glance_thread_count', '?')} threads, its file store and SQLite; casimg is `casimg serve` with "
        f"{settings.get('casimg_worker_count', '?')} of {settings.get('casimg_thread_count', '?')}. Neither asks for a "
        f"token. Disks: {settings.get('disks', '?')}; `new` has {format_value('size', settings.get('new_size'))} with "
        f"holes, `no holes` {format_value('size', settings.get('dense_size'))}. Medians of "
        f"{settings.get('round_count', '?')} rounds of uploads, and more of the rest, by turns. Ratios are how many "
        "times as fast, thrifty or small casimg is. One client asks for one thing at a time, over loopback. Goals of "
        "downloads and ranges are about images that both have sent before, casimg from memory, Glance from the page "
        "cache; what the first download after a start takes, when casimg has to decode, stands by itself.\n"
    )
    goals = table(("what", "measured", "goal", ""), cells, (False,) * 4)
    return "\n".join(["## casimg beside Glance\n", about, goals, markdown(rows)])
