"""Which snapshots are kept."""

from datetime import UTC, datetime, timedelta

import pytest

import casimg
from casimg.errors import InputError
from casimg.ids import ImageId
from casimg.repository import Repository
from casimg.results.images import Image
from casimg.snapshot.prune import KeepRules, decide

START = datetime(2026, 1, 1, 2, tzinfo=UTC)  # a Thursday


def image(day: float, *, protected: bool = False) -> Image:
    """A snapshot made so many days after the start."""
    at = START + timedelta(days=day)
    return Image(
        ImageId(f"{day:08.2f}"),
        f"day {day}",
        "active",
        "raw",
        "bare",
        1,
        0,
        None,
        None,
        None,
        "private",
        protected,
        at,
        at,
    )


def kept(days: list[float], **rules: int) -> list[float]:
    """Days kept, newest first."""
    return [float(item.image.id) for item in decide([image(day) for day in days], KeepRules(**rules)) if item.kept]


def test_the_newest_are_kept() -> None:
    """keep_last counts snapshots, whatever their days."""
    assert kept([0, 0.1, 0.2, 5], last=2) == [5, 0.2]
    assert kept([0, 1], last=9) == [1, 0]


def test_the_newest_of_each_day_is_kept() -> None:
    """keep_daily counts days that have a snapshot; a pause uses none up."""
    assert kept([0, 0.1, 0.5, 1, 1.2, 9], daily=2) == [9, 1.2]
    assert kept([0, 0.1, 0.5, 1, 1.2, 9], daily=3) == [9, 1.2, 0.5]


def test_the_newest_of_each_week_is_kept() -> None:
    """Weeks are ISO weeks: they begin on Monday, and cross the year."""
    days = list(map(float, range(20)))
    assert kept(days, weekly=3) == [19, 17, 10]


def test_rules_add_up_and_say_so() -> None:
    """A snapshot may be kept for several reasons; the rest is kept for none."""
    found = decide([image(day) for day in (0, 1, 2, 3)], KeepRules(last=1, daily=2))
    assert [(item.image.id, item.kept) for item in found] == [
        ("00003.00", True),
        ("00002.00", True),
        ("00001.00", False),
        ("00000.00", False),
    ]
    assert found[0].reasons == ("last", "daily 2026-01-04")


def test_protected_ones_stay() -> None:
    """A protected snapshot is kept for that."""
    (newest, old) = decide([image(0, protected=True), image(1)], KeepRules(last=1))
    assert (newest.reasons, old.reasons) == (("last",), ("protected",))


@pytest.mark.parametrize("rules", [{}, {"last": -1}, {"daily": -1, "last": 3}])
def test_keeping_nothing_is_refused(rules: dict[str, int]) -> None:
    """No rule at all would delete everything: that is not what anybody means."""
    with pytest.raises(InputError):
        decide([image(0)], KeepRules(**rules))


def test_pruning_a_lineage(repo: Repository) -> None:
    """Snapshots of snapshots are looked at too, through deleted ones; the root and other images stay."""
    repo.put([b"x" * 100_000], name="vm")
    repo.put([b"y"], name="other")
    for name, parent in (("a", "vm"), ("b", "a"), ("c", "b"), ("d", "vm")):
        repo.snapshot(parent, name=name)
    repo.delete("b")
    planned = repo.prune_snapshots("vm", keep_last=1, dry_run=True)
    assert [(item.image.name, item.kept) for item in planned] == [("d", True), ("c", False), ("a", False)]
    assert len(repo.images()) == 5
    assert repo.prune_snapshots("vm", keep_last=1) == planned
    assert [found.name for found in repo.images()] == ["vm", "other", "d"]
    with pytest.raises(casimg.errors.InputError):
        repo.prune_snapshots("vm")
