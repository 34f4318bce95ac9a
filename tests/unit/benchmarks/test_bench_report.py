"""The report: goals, tables, and result files that are missing or strange."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.goals import verdicts
from benchmarks.report.results import Result, best_dedup, figure, load_results
from benchmarks.report.sections import EXPECTED, report
from benchmarks.report.tables import format_value, markdown, titles_of
from casimg.constants import GIB, MIB


def result(name: str, rows: list[dict[str, Any]], **settings: object) -> Result:
    """A result file of a made-up machine."""
    return Result(name, {"cpu": "made up", "cores": 2}, "2026-01-01T00:00:00+00:00", "abc", "python", settings, rows)


def peer(name: str, stage: str, wall_s: float, **more: object) -> dict[str, Any]:
    """A row of peers.json."""
    row = {"peer": name, "version": "1", "stage": stage, "wall_s": wall_s, "cpu_s": wall_s, "stored_size": GIB}
    return {**row, "rss_anon_peak": 100 * MIB, "equal": True, "runs": 3, "note": "", "error": "", **more}


def met(*results: Result) -> dict[str, bool | None]:
    """Return whether each goal is met, by the beginning of what it is about."""
    return {verdict.what.split(",")[0]: verdict.met for verdict in verdicts({item.name: item for item in results})}


def test_nothing_measured_meets_nothing() -> None:
    """Without results every goal is not measured, neither met nor missed."""
    assert set(met().values()) == {None}


@pytest.mark.parametrize(("ours_s", "expected"), [(5.0, True), (5.1, False)])
def test_the_first_image_is_held_against_the_fastest_dedup_peer(ours_s: float, expected: bool) -> None:
    """Half of the fastest peer that deduplicates; cp, a peer that failed and one that gave other bytes do not count."""
    others = [peer("cp", "A", 0.1), peer("restic", "A", 10.0), peer("borg", "A", 12.0)]
    broken = [peer("bup", "A", 1.0, error="no"), peer("zpaq", "A", 1.0, equal=False)]
    found = met(result("peers", [peer("casimg", "A", ours_s), *others, *broken]))
    assert found["first image (A)"] is expected


def test_next_generation_and_the_same_again_are_held_against_b() -> None:
    """Both are at most a quarter of the fastest dedup peer's B."""
    rows = [peer("casimg", "B", 2.5), peer("casimg", "B2", 2.6), peer("restic", "B", 10.0), peer("restic", "B2", 99.0)]
    found = met(result("peers", rows))
    assert (found["next generation (B)"], found["the same again (B2)"]) == (True, False)


@pytest.mark.parametrize(("name", "stage"), [("casimg", "B2-"), ("casimg-stdin", "B2")])
def test_the_pipe_is_a_stage_or_a_peer(name: str, stage: str) -> None:
    """The speed from a pipe is found under either name; without a size it is not measured."""
    row = peer(name, stage, 1.0)
    assert (
        met(result("peers", [row], images={"B": [{"size": 1_600_000_000}]}))["the same again from standard input (B2-)"]
        is True
    )
    assert met(result("peers", [{**row, "size": 1_400_000_000}]))["the same again from standard input (B2-)"] is False
    assert met(result("peers", [row]))["the same again from standard input (B2-)"] is None


def test_cpu_is_the_sum_over_three_stages() -> None:
    """A peer without one of the stages is not compared, nor are we without all three."""
    ours = [peer("casimg", stage, 1.0) for stage in "ABC"]
    theirs = [peer("restic", stage, 2.0) for stage in "ABC"] + [peer("borg", "A", 0.1)]
    assert met(result("peers", [*ours, *theirs]))["CPU of all raw images"] is True
    assert met(result("peers", [*ours[:2], *theirs]))["CPU of all raw images"] is None


def test_stored_bytes_have_two_goals() -> None:
    """0.92 of the best dedup peer for casimg, 0.85 for its compact preset."""
    sizes = {"casimg": 91, "casimg-compact": 86, "restic": 100, "borg": 110}
    verdict = {
        item.what: item.met
        for item in verdicts({"peers": result("peers", [peer(n, "C", 1.0, stored_size=s) for n, s in sizes.items()])})
        if "stored after C" in item.what
    }
    assert list(verdict.values()) == [True, False]


def test_limits_random_reads_and_generations() -> None:
    """The worst row counts: the smallest ratio, the slowest warm read of 4 KiB; cold and larger reads do not."""
    limits = result(
        "limits", [{"what": "A put", "ratio": 0.9}, {"what": "A", "ratio": 0.8}, {"what": "R", "ratio": 0.8}]
    )
    reads = [("warm", 4096, 0.0009), ("cold", 4096, 0.1), ("warm", 65536, 0.1)]
    rows = [{"what": "mount", "size": size, "state": state, "median_s": s} for state, size, s in reads]
    found = met(limits, result("random_reads", rows), result("generations", [{"last_over_first_after_gc": 1.6}]))
    assert found["A"] is False
    assert found["R"] is True
    assert found["random read of 4 KiB"] is True
    assert found["restore of the last generation over the first's"] is False


def test_memory_is_that_of_casimg_only() -> None:
    """Every row of ours counts, in any file, and no peer's."""
    peers = result("peers", [peer("casimg", "A", 1.0), peer("restic", "A", 1.0, rss_anon_peak=GIB)])
    assert met(peers)["anonymous memory at the peak"] is True
    growth = result("growth", [{"put_s": 1.0, "rss_anon_peak": 256 * MIB}])
    assert met(peers, growth)["anonymous memory at the peak"] is False


def test_names_of_peers_are_compared_in_small_letters() -> None:
    """`borg-64K` and `borg-64k` are one peer."""
    found = {"peers": result("peers", [peer("borg-64K", "A", 3.0)])}
    assert figure(found, "borg-64k", "A", "wall_s") == 3.0
    assert best_dedup(found, "wall_s", "A") == ("borg-64k", 3.0)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("wall_s", 0.0123, "12.3 ms"),
        ("wall_s", 12.34, "12.3 s"),
        ("median_s", 0.00041, "410 us"),
        ("each_us", 2.5, "2.5 us"),
        ("stored_size", 3 * MIB, "3.00 MiB"),
        ("rss_peak", 3 * MIB, "3.00 MiB"),
        ("cut_gb_s", 2.345, "2.35 GB/s"),
        ("chunk_count", 1234567, "1,234,567"),
        ("dedup_ratio", 2.1, "2.10"),
        ("equal", False, "NO"),
        ("note", "a|b\nc", "a\\|b c"),
        ("error", None, ""),
        ("images", ["a.raw", "b.raw"], "a.raw, b.raw"),
    ],
)
def test_units_come_from_the_ends_of_keys(key: str, value: object, said: str) -> None:
    """Each kind of value is written with its unit, and text cannot break a table."""
    assert format_value(key, value) == said


def test_columns_of_any_rows() -> None:
    """Keys of all rows become columns, empty ones are left out, and heads that would be the same keep their units."""
    text = markdown([{"chunk_size": 1024, "chunk_count": 2, "error": ""}, {"what": "x", "chunk_count": 3}])
    assert text.splitlines()[0] == "| chunk size | chunk count | what |"
    assert text.splitlines()[-1] == "|  | 3 | x |"
    assert titles_of(["rss_anon_peak", "wall_s"]) == ["RSS anon", "wall"]


def test_damaged_files_are_as_good_as_none(tmp_path: Path) -> None:
    """Text that is no JSON, JSON of another shape and rows that are no rows never break the report."""
    (tmp_path / "peers.json").write_text("{")
    (tmp_path / "growth.json").write_text("[1]")
    (tmp_path / "limits.json").write_text(json.dumps({"name": "limits", "rows": [1, {"what": "A", "ratio": "x"}]}))
    (tmp_path / "micro.json").write_text(json.dumps({"name": "micro", "rows": [{"case": "x"}]}))
    (tmp_path / "chunkers.json").write_text(json.dumps({"name": "chunkers", "rows": [{"chunker": "x"}]}))
    found = load_results(tmp_path)
    assert sorted(found) == ["chunkers", "limits", "micro"]
    assert set(met(*found.values()).values()) == {None}
    assert "peers.json" in report(found, {}).partition("## Not measured")[2]


def test_a_report_of_nothing_lists_what_is_missing(tmp_path: Path) -> None:
    """Without a results folder there is a report, with every expected file as not measured."""
    text = report(load_results(tmp_path / "absent"), {})
    assert text.count(".json`)") == len(EXPECTED)
    assert "## Goals" in text


def test_a_failed_peer_shows_why_and_no_figures() -> None:
    """The row of a peer that failed has its error, and neither figures nor ratios."""
    rows = [peer("casimg", "A", 2.0), peer("bup", "A", 5.0, error="out of memory"), peer("borg", "A", 5.0, equal=False)]
    text = report({"peers": result("peers", rows, stages={"A": "a golden"})}, {})
    assert "### A: a golden" in text
    lines = {line.split(" | ")[0]: line for line in text.partition("### A")[2].splitlines()}
    assert "out of memory" in lines["| bup"]
    assert "5.00 s" not in lines["| bup"]
    assert "other bytes" in lines["| borg"]


def test_a_peer_that_could_not_run_is_listed_with_the_reason() -> None:
    """It is in the table of peers, and its stage that is none gets no table; what was left out says why."""
    rows = [
        peer("casimg", "B2", 1.0),
        {"peer": "bup", "version": "", "stage": "-", "error": "not installed: no such package", "runs": 0},
        {"peer": "zpaq", "version": "7", "stage": "B2", "left_out": "left out: too slow", "runs": 0, "note": "level 1"},
    ]
    text = report({"peers": result("peers", rows)}, {})
    assert "| bup | deduplicates |  | not installed: no such package |" in text
    assert "| zpaq | deduplicates | 7 | level 1 |" in text
    assert "left out: too slow" in text.partition("### B2")[2]
    assert "### -" not in text


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    """README and plots depend on the results only; plots of results that are gone go."""
    pytest.importorskip("matplotlib")
    from benchmarks.report.__main__ import make_report

    results = tmp_path / "results"
    results.mkdir()
    sizes = [{"plain_size": n * GIB, "put_s": float(n), "rss_anon_peak": n * MIB} for n in range(1, 5)]
    files: dict[str, list[dict[str, Any]]] = {
        "peers": [peer(name, stage, 2.0) for name in ("casimg", "borg", "cp") for stage in "ABCR"],
        "chunkers": [
            {"chunker": kind, "chunk_size": size, "frames_size": MIB, "cut_gb_s": 1.0}
            for kind in ("fixed", "mincdc")
            for size in (4096, 16384)
        ],
        "growth": sizes,
        "snapshot": [{"text": "no figures at all"}],
        "random_reads": [{"what": "w", "size": 4096, "state": "warm", "median_s": 0.0}],
    }
    for name, rows in files.items():
        (results / f"{name}.json").write_text(json.dumps({"name": name, "rows": rows}))
    for target in ("one", "two"):
        make_report(results, tmp_path / target)
    trees = [
        {path.relative_to(tmp_path / target): path.read_bytes() for path in (tmp_path / target).rglob("*.*")}
        for target in ("one", "two")
    ]
    assert trees[0] == trees[1]
    assert {path.name for path in trees[0]} == {
        "README.md",
        "chunkers.svg",
        "growth.svg",
        "peers-stored.svg",
        "peers-wall.svg",
    }
    (results / "growth.json").unlink()
    make_report(results, tmp_path / "two")
    assert not (tmp_path / "two" / "plots" / "growth.svg").exists()


def test_memory_is_always_drawn() -> None:
    """Of many figures the first are drawn, and memory among them."""
    pytest.importorskip("matplotlib")
    from benchmarks.report.plots import chosen

    keys = [f"step{number}_s" for number in range(9)]
    assert chosen([*keys, "rss_anon_peak"]) == [*keys[:5], "rss_anon_peak"]
    assert chosen(keys) == keys[:6]
