"""What the comparison with peers computes: rows, sums, ratios, and what is left out."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.images import Family, Image
from benchmarks.measure import Measured, run_command, total
from benchmarks.peers.__main__ import rows_of as all_rows
from benchmarks.peers.peers import all_peers
from benchmarks.peers.rows import LINEAGE, NOT_MEASURED, Outcome, Row, as_rows, as_tables, lineage, ratio
from benchmarks.peers.stages import CannotRunError, make_plan


def measured(cpu_s: float, memory: int = 10) -> Measured:
    return Measured(wall_s=2 * cpu_s, cpu_s=cpu_s, rss_peak=memory, rss_anon_peak=memory)


def rows_of(name: str, seconds: float) -> list[Row]:
    outcomes = {
        stage: Outcome([measured(seconds), measured(3 * seconds)], [1, 2], stored_size=100 * number, index_size=number)
        for number, stage in enumerate("ABC", 1)
    }
    return as_rows(name, "1.0", "a note", outcomes)


def image(name: str, role: str = "instance", generation: int = 0, form: str = "raw", size: int = 1000) -> Image:
    return Image(
        path=Path(f"{name}.{form}"),
        name=name,
        role=role,
        generation=generation,
        parent="",
        format=form,
        size=size,
        file_size=size,
        allocated_size=size,
        data_size=size,
        sha256="",
        made="",
        packages="",
    )


def family(*images: Image) -> Family:
    return Family("test", 1, 0, "bookworm", {}, images)


def test_rows_hold_medians_and_facts() -> None:
    """A row has the medians of its runs, how many there were, bytes where known, and the peer's note."""
    row = rows_of("x", 1.0)[0]
    assert (row["stage"], row["cpu_s"], row["wall_s"], row["runs"]) == ("A", 2.0, 4.0, 2)
    assert (row["stored_size"], row["index_size"], row["note"], row["version"]) == (100, 1, "a note", "1.0")
    assert "equal" not in row
    assert "error" not in row


def test_sums_of_the_lineage() -> None:
    """The row of sums adds seconds of A, B and C, those of syncs too, and has the bytes of C, which holds all."""
    total_row = rows_of("x", 1.0)[-1]
    assert (total_row["stage"], total_row["cpu_s"], total_row["wall_s"]) == (LINEAGE, 6.0, 12.0)
    assert (total_row["stored_size"], total_row["runs"], total_row["sync_s"]) == (300, 2, 4.5)


def test_no_sums_without_all_stages() -> None:
    """A peer that failed in a stage, or left it out, has no row of sums that looks complete."""
    rows = rows_of("x", 1.0)[:-1]
    assert lineage(rows) is not None
    assert lineage(rows[:2]) is None
    assert lineage([*rows[:2], {**rows[2], "error": "it broke"}]) is None


def test_failures_are_rows() -> None:
    """An error and a stage left out are visible in rows and tables."""
    rows = as_rows("x", "1", "", {"A": Outcome(error="it\nbroke"), "B2": Outcome(left_out="too slow")})
    assert [(row["stage"], row["runs"]) for row in rows] == [("A", 0), ("B2", 0)]
    assert rows[0]["error"] == "it\nbroke"
    assert rows[1]["left_out"] == "too slow"
    assert [table.row_count for table in as_tables(rows)] == [1, 1]


def test_ratios_to_casimg() -> None:
    """A ratio is a figure over casimg's of the same stage; without casimg's there is none."""
    rows = [*rows_of("casimg", 2.0), *rows_of("x", 1.0)]
    of_x = next(row for row in rows if row["peer"] == "x" and row["stage"] == "B")
    assert ratio(rows, of_x, "cpu_s") == 0.5
    assert ratio(rows, of_x, "stored_size") == 1.0
    assert ratio(rows_of("x", 1.0), of_x, "cpu_s") is None
    assert ratio(rows, {"peer": "x", "stage": "B"}, "cpu_s") is None


def test_total_adds_seconds_and_keeps_the_largest_memory() -> None:
    """Commands of one stage add up in time, not in memory; of none the total is zero."""
    assert total([measured(1, 5), measured(2, 3)]) == Measured(6, 3, 5, 5)
    assert total([]) == Measured(0, 0, 0, 0)


def test_memory_of_a_small_command_is_its_own() -> None:
    """The peak of a command smaller than ourselves does not begin with our size."""
    ballast = bytearray(64 << 20)
    ballast[::4096] = b"x" * (len(ballast) // 4096)
    assert 0 < run_command(["sleep", "0.1"]).rss_peak < len(ballast)


def test_plan_orders_the_stages() -> None:
    """A, B and B3 are the first generations by number, C is the rest, containers are those asked for."""
    found = family(
        image("base", "golden"),
        image("instance-2", generation=2),
        image("instance-1", generation=1),
        image("instance-3", generation=3),
        image("base", "golden", form="qcow2"),
    )
    plan = make_plan(found, containers="none", rounds=1, quick_within_s=1, slow_after_s=1)
    assert [one.name for one in plan.raws] == ["instance-1", "instance-2", "instance-3", "base"]
    assert [one.name for one in plan.others] == ["base"]
    assert plan.containers == ()
    with_containers = make_plan(found, containers="all", rounds=1, quick_within_s=1, slow_after_s=1)
    assert [one.format for one in with_containers.containers] == ["qcow2"]
    assert with_containers.needed_size > plan.needed_size


def test_plan_takes_the_containers_of_two_goldens() -> None:
    """Without a wish, containers of the two goldens with the least data are stored, and of no instance."""
    raws = [image("instance-1", generation=1), image("instance-2", generation=2)]
    goldens = [replace(image(name, "golden"), data_size=size) for name, size in (("c", 3), ("a", 1), ("b", 2))]
    wrapped = [image(name, "golden", form="qcow2") for name in "abc"] + [image("instance-1", generation=1, form="vmdk")]
    plan = make_plan(family(*raws, *goldens, *wrapped), containers="least", rounds=1, quick_within_s=1, slow_after_s=1)
    assert [one.name for one in plan.containers] == ["a", "b"]


def test_plan_needs_two_generations() -> None:
    """A family without a next generation is refused with words."""
    with pytest.raises(CannotRunError, match="two generations"):
        make_plan(
            family(image("instance-1", generation=1)), containers="none", rounds=1, quick_within_s=1, slow_after_s=1
        )


def test_peers_have_names_of_their_own() -> None:
    """No two peers share a name, each says what its figures mean, and casimg comes first."""
    peers = all_peers()
    assert len({peer.name for peer in peers}) == len(peers)
    assert all(peer.note for peer in peers)
    assert peers[0].name == "casimg"


def test_who_is_missing_keeps_the_place() -> None:
    """A peer that could not be installed has one row, at its place among the others, that says why."""
    peers = all_peers()[:3]
    found = {peer.name: {"A": Outcome([measured(1)])} for peer in peers[::2]}
    rows = all_rows(peers, {peers[1].name: "not installed: no such package"}, found)
    assert [(row["peer"], row["stage"]) for row in rows] == [
        (peers[0].name, "A"),
        (peers[1].name, NOT_MEASURED),
        (peers[2].name, "A"),
    ]
    assert rows[1]["error"] == "not installed: no such package"
