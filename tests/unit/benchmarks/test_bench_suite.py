"""The suite that runs the benchmarks, and the micro benchmark's arithmetic."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.micro.__main__ import choose, rows_of, run_rounds
from benchmarks.micro.case import Case
from benchmarks.micro.codec import files_of_this_machine
from benchmarks.suite import BENCHES, Bench, run_all, settings_of


def test_small_runs_write_below_bench_only() -> None:
    """The report and results that are committed are never those of a small run."""
    small = settings_of(True, None, None, None)
    assert all(path.parts[0] == ".bench" for path in (small.images, small.results, small.report))
    full = settings_of(False, None, Path("elsewhere"), None)
    assert (full.results, full.report) == (Path("elsewhere"), Path("benchmarks"))


def test_a_failure_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """After a bench that failed the others run, the report is made, the suite fails; an absent module is no error."""
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> int:
        commands.append(command)
        return 3 if "benchmarks.micro" in command else 0

    settings = settings_of(True, None, None, None)
    benches = [bench for bench in BENCHES if bench.name in ("micro", "chunkers")]
    absent = Bench("absent", lambda _: ["benchmarks.not_there"])
    assert run_all([*reversed(benches), absent], settings, run) == 1
    assert [command[2] for command in commands] == ["benchmarks.micro", "benchmarks.chunkers", "benchmarks.report"]
    said = capsys.readouterr().out
    assert "FAILED (3)" in said
    assert "not there" in said
    assert run_all([absent], settings, lambda _: 0) == 0


def test_every_bench_is_told_where_to_write_and_how_small() -> None:
    """All take `--small` and, but for the images themselves, `--results`."""
    settings = settings_of(True, None, None, None)
    for bench in BENCHES:
        arguments = bench.arguments(settings)
        assert "--small" in arguments
        assert bench.name == "images" or "--results" in arguments


def test_ratios_are_to_the_limit() -> None:
    """A case at half the speed of its limit has 0.5, whatever their amounts; a limit has no ratio."""
    cases = [Case("limit", "", lambda: None, 100), Case("a", "limit", lambda: None, 50)]
    rows = rows_of([*cases, Case("b", "limit", lambda: None, 4, "lookups")], {"limit": 1.0, "a": 1.0, "b": 0.02})
    assert [row["limit_ratio"] for row in rows] == [None, 0.5, 2.0]
    assert [row["each_us"] for row in rows] == [None, None, 5000.0]


def test_rounds_are_interleaved_and_the_first_is_not_counted() -> None:
    """Each round runs every case once, after what it needs, and one more round warms up."""
    order: list[str] = []
    cases = [
        Case("a", "", lambda: order.append("a"), 1, before=lambda: order.append("(")),
        Case("b", "a", lambda: order.append("b"), 1),
    ]
    assert set(run_rounds(cases, 2)) == {"a", "b"}
    assert "".join(order) == "(ab" * 3


def test_a_chosen_case_brings_its_limit() -> None:
    """Words choose cases by a part of their names; no word chooses all."""
    cases = [Case("limit: x", "", bool, 1), Case("cut", "limit: x", bool, 1), Case("other", "limit: y", bool, 1)]
    assert [case.name for case in choose(cases, ["cut"])] == ["limit: x", "cut"]
    assert choose(cases, ["nothing"]) == []
    assert choose(cases, []) == cases


def test_data_of_this_machine_have_the_size_asked_for() -> None:
    """Files are cut off or repeated to the size."""
    assert len(files_of_this_machine(100_000)) == 100_000
